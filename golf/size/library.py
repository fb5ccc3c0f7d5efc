"""The library of past runs: bytes per code that were measured, and tokens per second that were reached.

A rate is used for a section of the same part, class and formats, packed by the same codec, from the runs most alike in
parameters and training tokens (at most eightfold apart in both together). Invariant: only files under the given folder
are read; a run that cannot be read is passed over.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from golf.codec.catalogue import codec_named
from golf.codec.container import read_header
from golf.codec.parts import PartGroup, part_groups
from golf.errors import GolfError

NEWEST_RUNS = 64
FURTHEST = math.log(8.0)
HEAD_BYTES = 1 << 22
RATES_AVERAGED = 3


@dataclass(frozen=True)
class MeasuredSection:
    """A section of an artifact in the library."""

    key: str
    codec: str
    raw_bytes: int
    bytes: int


@dataclass(frozen=True)
class PastRun:
    """What a finished run says about sizes and speed."""

    name: str
    hardware: str | None
    parameters: int
    tokens: int
    tokens_per_second: float | None
    flops_per_token: float | None
    sections: list[MeasuredSection] = field(default_factory=list)


def section_key(group: PartGroup) -> str:
    """Sections with one key are comparable: part, class and the formats in it."""
    specs = sorted({json.dumps(spec, sort_keys=True) for spec in group.specs})
    return json.dumps([group.label, group.part, group.dtype, specs])


def read_library(folder: Path) -> list[PastRun]:
    """The newest finished runs below a folder such as runs/ (runs/<name>/<time> and the jobs of multiruns)."""
    found = [*folder.glob("*/*/summary.json"), *folder.glob("*/multirun*/*/summary.json")]
    newest = sorted(found, key=lambda path: (path.parent.name, str(path)), reverse=True)[:NEWEST_RUNS]
    return [run for path in newest if (run := read_run(path.parent, folder)) is not None]


def read_run(path: Path, root: Path) -> PastRun | None:
    """One run of the library, None if it says nothing."""
    try:
        summary = json.loads((path / "summary.json").read_text(encoding="utf-8"))
        tokens, flops = int(summary["train_tokens"] or 0), summary.get("flops")
        return PastRun(
            str(path.relative_to(root)),
            summary.get("hardware"),
            int(summary["parameters"] or 0),
            tokens,
            summary.get("tokens_per_second"),
            flops / tokens if flops and tokens else None,
            [section for artifact in sorted(path.glob("artifact/*/model.golf")) for section in sections_of(artifact)],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def sections_of(artifact: Path) -> Iterator[MeasuredSection]:
    """The sections of a packed file, from its directory."""
    try:
        with open(artifact, "rb") as file:
            blob = file.read(HEAD_BYTES)
        header, codec, _ = read_header(blob, codec_named, str(artifact))
        groups = part_groups(header)
        for group, (stored, raw, _) in zip(groups, header["sections"], strict=True):
            yield MeasuredSection(section_key(group), codec.name, raw, stored)
    except (GolfError, OSError, ValueError, LookupError, TypeError):
        return


def distance(run: PastRun, parameters: int, tokens: int) -> float:
    """How unlike a run is: factors between parameters and training tokens, as logarithms; infinite if unknown."""
    if not (run.parameters and run.tokens and parameters and tokens):
        return math.inf
    return abs(math.log(run.parameters / parameters)) + abs(math.log(run.tokens / tokens))


def measured_rates(
    library: list[PastRun], codec: str, parameters: int, tokens: int
) -> Callable[[PartGroup], tuple[float, str] | None]:
    """group -> (stored bytes per raw byte, the runs it is from), None where no run is alike."""
    near = sorted((distance(run, parameters, tokens), index) for index, run in enumerate(library))
    alike = [library[index] for far, index in near if far <= FURTHEST]

    def rate_of(group: PartGroup) -> tuple[float, str] | None:
        key, found = section_key(group), []
        for run in alike:
            fitting = [s for s in run.sections if s.key == key and s.codec == codec and s.raw_bytes]
            if fitting:
                found.append((sum(s.bytes for s in fitting) / sum(s.raw_bytes for s in fitting), run.name))
            if len(found) == RATES_AVERAGED:
                break
        if not found:
            return None
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        return sum(rate for rate, _ in found) / len(found), f"run {found[0][1]}{more}"

    return rate_of
