"""The plots of a run that people put into a README, as standalone SVG documents: ladder, loss curve, bytes by class.

Same numbers as on the page, from the same functions. A picture whose data does not exist is None.
"""

from golf.report.collect import RunData
from golf.report.elements import colour_of
from golf.report.format import decimal, escape, finite, percent, plain, signed, whole
from golf.report.ladder import classes_of, deltas, exports_of, limit_of, rungs, total_of
from golf.report.svg import (
    ACCENT,
    BLUE,
    LETTER,
    LINE,
    ORANGE,
    PALETTE,
    SOFT,
    WIDTH,
    Axes,
    document,
    dot,
    ending,
    path,
    text,
    widened,
)
from golf.report.treemap import squarify

TITLE = 17


def run_pictures(run: RunData) -> dict[str, str | None]:
    """Name → SVG document, or None where the run has not got that far."""
    name = str(run.summary.get("name") or run.folder.name)
    return {
        "ladder": ladder_picture(run, name),
        "loss": loss_picture(run, name),
        "treemap": treemap_picture(run, name),
    }


def ladder_picture(run: RunData, name: str) -> str | None:
    """BPB of the first export's rungs as dots; the axis need not start at zero."""
    _, export = exports_of(run.summary)[0]
    rows = [
        (plain(row.get("stage")), bpb, delta)
        for row, delta in zip(rungs(export), deltas(rungs(export)))
        if (bpb := finite(row.get("bpb"))) is not None
    ]
    if not rows:
        return None
    left = 30 + max(80, max(len(stage) for stage, _, _ in rows) * 15 * LETTER)
    axes = Axes(left, 64, WIDTH - 190, 64 + 40 * len(rows), widened([bpb for _, bpb, _ in rows], 0.12), (0, len(rows)))
    shapes = [text(20, 30, ending(f"Ladder of {name}", 90), size=TITLE, weight=600)]
    frame = axes.frame("bits per byte, smaller is better", "")
    shapes += [shape for shape in frame if 'text-anchor="end"' not in shape or "smaller" in shape][1:]
    centres = [(axes.x(bpb), axes.top + 40 * place + 20) for place, (_, bpb, _) in enumerate(rows)]
    shapes.append(path(centres, ACCENT, 2, "opacity:.45"))
    for (x, y), (stage, bpb, delta) in zip(centres, rows):
        shapes.append(text(20, y + 5, stage, size=15))
        shapes.append(dot(x, y, 6, ACCENT, f"{stage}: {decimal(bpb)}"))
        shapes.append(text(WIDTH - 100, y + 5, decimal(bpb), size=15, anchor="end", weight=600))
        shapes.append(text(WIDTH - 20, y + 5, "" if delta is None else signed(delta), SOFT, 13, "end"))
    told = ", ".join(f"{stage} {decimal(bpb)}" for stage, bpb, _ in rows)
    return document(axes.bottom + 60, f"Ladder in bits per byte: {told}", shapes, True)


def loss_picture(run: RunData, name: str) -> str | None:
    """Training and validation loss over steps."""
    series = [("training", "train/loss", BLUE), ("validation", "val/loss", ORANGE)]
    curves = [(words, run.curves[key], colour) for words, key, colour in series if key in run.curves]
    if not curves:
        return None
    steps = [step for _, curve, _ in curves for step in (curve.steps[0], curve.steps[-1])]
    values = [value for _, curve, _ in curves for value in (*curve.low, *curve.high)]
    span = (min(steps), max(steps)) if max(steps) > min(steps) else (min(steps), min(steps) + 1)
    axes = Axes(70, 86, WIDTH - 30, 420, span, widened(values, 0.04))
    shapes = [text(20, 30, ending(f"Loss of {name}", 90), size=TITLE, weight=600)]
    shapes += axes.frame("training step", "nats per token")
    place = WIDTH - 30.0
    for words, curve, colour in reversed(curves):
        points = [(axes.x(step), axes.y(value)) for step, value in zip(curve.steps, curve.mean)]
        shapes.append(path(points, colour, 2))
        if words == "validation" and len(points) <= 60:
            shapes += [dot(x, y, 4, colour) for x, y in points]
        shapes.append(text(place, 74, words, SOFT, 13, "end"))
        place -= len(words) * 13 * 0.5 + 6
        shapes.append(path([(place - 14, 70), (place, 70)], colour, 3))
        place -= 34
    return document(480, f"Training and validation loss of {name} over steps", shapes, True)


def treemap_picture(run: RunData, name: str) -> str | None:
    """Bytes of the first export by class, as areas."""
    _, export = exports_of(run.summary)[0]
    classes = {kind: size for kind, size in classes_of(export).items() if size > 0}
    total, limit = total_of(export), limit_of(export)
    if not classes or total is None:
        return None
    rest = total - sum(classes.values())
    classes = {**classes, "not attributed": rest} if rest > 0 else classes
    shapes = [
        text(20, 30, ending(f"Bytes of {name}", 90), size=TITLE, weight=600),
        text(20, 54, f"{total:,} of {limit:,} bytes, {percent(total, limit)}", SOFT, 13),
    ]
    for place, ((kind, size), tile) in enumerate(
        zip(classes.items(), squarify(list(classes.values()), WIDTH - 40, 360))
    ):
        shapes += _tile(kind, size, percent(size, total), PALETTE[colour_of(kind, place) - 1], tile)
    told = ", ".join(f"{kind} {size:,}" for kind, size in classes.items())
    return document(448, f"Bytes by class: {told}", shapes, True)


def _tile(kind: str, size: int, share: str, colour: str, tile: tuple[float, float, float, float]) -> list[str]:
    """A rectangle with as much text as has room in it."""
    x, y, width, height = tile[0] + 20, tile[1] + 70, tile[2], tile[3]
    shapes = [
        f'<rect x="{x + 1.5:.1f}" y="{y + 1.5:.1f}" width="{max(width - 3, 0.5):.1f}" '
        f'height="{max(height - 3, 0.5):.1f}" rx="5" style="fill:{colour};fill-opacity:.34;stroke:{LINE}">'
        f"<title>{escape(kind)}: {size:,} bytes, {share}</title></rect>"
    ]
    letters = 15 if len(kind) * 15 * LETTER < width - 18 else 11
    for line, (words, points, weight) in enumerate(((kind, letters, 600), (whole(size), 13, 400), (share, 12, 400))):
        base = y + 23 + 19 * line
        if base < y + height - 4 and len(words) * points * LETTER < width - 18:
            shapes.append(text(x + 11, base, words, size=points, weight=weight))
        else:
            break
    return shapes
