"""Pictures as SVG documents that stand alone and also fit into a page: text as text, no script, no font of their own.

Colours are the page's custom properties with the light value behind them, so inside the page a picture follows its
scheme, and alone it is dark on white. Invariant: the same numbers give the same bytes; every text is escaped here.
"""

from dataclasses import dataclass

from golf.report.charts import tick_texts, ticks
from golf.report.format import escape

WIDTH = 960
INK, SOFT, LINE = "currentColor", "var(--soft,#5c665f)", "var(--line,#e0e4df)"
BLUE, ORANGE, GREEN = "var(--blue,#0072b2)", "var(--orange,#d55e00)", "var(--green,#00875f)"
ACCENT, CARD = "var(--accent,#12694a)", "var(--card,#ffffff)"
PALETTE = (
    *(BLUE, ORANGE, GREEN, "var(--pink,#b0568a)", "var(--sky,#3d9cd2)", "var(--amber,#c98a00)"),
    *(SOFT, "var(--faint,#8d968f)"),
)
LETTER = 0.55  # mean width of a letter in font sizes
ALONE = 'style="color:#1b211d;background:#ffffff" font-family="Inter,Helvetica,Arial,sans-serif"'


def document(height: float, label: str, shapes: list[str], standalone: bool) -> str:
    """A picture of WIDTH × height; standalone ones bring their background, the others take the page's."""
    size = f'width="{WIDTH}" height="{height:.0f}" ' if standalone else ""
    ground = f'<rect width="{WIDTH}" height="{height:.0f}" style="fill:#ffffff"/>' if standalone else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'aria-label="{escape(label)}" {ALONE if standalone else ""}>{ground}{"".join(shapes)}</svg>\n'
    )


def text(
    x: float, y: float, words: str, colour: str = INK, size: int = 13, anchor: str = "start", weight: int = 400
) -> str:
    """One line of text; y is its base line."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
        f'style="fill:{colour}">{escape(words)}</text>'
    )


def path(points: list[tuple[float, float]], colour: str, width: float = 2, style: str = "") -> str:
    """A line through points."""
    line = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    joined = "stroke-linejoin:round;stroke-linecap:round"
    return f'<path d="M{line}" style="fill:none;stroke:{colour};stroke-width:{width:g};{joined};{style}"/>'


def dot(x: float, y: float, radius: float, colour: str, told: str = "", style: str = "") -> str:
    """A disc that says `told` when pointed at."""
    title = f"<title>{escape(told)}</title>" if told else ""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" style="fill:{colour};{style}">{title}</circle>'


def shortened(words: str, letters: int) -> str:
    """The end of a long name, which tells names apart better than their beginning."""
    return words if len(words) <= letters else f"…{words[1 - letters :]}"


def ending(words: str, letters: int) -> str:
    """The beginning of a long title."""
    return words if len(words) <= letters else f"{words[: letters - 1]}…"


@dataclass(frozen=True)
class Axes:
    """A plot's rectangle in the picture and the ranges that it shows."""

    left: float
    top: float
    right: float
    bottom: float
    xs: tuple[float, float]
    ys: tuple[float, float]

    def x(self, value: float) -> float:
        return self.left + (self.right - self.left) * (value - self.xs[0]) / (self.xs[1] - self.xs[0])

    def y(self, value: float) -> float:
        inside = min(max(value, self.ys[0]), self.ys[1])
        return self.bottom - (self.bottom - self.top) * (inside - self.ys[0]) / (self.ys[1] - self.ys[0])

    def frame(self, x_title: str, y_title: str) -> list[str]:
        """Grid, ticks and titles."""
        marks, steps = ticks(*self.ys), ticks(*self.xs, 6)
        shapes = [text(self.left, self.top - 12, y_title, SOFT, 13)]
        for mark, words in zip(marks, tick_texts(marks)):
            shapes.append(path([(self.left, self.y(mark)), (self.right, self.y(mark))], LINE, 1))
            shapes.append(text(self.left - 10, self.y(mark) + 4, words, SOFT, 12, "end"))
        shapes.append(path([(self.left, self.bottom), (self.right, self.bottom)], SOFT, 1))
        for step, words in zip(steps, tick_texts(steps)):
            shapes.append(text(self.x(step), self.bottom + 20, words, SOFT, 12, "middle"))
        return [*shapes, text(self.right, self.bottom + 42, x_title, SOFT, 13, "end")]


def widened(values: list[float], share: float = 0.08) -> tuple[float, float]:
    """The range of values with room on both sides; never empty."""
    low, high = min(values), max(values)
    margin = share * (high - low) or 0.02 * abs(high) or 1.0
    return low - margin, high + margin
