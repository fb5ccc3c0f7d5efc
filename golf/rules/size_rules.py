"""L20, L21, L18 and L33: the files that ship, counted and looked at as they are."""

from __future__ import annotations

import ast
import re
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from golf.rules.packed_code import unpacked_source
from golf.rules.rule import MAINTAINERS, OPEN, README, Rule
from golf.rules.verdict import RECORD, Verdict, cannot_tell, failed, not_applicable, passed

if TYPE_CHECKING:
    from golf.rules.profile import Profile
    from golf.rules.subject import Subject

MEBIBYTES = 16 * 1024 * 1024
CODE_SUFFIXES = (".py", ".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".so", ".pyx", ".sh")
REACHING_OUT = ("urllib", "requests", "http", "socket", "ftplib", "huggingface_hub", "datasets", "wandb", "kernels")
EXTERNAL_PROGRAMS = ("subprocess", "ctypes", "cffi")
USUAL_PACKAGES = frozenset(
    [
        "torch",
        "numpy",
        "sentencepiece",
        "zstandard",
        "brotli",
        "triton",
        "flash_attn",
        "flash_attn_interface",
        "flash_attn_3",
        "lrzip",
    ]
)


class L20(Rule):
    id = "L20"
    title = "code and compressed model within 16,000,000 bytes, every seed"
    status = (README, MAINTAINERS)
    sources = ("#1809", "#1835", "#1902")

    def check(self, subject: Subject, profile: Profile) -> Verdict:
        limit = profile.limit_bytes
        model = sum(path.stat().st_size for path in subject.shipped)
        code = sum(path.stat().st_size for path in subject.code)
        measured = model + code if subject.shipped and subject.code else None
        claims = {f"submission.json {name}": value for name, value in sizes_claimed(subject.claims).items()}
        logged = {facts.where: facts.total_bytes for facts in subject.facts if facts.total_bytes}
        evidence = {"measured": measured, "model": model, "code": code, "claimed": claims, "logged": logged}
        for where, total in {"the files": measured, **claims, **logged}.items():
            if total is not None and total > limit:
                read = " (mebibytes are not meant)" if total <= MEBIBYTES else ""
                return failed(
                    f"{where}: {total:,} bytes, {limit:,} allowed{read}",
                    "shrink the model: export.py run=…",
                    RECORD,
                    **evidence,
                )
        stated = code_sizes_stated(subject)
        if stated and subject.code and code not in stated.values():
            where, number = next(iter(stated.items()))
            reason = f"{where} counts {number:,} bytes of code, {subject.code[0].name} has {code:,}"
            return failed(reason, "count the files that ship, once they are packed", RECORD, **evidence)
        if measured is not None:
            return passed(f"{measured:,} of {limit:,} bytes, measured on the files", RECORD, **evidence)
        if logged or claims:
            most = max([*logged.values(), *claims.values()])
            return passed(f"{most:,} of {limit:,} bytes as logged; the model itself is not here", RECORD, **evidence)
        missing = "packed model" if not subject.shipped else "code"
        return cannot_tell(f"the {missing} is not here", "audit a run folder (export.submission=true)", **evidence)


def sizes_claimed(claims: dict[str, Any]) -> dict[str, int]:
    """Total bytes that submission.json states, over all and per seed."""
    names = ("bytes_total", "artifact_bytes_max", "artifact_bytes", "artifact_size_bytes")
    found = {name: claims[name] for name in names if isinstance(claims.get(name), int)}
    for seed, result in seed_results(claims).items():
        value = result.get("bytes_total", result.get("artifact_bytes"))
        if isinstance(value, int):
            found[f"seed {seed}"] = value
    return found


def seed_results(claims: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Results per seed, from the shapes that are in use."""
    for name in ("seed_results", "seeds", "seed_scores"):
        found = claims.get(name)
        if isinstance(found, dict):
            return {
                str(seed): value if isinstance(value, dict) else {"val_bpb": value} for seed, value in found.items()
            }
        if isinstance(found, list) and found and isinstance(found[0], dict):
            return {str(item.get("seed", index)): item for index, item in enumerate(found)}
    return {}


def code_sizes_stated(subject: Subject) -> dict[str, int]:
    """Bytes of code as logs and submission.json have them; a log may state them raw and packed."""
    found = {}
    for facts in subject.facts:
        for name in ("code_bytes", "code_bytes_raw"):
            if (value := getattr(facts, name)) is not None:
                found[f"{facts.where} ({name})"] = value
    for name in ("bytes_code", "code_bytes"):
        if isinstance(subject.claims.get(name), int):
            found["submission.json"] = subject.claims[name]
    return found


class L21(Rule):
    id = "L21"
    title = "all counted code is in train_gpt.py"
    status = (README,)
    sources = ("#1412",)

    def check(self, subject: Subject, profile: Profile) -> Verdict:
        if not subject.code:
            return cannot_tell("no code is here", "audit a run folder or a submission folder with train_gpt.py")
        script = subject.code[0]
        helpers = [path for path in sorted(script.parent.rglob("*")) if path.suffix in CODE_SUFFIXES and path != script]
        text = script.read_text(encoding="utf-8", errors="replace")
        helpers = [path for path in helpers if path.suffix != ".sh" or path.name in text]  # a launch script is no code
        imported = local_imports(script)
        if imported or (helpers and subject.kind == "submission"):
            names = sorted({*imported, *(str(path.relative_to(script.parent)) for path in helpers)})
            extra = sum(path.stat().st_size for path in helpers)
            reason = f"{', '.join(names[:4])} beside {script.name}: {extra:,} bytes of code outside of it"
            return failed(reason, f"put everything into {script.name}, or remove what is not used", RECORD, files=names)
        return passed(f"{script.name} is the only code, {script.stat().st_size:,} bytes", RECORD)


def local_imports(script: Path) -> list[str]:
    """Modules beside a script that it imports."""
    return sorted(
        name
        for name in imports_of(script) or ()
        if (script.parent / f"{name}.py").is_file() or (script.parent / name / "__init__.py").is_file()
    )


def imports_of(script: Path) -> set[str] | None:
    """Top-level names that a script imports, packed source included; None if it is not readable Python."""
    found = imports_in(script.read_bytes())
    return None if found is None else set(found)


@lru_cache(maxsize=4)  # several rules ask about one script
def imports_in(text: bytes) -> frozenset[str] | None:
    """The same of a source, which is parsed in the encoding that it names."""
    try:
        trees = [ast.parse(source) for source in (text, unpacked_source(text)) if source is not None]
    except (SyntaxError, ValueError):
        return None
    found: set[str] = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").partition(".")[0])
    return frozenset(found)


class L18(Rule):
    id = "L18"
    title = "external libraries declared, and none that brings compute, weights or code"
    status = (README, OPEN)
    sources = ("#210", "#1855", "#1856")

    def check(self, subject: Subject, profile: Profile) -> Verdict:
        if not subject.code:
            return cannot_tell("no code is here", "audit a run folder or a submission folder with train_gpt.py")
        names = imports_of(subject.code[0])
        if names is None:
            return failed(f"{subject.code[0].name} is not valid Python", "ship a script that runs", RECORD)
        inside = unpacked_source(subject.code[0].read_bytes())
        if inside is None and packs_itself(subject.code[0], names):
            return cannot_tell(
                f"{subject.code[0].name} unpacks itself: its imports are not readable without running",
                "audit the readable script",
            )
        foreign = sorted(name for name in names if name not in sys.stdlib_module_names and name)
        declared = declared_packages(subject.code[0].parent)
        reaching = sorted(names & set(REACHING_OUT))
        if reaching:
            return failed(f"imports {', '.join(reaching)}, which reach out of the machine", "remove them", RECORD)
        local = local_imports(subject.code[0])
        unknown = [name for name in foreign if name not in USUAL_PACKAGES | declared and name not in local]
        if unknown:
            return failed(
                f"imports {', '.join(unknown)} without declaring them", "list them in requirements.txt", RECORD
            )
        programs = sorted(names & set(EXTERNAL_PROGRAMS))
        packed = "" if inside is None else f" (read from its packed source, {len(inside.encode()):,} bytes)"
        note = packed
        note += f"; {', '.join(programs)} can start programs: look at what" if programs else ""
        return passed(
            f"imports {', '.join(foreign) or 'nothing'} beside the standard library{note}",
            RECORD,
            packages=foreign,
            programs=programs,
        )


def packs_itself(script: Path, names: set[str]) -> bool:
    return (
        b"exec(" in script.read_bytes() and bool(names & {"lzma", "zlib", "base64", "brotli", "bz2"}) and len(names) < 6
    )


def declared_packages(folder: Path) -> set[str]:
    """Top-level names in requirements.txt, as imports spell them."""
    path = folder / "requirements.txt"
    if not path.is_file():
        return set()
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    named = (re.match(r"[A-Za-z0-9_.-]+", line.strip()) for line in lines)
    return {match.group(0).lower().replace("-", "_") for match in named if match}


class L33(Rule):
    id = "L33"
    title = "one folder with README, submission.json, training logs and a train_gpt.py that runs"
    status = (README, MAINTAINERS)
    sources = ("#2013", "#505", "#545")

    def check(self, subject: Subject, profile: Profile) -> Verdict:
        if subject.kind != "submission" or subject.folder is None:
            return not_applicable("not a submission folder")
        missing = [
            name for name in ("README.md", "submission.json", "train_gpt.py") if not (subject.folder / name).is_file()
        ]
        missing += [] if subject.facts else ["a training log"]
        missing += [
            f"submission.json: {name}"
            for name in ("name", "author", "val_bpb")
            if subject.claims
            and not any(
                key in subject.claims
                for key in (name, {"author": "github_id"}.get(name, name), {"val_bpb": "mean_val_bpb"}.get(name, name))
            )
        ]
        if missing:
            return failed(f"missing: {', '.join(missing)}", "add what is missing", RECORD, missing=missing)
        if imports_of(subject.folder / "train_gpt.py") is None:
            return failed("train_gpt.py is not valid Python", "ship a script that runs", RECORD)
        return passed("README, submission.json, logs and a script that parses", RECORD)
