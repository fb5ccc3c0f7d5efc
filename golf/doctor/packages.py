"""Versions: what golf needs, what an option needs, and pairs that are known not to work together.

A pair is in KNOWN_BAD only with its evidence. Besides the table, every requirement of every package that golf pulls in
is compared with what is installed (torch's own pin of triton and of the CUDA libraries among them).
"""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass

from golf.doctor.finding import Line

OPTIONAL = {
    "brotli": "codec=brotli",
    "zpaq": "codec=zpaq",
    "python-minifier": "python export.py code=packed",
    "tensorboard": "logger=tensorboard",
    "joblib": "parallel sweeps (hydra/launcher=joblib)",
    "ray": "hydra/launcher=ray",
    "submitit": "hydra/launcher=submitit_slurm",
    "optuna": "hydra/sweeper=optuna",
}
PYTHONS = ((3, 11), (3, 13))
Versions = Callable[[str], str | None]


@dataclass(frozen=True)
class KnownBad:
    """`package` in `versions`, together with `other` in `other_versions` where one is named."""

    package: str
    versions: str
    why: str
    todo: str
    evidence: str
    other: str = ""
    other_versions: str = ""


KNOWN_BAD = (
    KnownBad(
        "lightning",
        "==2.6.2",
        "a malicious upload: change every credential of this machine",
        "pip install 'lightning>=2.6.6,<2.7'",
        "GHSA-w37p-236h-pfx3, Lightning-AI/pytorch-lightning #21689",
    ),
    KnownBad(
        "lightning",
        "==2.6.3",
        "a malicious upload: change every credential of this machine",
        "pip install 'lightning>=2.6.6,<2.7'",
        "GHSA-w37p-236h-pfx3, Lightning-AI/pytorch-lightning #21691",
    ),
    KnownBad(
        "hydra-core",
        "<1.4",
        "completion and --help break",
        "make distclean install PYTHON=python3.13",
        "facebookresearch/hydra #3121",
        "python",
        ">=3.14",
    ),
    KnownBad(
        "hydra-core",
        "<1.4",
        "resolvers and tuples have changed",
        "pip install 'omegaconf>=2.3,<2.4'",
        "omry/omegaconf #1322",
        "omegaconf",
        ">=2.4.0.dev0",
    ),
    KnownBad(
        "hydra-optuna-sweeper",
        "<1.4",
        "the sweeper is written for Optuna 2",
        "pip install 'optuna==2.10.1' 'sqlalchemy<2' 'alembic<1.14'",
        "the sweeper's own requirement, facebookresearch/hydra #2237",
        "optuna",
        ">=3",
    ),
    KnownBad(
        "optuna",
        "<3",
        "a study in SQLite ends in an AssertionError",
        "pip install 'sqlalchemy<2'",
        "reproduced with optuna 2.10.1",
        "sqlalchemy",
        ">=2",
    ),
    KnownBad(
        "optuna",
        "<3",
        "a study in SQLite wants an older alembic",
        "pip install 'alembic<1.14'",
        "found together with the pair above",
        "alembic",
        ">=1.14",
    ),
)


def versions() -> list[Line]:
    """Python and every package that golf needs, against the ranges in its own metadata."""
    import golf
    from golf.config.resolvers import git

    first, last = PYTHONS
    inside = first <= sys.version_info[:2] <= last
    lines = [Line("ok", "golf", f"{golf.__version__}, commit {git()}, {platform.platform()}")]
    if inside:
        lines.append(Line("ok", "python", platform.python_version()))
    else:
        todo = f"use Python {first[0]}.{first[1]} to {last[0]}.{last[1]}: make install PYTHON=<its path>"
        lines.append(Line("fail", "python", platform.python_version(), todo, "golf's packages do not support it"))
    lines += [package(name, wanted) for name, wanted in required().items()]
    for name, purpose in OPTIONAL.items():
        version = version_of(name)
        if version is None:
            why = f"{purpose} needs it"
            lines.append(Line("warn", name, "not installed", f"pip install -c constraints.txt {name}", why))
        else:
            lines.append(Line("ok", name, version))
    return lines


def required() -> dict[str, str]:
    """Package → version range, from golf's metadata; the least that is known where golf is not installed."""
    from packaging.requirements import Requirement

    try:
        texts = importlib.metadata.requires("golf") or []
    except importlib.metadata.PackageNotFoundError:
        return {"torch": ">=2.11", "lightning": ">=2.6.6,<2.7", "hydra-core": ">=1.3.8,<1.4", "numpy": ""}
    found = [Requirement(text) for text in texts]
    return {item.name: str(item.specifier) for item in found if item.marker is None}


def package(name: str, wanted: str) -> Line:
    """One required package: there, and in its range."""
    from packaging.specifiers import SpecifierSet

    version, install = version_of(name), f"pip install '{name}{wanted}'"
    if version is None:
        return Line("fail", name, "not installed", f"make install, or {install}", "every run needs it")
    if not SpecifierSet(wanted).contains(version, prereleases=True):
        return Line("warn", name, version, install, f"golf is tested with {wanted}")
    return Line("ok", name, version)


def known_bad(version: Versions | None = None) -> list[Line]:
    """Combinations of the table, and requirements among the installed packages that are not met."""
    ask = version or version_of
    lines = []
    for pair in KNOWN_BAD:
        one, other = ask(pair.package), ask(pair.other) if pair.other else None
        if one is None or not within(one, pair.versions) or (pair.other and other is None):
            continue
        if pair.other and not within(str(other), pair.other_versions):
            continue
        both = f"{pair.package} {one}" + (f" with {pair.other} {other}" if pair.other else "")
        lines.append(Line("fail", "versions", both, pair.todo, f"{pair.why}; {pair.evidence}"))
    lines += [
        Line("warn", "versions", f"{owner} wants {wanted}, {found} is installed", f"pip install '{wanted}'", UNTESTED)
        for owner, wanted, found in unmet()
    ]
    return lines or [Line("ok", "versions", f"none of {len(KNOWN_BAD)} known bad combinations, no unmet requirement")]


UNTESTED = "nobody has tested these together"


def within(version: str, wanted: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(wanted).contains(version, prereleases=True)


def unmet(root: str = "golf") -> list[tuple[str, str, str]]:
    """(package, its requirement, installed version) wherever golf's own dependencies contradict what is installed."""
    from packaging.requirements import Requirement

    seen, queue, found = {root}, [root], []
    while queue:
        owner = queue.pop()
        try:
            texts = importlib.metadata.requires(owner) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for item in map(Requirement, texts):
            if item.marker is not None and not item.marker.evaluate({"extra": ""}):
                continue
            version = version_of(item.name)
            if version is not None and not item.specifier.contains(version, prereleases=True) and owner != root:
                found.append((owner, f"{item.name}{item.specifier}", version))
            if item.name not in seen:
                seen.add(item.name)
                queue.append(item.name)
    return found


def version_of(name: str) -> str | None:
    if name == "python":
        return platform.python_version()
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
