"""The ladder of a run: its scores from raw weights to the packed artifact, one ladder per export.

The console tables and the page both read summaries through these functions, so they cannot disagree.
A summary is the parsed summary.json; anything in it may be missing.
"""

from typing import Any

from golf.report.format import finite

LIMIT_BYTES = 16_000_000
"""Used when a summary does not state its own limit: 16,000,000 bytes, decimal, code included."""

TRAINING_STAGES = ("raw", "averaged")
EXPORT_KEYS = ("ladder", "artifact_bytes", "code_bytes", "total_bytes", "bytes_by_class", "limit_bytes")


def rungs(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rungs of a summary's ladder in the order in which they were climbed."""
    ladder = summary.get("ladder")
    return [row for row in ladder if isinstance(row, dict)] if isinstance(ladder, list) else []


def exports_of(summary: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return (export name, summary of that export); a run without named exports has the one called 'default'."""
    named = summary.get("exports")
    found: list[tuple[str, dict[str, Any]]] = []
    training = [row for row in rungs(summary) if row.get("stage") in TRAINING_STAGES]
    for name, own in named.items() if isinstance(named, dict) else ():
        if not isinstance(own, dict):
            continue
        merged = {key: value for key, value in summary.items() if key not in (*EXPORT_KEYS, "exports")}
        merged.update(limit_bytes=summary.get("limit_bytes"), **{k: v for k, v in own.items() if k != "limit_bytes"})
        if own.get("limit_bytes") is not None:
            merged["limit_bytes"] = own["limit_bytes"]
        present = {row.get("stage") for row in rungs(own)}
        merged["ladder"] = [row for row in training if row.get("stage") not in present] + rungs(own)
        found.append((str(name), merged))
    unnamed = "default" not in dict(found) and any(row not in training for row in rungs(summary))
    if not found or (unnamed and not any(rungs(other) == rungs(summary) for _, other in found)):
        found.insert(0, ("default", summary))
    return found


def deltas(rows: list[dict[str, Any]]) -> list[float | None]:
    """Return each rung's BPB minus the BPB of the rung before it that has one."""
    result: list[float | None] = []
    before: float | None = None
    for row in rows:
        bpb = finite(row.get("bpb"))
        result.append(None if bpb is None or before is None else bpb - before)
        before = bpb if bpb is not None else before
    return result


def headline_rung(summary: dict[str, Any]) -> dict[str, Any] | None:
    """Return the rung to lead with: sliding if it was scored, else the last rung that has a BPB."""
    scored = [row for row in rungs(summary) if finite(row.get("bpb")) is not None]
    sliding = [row for row in scored if row.get("stage") == "sliding"]
    return (sliding or scored or [None])[-1]


def limit_of(summary: dict[str, Any]) -> int:
    """Return the byte limit that the run was made for."""
    limit = finite(summary.get("limit_bytes"))
    return int(limit) if limit and 1 <= limit < 1e15 else LIMIT_BYTES


def classes_of(summary: dict[str, Any]) -> dict[str, int]:
    """Return bytes by tensor class, largest first."""
    found = summary.get("bytes_by_class")
    if not isinstance(found, dict):
        return {}
    sizes = {str(name): finite(size) for name, size in found.items()}
    valid = {name: int(size) for name, size in sizes.items() if size is not None and size >= 0}
    return dict(sorted(valid.items(), key=lambda item: (-item[1], item[0])))


def total_of(summary: dict[str, Any]) -> int | None:
    """Return the bytes as shipped: the stated total, else artifact + code, else the sum over classes."""
    total = finite(summary.get("total_bytes"))
    artifact = finite(summary.get("artifact_bytes"))
    if total is None and artifact is not None:
        total = artifact + (finite(summary.get("code_bytes")) or 0)
    if total is None:
        total = sum(classes_of(summary).values()) or None
    return None if total is None else int(total)
