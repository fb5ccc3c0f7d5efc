"""`golf conform <folder or file>… [--json] [--data DIR]`: run conformance vectors against golf.

A vector is recognised by its content, never by a record's name: model folders (spec.json), single component files
(JSON, with a .safetensors of the same name beside it), training runs, artifacts (interop.json and .ptz), and folders
with an expected.json beside a published artifact. Exit code 0 only if everything passes; what golf cannot do is listed
as unsupported, with the reason, and counts as not passed.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from golf.errors import UserError, VerificationFailed

# Files that describe vectors without being one.
DESCRIPTIONS = ("sensitivity", "grads")

Job = tuple[str, Callable[[], list[Any]]]


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of `golf conform`; returns the exit code."""
    parser = argparse.ArgumentParser(prog="golf conform", description="Run conformance vectors and compare.")
    parser.add_argument("paths", nargs="+", metavar="folder-or-file", help="vectors; folders are searched")
    parser.add_argument("--json", action="store_true", help="print results as JSON")
    parser.add_argument("--data", default=os.environ.get("GOLF_DATA"), help="datasets and tokenizers (or GOLF_DATA)")
    options = parser.parse_args(argv)
    results = run_conformance([Path(path) for path in options.paths], Path(options.data) if options.data else None)
    print(json.dumps({"results": [r.as_dict() for r in results]}, indent=1) if options.json else render_table(results))
    return 0 if all(r.status == "pass" for r in results) else VerificationFailed.exit_code


def run_conformance(paths: Sequence[Path], data: Path | None = None) -> list[Any]:
    """All checks of all vectors found under `paths`; raises UserError where there is none."""
    if data is not None and not data.is_dir():
        raise UserError(f"--data {data}: no such folder; name the folder with datasets/ and tokenizers/")
    jobs: dict[str, Job] = {}
    for path in paths:
        found = list(find_jobs(path, data))
        if not found:
            raise UserError(f"{path} holds no conformance vector: name a model folder (spec.json) or a component .json")
        jobs |= {key: (name, run) for key, name, run in found}  # a path named twice runs once
    return [check for name, run in jobs.values() for check in guarded(name, run)]


def guarded(name: str, run: Callable[[], list[Any]]) -> list[Any]:
    """A vector that cannot be run is a failure of that vector, not of the command."""
    from golf.interop.conform_result import failed

    try:
        return run()
    except Exception as error:  # whatever a damaged file makes its reader raise
        reason = str(error).splitlines()[0][:200] if str(error) else ""
        return [failed(name, "-", "run", f"{type(error).__name__}: {reason}")]


def find_jobs(path: Path, data: Path | None) -> Iterator[tuple[str, str, Callable[[], list[Any]]]]:
    """(identity, vector, function) of everything under a path."""
    from golf.interop import conform_models, conform_scores

    if not path.exists():
        raise UserError(f"{path}: no such file or folder; name a conformance folder or one of its files")
    path = path.resolve()
    if path.is_file():
        yield from file_jobs(path, data)
    elif (path / "spec.json").exists():
        yield str(path), path.name, lambda: conform_models.check_model_folder(path)
    elif (path / "expected.json").exists():
        yield str(path), path.name, lambda: conform_scores.check_published_artifact(path, data)
    else:
        for entry in sorted(path.iterdir()):
            if entry.is_dir() or entry.suffix == ".json":
                yield from find_jobs(entry, data)


def file_jobs(path: Path, data: Path | None) -> Iterator[tuple[str, str, Callable[[], list[Any]]]]:
    """The vector that a single file is, or belongs to."""
    from golf.interop import conform_artifacts

    if path.name in ("spec.json", "vectors.safetensors", "grads.json", "expected.json"):
        yield from find_jobs(path.parent, data)
    elif path.suffix == ".safetensors" and path.with_suffix(".json").exists():
        yield from file_jobs(path.with_suffix(".json"), data)
    elif path.suffix == ".ptz" and (path.parent / "expected.json").exists():
        yield from find_jobs(path.parent, data)
    elif path.suffix == ".ptz" and (path.parent / "interop.json").exists():
        listing = path.parent / "interop.json"
        yield str(path), path.name, lambda: conform_artifacts.check_interop(listing, data, only=path.name)
    elif path.suffix == ".json" and path.stem not in DESCRIPTIONS:
        check = component_check(path)
        yield str(path), path.stem, lambda: check(path, data)


