"""The sensitivity table as a picture: one bar per tensor, the most harmful first, as an SVG that needs nothing else.

A bar is the Δ BPB of quantising that tensor alone where it was measured, else the relative error of its output (of its
weights, without a Hessian). Invariant: the same lines give the same bytes; every text is escaped.
"""

from typing import Any

from golf.report.format import escape, finite, signed, significant

WIDTH, ROW, TOP, VALUE, MOST_ROWS = 960, 22, 64, 110, 48
LETTER, MOST_LETTERS = 6.6, 40  # of names, 12 pixels high
INK, SOFT, BAR, LINE = "currentColor", "var(--soft,#5c665f)", "var(--blue,#0072b2)", "var(--line,#e0e4df)"
STANDALONE = 'style="color:#1b211d;background:#ffffff" font-family="sans-serif"'


def quantity_of(lines: list[dict[str, Any]]) -> tuple[str, str]:
    """Which column is drawn, and what it is called."""
    for key, words in (
        ("delta_bpb", "Δ BPB with only this tensor quantised (training data)"),
        ("relative_hessian_error", "squared error of the output, relative to the output"),
    ):
        if any(finite(line.get(key)) is not None for line in lines):
            return key, words
    return "relative_mse", "squared error of the weights, relative to the weights"


def ordered_by_harm(lines: list[dict[str, Any]]) -> list[tuple[dict[str, Any], float]]:
    """Lines with a value of the drawn column, the largest first."""
    key, _ = quantity_of(lines)
    found = [(line, value) for line in lines if (value := finite(line.get(key))) is not None]
    return sorted(found, key=lambda item: -item[1])


def sensitivity_picture(lines: list[dict[str, Any]], title: str, standalone: bool = True) -> str:
    """An SVG document, or the same for the inside of a page (whose colours it takes)."""
    key, words = quantity_of(lines)
    rows = ordered_by_harm(lines)
    hidden, rows = len(rows) - MOST_ROWS, rows[:MOST_ROWS]
    low, high = min([0.0, *(value for _, value in rows)]), max([0.0, *(value for _, value in rows)])
    label = LETTER * max([10, *(len(_shortened(line.get("name"))) for line, _ in rows)]) + 16
    scale = (WIDTH - label - VALUE) / ((high - low) or 1.0)
    zero = label - low * scale
    height = TOP + ROW * len(rows) + (ROW if hidden > 0 else 0) + 12
    shapes = [
        _text(0, 20, title, INK, 16, weight=600),
        _text(0, 42, words, SOFT, 13),
        f'<path d="M{zero:.1f} {TOP - 6}V{TOP + ROW * len(rows)}" style="stroke:{LINE};fill:none"/>',
    ]
    for place, (line, value) in enumerate(rows):
        middle = TOP + ROW * place + ROW / 2
        begin, width = min(zero, zero + value * scale), max(abs(value) * scale, 0.5)
        number = signed(value, 5) if key == "delta_bpb" else significant(value, 3)
        shapes.append(_text(label - 10, middle + 4, _shortened(line.get("name")), INK, 12, anchor="end"))
        shapes.append(
            f'<rect x="{begin:.1f}" y="{middle - 7:.1f}" width="{width:.1f}" height="14" rx="2" style="fill:{BAR}">'
            f"<title>{escape(line.get('name'))}: {escape(number)}</title></rect>"
        )
        shapes.append(_text(max(begin + width, zero) + 8, middle + 4, number, SOFT, 12))
    if hidden > 0:
        shapes.append(_text(label, height - 14, f"and {hidden:,} more tensors with less", SOFT, 12))
    summary = f"{title}: {words}, {len(rows)} tensors"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(summary)}" {STANDALONE if standalone else ""}>{"".join(shapes)}</svg>\n'
    )


def _text(x: float, y: float, words: str, colour: str, size: int, anchor: str = "start", weight: int = 400) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
        f'style="fill:{colour}">{escape(words)}</text>'
    )


def _shortened(name: Any) -> str:
    text = str(name).removesuffix(".weight")
    return text if len(text) <= MOST_LETTERS else f"…{text[1 - MOST_LETTERS :]}"
