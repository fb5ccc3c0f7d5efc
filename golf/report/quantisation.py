"""The section about quantisation and size: forecasts during training, the fit ladder, the sensitivity of each tensor.

Same contract as `golf.report.sections`: RunData in, markup out, and nothing raises on incomplete data.
"""

from typing import Any

from golf.report import charts
from golf.report.charts import Series
from golf.report.collect import Curve, RunData
from golf.report.elements import Cell, folded, missing, section, table
from golf.report.format import decimal, escape, finite, plain, scientific, signed, whole
from golf.report.ladder import exports_of
from golf.report.sensitivity import ordered_by_harm, sensitivity_picture

MAX_ROWS = 500


def quantisation(run: RunData, data: dict[str, Any]) -> str:
    """Everything about how the weights became bytes."""
    parts = [_forecasts(run, data)]
    for index, (name, found) in enumerate(run.quantisation.items()):
        body = _fit(found.get("fit"), index) + _sensitivity(found.get("sensitivity"), name, index)
        if body:
            parts.append(f'<h3 class="export">Export <b>{escape(name)}</b></h3>{body}')
    markup = "".join(parts) or missing("Sensitivities and the fit ladder")
    return section("quantisation", "Quantisation", markup, "What each tensor loses, and what was done to fit.")


def _forecasts(run: RunData, data: dict[str, Any]) -> str:
    """Forecast bytes of the artifact over training, with what was packed in the end."""
    curve = run.curves.get("size/artifact_bytes")
    if curve is None:
        return ""
    packed = finite(next((export.get("artifact_bytes") for _, export in exports_of(run.summary)), None))
    series = [Series("forecast", curve, "speed", dots=True)]
    if packed is not None:
        end, size = [max(curve.steps[-1], float(run.last.get("step", 0)))], [packed]
        at_the_end = Curve(end, [None], [None], size, size, size, logged=1)
        series.append(Series("packed", at_the_end, "time", dots=True))
    note = "Weights of the step, quantised without calibration and compressed in part."
    chart = charts.line_chart(
        "size_forecast", "Size forecast during training", "bytes of the artifact", series, note=note
    )
    if chart.data:
        data["size_forecast"] = chart.data
    return chart.markup


def _fit(found: Any, index: int) -> str:
    """The rungs that were taken, with bytes and Δ BPB."""
    if not isinstance(found, dict) or not isinstance(found.get("rungs"), list):
        return ""
    target, body = finite(found.get("target_bytes")), []
    for place, row in enumerate(found["rungs"][:MAX_ROWS]):
        if not isinstance(row, dict):
            continue
        total = finite(row.get("total_bytes"))
        room = None if total is None or target is None else target - total
        body.append(
            [
                Cell(plain(row.get("rung")), place),
                Cell(plain(row.get("change") or ""), plain(row.get("change") or "")),
                Cell(whole(total), total),
                Cell(signed(room, 0), room),
                Cell(scientific(row.get("relative_mse")), finite(row.get("relative_mse"))),
                Cell(decimal(row.get("bpb"), 5), finite(row.get("bpb"))),
                Cell(signed(row.get("delta_bpb"), 5), finite(row.get("delta_bpb"))),
            ]
        )
    columns = ["Rung", "Change", "Bytes", "Room", "Rel. MSE", "BPB", "Δ BPB"]
    verdict = "It fits." if found.get("fits") else "It does not fit: the export was refused (exit code 3)."
    scored = f" BPB on the {found['scored_on']}." if isinstance(found.get("scored_on"), str) else ""
    wanted = f" {whole(target)} bytes were allowed, code included." if target is not None else ""
    note = f'<p class="note">{escape(verdict + wanted + scored)}</p>'
    return table(f"fit-{index}", "Fit ladder", columns, {2, 3, 4, 5, 6}, body) + note


def _sensitivity(found: Any, name: str, index: int) -> str:
    """Picture and table of what quantisation does to each tensor."""
    lines = found.get("tensors") if isinstance(found, dict) else None
    lines = [line for line in lines if isinstance(line, dict)] if isinstance(lines, list) else []
    if not lines:
        return ""
    body = []
    for place, (line, _) in enumerate(ordered_by_harm(lines)[:MAX_ROWS]):
        numbers = [finite(line.get(key)) for key in ("elements", "bytes", "entropy_bits")]
        errors = [finite(line.get(key)) for key in ("mse", "relative_mse", "relative_hessian_error", "clipped")]
        delta = finite(line.get("delta_bpb"))
        body.append(
            [
                Cell(plain(line.get("name")), place),
                Cell(whole(numbers[0]), numbers[0]),
                Cell(decimal(numbers[2], 2), numbers[2]),
                Cell(whole(numbers[1]), numbers[1]),
                *(Cell(scientific(value), value) for value in errors),
                Cell(signed(delta, 5), delta),
            ]
        )
    columns = ["Tensor", "Elements", "Bits", "Bytes", "MSE", "Rel. MSE", "Rel. H error", "Clipped", "Δ BPB"]
    note = "Bits: order-0 entropy per code; bytes: what that makes. H error: columns weighted by calibration inputs."
    if isinstance(found.get("scored_on"), str):
        together = signed(found.get("delta_bpb"), 5)
        note += f" Δ BPB with only this tensor quantised, on the {found['scored_on']}; all together {together}."
    else:
        note += " For Δ BPB by tensor: python export.py run=<folder> sensitivity.tokens=65536."
    picture = sensitivity_picture(lines, f"Sensitivity of {name}", standalone=False)
    exact = folded("Exact numbers", table(f"sensitivity-{index}", "Sensitivity", columns, set(range(1, 9)), body))
    return f'<figure class="chart picture">{picture}</figure><p class="note">{escape(note)}</p>{exact}'
