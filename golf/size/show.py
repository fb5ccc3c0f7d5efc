"""A plan and a fit ladder as text for the console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from golf.report.format import decimal, percent, plain, whole
from golf.report.tables import aligned


def plan_text(plan: Mapping[str, Any]) -> str:
    """The table of `golf plan`, the total against the limit, and the training clock."""
    body = [
        [
            line["tensor_class"],
            line["role"],
            line["treatment"],
            whole(line["elements"]),
            "" if line["bits_per_code"] is None else f"{line['bits_per_code']:.2f}",
            whole(line["raw_bytes"]),
            whole(line["bytes"]),
        ]
        for line in plan["tensors"]
    ]
    metadata = plan["bytes_by_class"]["metadata"]
    body.append(["metadata", "", "header", "", "", "", whole(metadata)])
    body.append(
        ["code", "", f"train_gpt.py, {plan['code']}", "", "", whole(plan["code_bytes"]), whole(plan["code_bytes"])]
    )
    header = ["class", "role", "stored as", "elements", "entropy", "raw bytes", f"with {plan['codec']}"]
    total, limit = plan["total_bytes"], plan["limit_bytes"]
    room = limit - total
    verdict = f"{room:,} free" if room >= 0 else f"OVER THE LIMIT BY {-room:,}"
    lines = [
        f"{plan['name']}: {plan['parameters']:,} parameters, {plan['exported_parameters']:,} of them exported",
        "",
        aligned(header, body, flexible=2, left={0, 1, 2}),
        "",
        f"forecast    {total:,} bytes of {limit:,} ({percent(total, limit, 1)}): {verdict}",
        f"            bytes from {', '.join(plan['sources'])}; entropy in bits per code",
    ]
    if plan["published_bytes"]:
        lines.append(f"            published: {plan['published_bytes']:,} bytes")
    return "\n".join([*lines, *training_text(plan["training"])])


def training_text(training: Mapping[str, Any]) -> list[str]:
    """Steps, tokens, seconds and cost, as far as they are known, as the projection that they are."""
    known = []
    if training["steps"] is not None:
        known.append(f"{training['steps']:,} steps, {training['tokens']:,} tokens")
    if training["seconds"] is not None:
        pace = f" ({training['step_ms']:.1f} ms per step)" if training["step_ms"] is not None else ""
        known.append(f"{training['seconds']:,.0f} s{pace}")
    text = ", ".join(known) or "steps unknown"
    lines = [f"projection  {text} on hardware={training['hardware']}", f"            step time {training['source']}"]
    if training["cost"] is not None:
        cost = (
            f"{training['gpu_hours']:.2f} GPU-hours, ${training['cost']:.2f} at ${training['price_per_gpu_hour']:g} "
            f"per GPU-hour ({training['price_source']})"
        )
        if training["evaluation_seconds"]:
            most = f"{training['evaluation_seconds']:,.0f} s of evaluation ${training['cost_with_evaluation']:.2f}"
            cost += f"; with at most {most}"
        lines.append(f"            {cost}")
    if training["ends"]:
        lines.append(f"            {training['ends']}")
    return lines


def ladder_text(rows: Sequence[Mapping[str, Any]], target: int, scored_on: str | None = None) -> str:
    """The rungs of a fit: what was changed, what it came to, and what it costs (BPB `scored_on` training data)."""
    body = [
        [
            plain(row["rung"]),
            plain(row["change"]),
            whole(row["total_bytes"]),
            f"{target - row['total_bytes']:+,}",
            f"{row['relative_mse']:.3e}",
            decimal(row.get("bpb")),
            "" if row.get("delta_bpb") is None else f"{row['delta_bpb']:+.4f}",
        ]
        for row in rows
    ]
    header = ["rung", "change", "bytes", "room", "rel. MSE", "BPB", "Δ BPB"]
    table = aligned(header, body, flexible=1, left={0, 1})
    return f"{table}\nBPB on the {scored_on}" if scored_on else table


def sensitivity_text(found: Mapping[str, Any]) -> str:
    """What quantisation does to each tensor, most harmful first (columns: golf/quant/sensitivity.py)."""

    def harm(row: Mapping[str, Any]) -> float:
        return -(row["relative_mse"] if row.get("delta_bpb") is None else row["delta_bpb"])

    body = [
        [
            row["name"],
            whole(row["elements"]),
            "" if row["entropy_bits"] is None else f"{row['entropy_bits']:.2f}",
            whole(row["bytes"]),
            f"{row['relative_mse']:.2e}",
            "" if row["relative_hessian_error"] is None else f"{row['relative_hessian_error']:.2e}",
            "" if row["clipped"] is None else f"{row['clipped']:.2e}",
            "" if row.get("delta_bpb") is None else f"{row['delta_bpb']:+.5f}",
        ]
        for row in sorted(found["tensors"], key=harm)
    ]
    header = ["tensor", "elements", "bits", "bytes", "rel. MSE", "rel. H error", "clipped", "Δ BPB"]
    lines = [aligned(header, body, flexible=0, left={0})]
    if found.get("scored_on"):
        lines.append(
            f"Δ BPB: only this tensor quantised; all together {found['delta_bpb']:+.5f} from {found['bpb']:.5f}"
        )
        lines.append(f"on the {found['scored_on']}")
    return "\n".join(lines)