def component_check(path: Path) -> Callable[[Path, Path | None], list[Any]]:
    """Which comparison a JSON file asks for, from the keys it has."""
    from golf.interop import (
        conform_arch,
        conform_artifacts,
        conform_caseops,
        conform_data,
        conform_gptq,
        conform_models,
        conform_optim,
        conform_quant,
        conform_runs,
        conform_scores,
        conform_tilt,
        conform_ttt,
    )

    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path.name} is not JSON ({error}): name a conformance file") from None
    keys = set(content) if isinstance(content, dict) else set()
    keys_of_runs = {"fp32", "bf16"}
    if isinstance(content, dict) and conform_ttt.is_ttt(content):
        return conform_ttt.check_ttt
    if isinstance(content, dict) and conform_tilt.is_tilt(content):
        return conform_tilt.check_tilt
    if isinstance(content, dict) and conform_caseops.is_caseops(content):
        return conform_caseops.check_caseops
    if isinstance(content, dict) and (found := conform_gptq.component_check(content)):
        return found
    if "tokenizers" in keys:
        return conform_data.check_byte_accounting
    if keys & {"sliding", "sequential_loader", "val_truncation", "lr"}:
        return conform_data.check_eval_data
    if {"pack", "entries"} <= keys:
        return conform_quant.check_ternary
    if "quantisers" in keys:
        return conform_quant.check_quant
    if "artifacts" in keys:
        return conform_artifacts.check_interop
    if "records" in keys:
        return lambda file, _: conform_models.check_weights_file(file)
    if keys and any(isinstance(v, dict) and "tensors" in v and keys_of_runs & set(v) for v in content.values()):
        return conform_runs.check_trajectory
    if tensor_names(path) >= {"tok_emb.before", "tok_emb.after"}:
        return conform_arch.check_overtone
    if keys and isinstance(content.get("cases"), dict) and {"rope", "attn"} & set(content["cases"]):
        return conform_arch.check_arch
    if keys and isinstance(content.get("cases"), list):
        return conform_optim.check_optim
    if keys and isinstance(content.get("cases"), dict):
        return conform_scores.check_bpb_eval
    return lambda _, __: foreign_component(path, "unknown kind of component file")


def tensor_names(path: Path) -> set[str]:
    """Names of the tensors beside a JSON file, from the header alone; none where there are no tensors."""
    tensors = path.with_suffix(".safetensors")
    if not tensors.is_file():
        return set()
    with tensors.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            return set(json.loads(file.read(length))) if length < 1 << 24 else set()
        except ValueError:
            return set()


def foreign_component(path: Path, meaning: str) -> list[Any]:
    from golf.interop.conform_result import unsupported

    return [unsupported(path.stem, "all", "all", meaning)]


def render_table(results: Sequence[Any]) -> str:
    """Vector, case, quantity, error, tolerance, status; then the totals."""
    rows: list[tuple[str, ...]] = [("vector", "case", "quantity", "error", "tolerance", "status", "")]
    for r in results:
        numbers = ["-" if value is None else f"{value:.3g}" for value in (r.error, r.tolerance)]
        rows.append((r.vector[:34], r.case[:56], r.quantity, *numbers, r.status, " ".join(r.detail.split())[:90]))
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths)), row[6]]).rstrip() for row in rows]
    count = {status: sum(r.status == status for r in results) for status in ("pass", "fail", "unsupported")}
    lines.append(f"{len(results)} comparisons: " + ", ".join(f"{n} {status}" for status, n in count.items()))
    return "\n".join(lines)
