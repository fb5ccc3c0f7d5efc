"""The page's building blocks: sortable tables, foldable texts, sections, the byte bar and the treemap.

Invariant: every argument that is called `…_html` or `markup` is already safe; every other text is escaped here.
"""

import re
from dataclasses import dataclass
from typing import Any

from golf.report.format import escape, percent, whole
from golf.report.treemap import squarify

CLASS_COLOURS = {
    **dict.fromkeys(("mlp", "mlp_in", "mlp_out"), 1),
    **dict.fromkeys(("attention", *(f"attention_{part}" for part in ("q", "k", "v", "o", "kv", "qkv"))), 2),
    "embedding": 3,
    "head": 4,
    "scales": 5,
    "scalars": 6,
    "code": 7,
    "metadata": 8,
    "header": 8,
    "metadata/header": 8,
}
TREEMAP_SHAPES = {"wide": (100.0, 34.0), "tall": (100.0, 110.0)}


@dataclass(frozen=True)
class Cell:
    """A table cell: what is shown, and the value it is sorted by (None sorts last)."""

    text: str
    sort: float | str | None = None
    markup: str | None = None


def table(key: str, label: str, columns: list[str], numeric: set[int], rows: list[list[Cell]]) -> str:
    """Return a table whose headers sort on click; `numeric` columns are right-aligned and sorted as numbers."""
    heads = "".join(
        f'<th scope="col" aria-sort="none"{" class=n" if index in numeric else ""}>'
        f'<button type="button">{escape(name)}</button></th>'
        for index, name in enumerate(columns)
    )
    body = "".join(
        "<tr>" + "".join(_cell(cell, index == 0, index in numeric) for index, cell in enumerate(row)) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" role="region" aria-label="{escape(label)}" tabindex="0">'
        f'<table id="{escape(key)}" class="sortable"><caption class="aside">{escape(label)}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(cell: Cell, head: bool, number: bool) -> str:
    tag = 'th scope="row"' if head else "td"
    value = "" if cell.sort is None else f' data-v="{escape(cell.sort)}"'
    shown = cell.markup if cell.markup is not None else escape(cell.text)
    return f"<{tag}{value}{' class=n' if number else ''}>{shown}</{tag.split()[0]}>"


def section(key: str, title: str, markup: str, about: str = "") -> str:
    """Return a section of the page with its anchor."""
    lead = f'<p class="about">{escape(about)}</p>' if about else ""
    return f'<section id="{escape(key)}"><h2>{escape(title)}</h2>{lead}{markup}</section>'


def missing(what: str) -> str:
    """Say that a part of the run does not exist (yet)."""
    return f'<p class="empty">{escape(what)}: not there yet.</p>'


def folded(title: str, markup: str, open_now: bool = False) -> str:
    """Return a part that opens on click."""
    return f"<details{' open' if open_now else ''}><summary>{escape(title)}</summary>{markup}</details>"


def yaml_text(text: str) -> str:
    """Return YAML with its keys and comments marked."""
    lines = []
    for line in text.splitlines():
        found = re.match(r"^(\s*(?:- )?)([^\s:#][^:#]*)(:)(\s.*|)$", line)
        if line.lstrip().startswith("#"):
            lines.append(f"<i>{escape(line)}</i>")
        elif found:
            indent, name, colon, rest = found.groups()
            lines.append(f"{escape(indent)}<b>{escape(name)}</b>{colon}{escape(rest)}")
        else:
            lines.append(escape(line))
    return '<pre class="code" tabindex="0">' + "\n".join(lines) + "</pre>"


def colour_of(name: str, index: int) -> int:
    """Return the palette number of a byte class: the same class has the same colour in every report."""
    return CLASS_COLOURS.get(name.lower(), 1 + index % 8)


def byte_bar(classes: dict[str, int], total: int, limit: int) -> str:
    """Draw the total against the limit, cut into classes; if the total is over the limit, the limit is a mark in it."""
    scale = max(total, limit)
    parts = list(classes.items()) if sum(classes.values()) == total else [("total", total)]
    pieces = "".join(
        f'<span class="c{colour_of(name, index)}" style="width:{100 * size / scale:.4f}%" '
        f'title="{escape(name)}: {size:,} bytes"></span>'
        for index, (name, size) in enumerate(parts)
    )
    mark = f'<i style="left:{100 * limit / scale:.3f}%"></i>' if total > limit else ""
    over = " over" if total > limit else ""
    label = f"{total:,} of {limit:,} bytes, {percent(total, limit)}"
    return f'<div class="byte-bar{over}" role="img" aria-label="{label}">{pieces}{mark}</div>'


def treemap(classes: dict[str, int], total: int) -> str:
    """Draw bytes by class as areas, for wide and for narrow screens (one of the two is shown)."""
    shown = [(name, size) for name, size in classes.items() if size > 0]
    words = ", ".join(f"{name} {size:,}" for name, size in shown)
    maps = []
    for shape, (width, height) in TREEMAP_SHAPES.items():
        tiles = "".join(
            f'<div class="tile c{colour_of(name, index)}" style="left:{tile.x:.3f}%;'
            f"top:{100 * tile.y / height:.3f}%;width:{tile.width:.3f}%;height:{100 * tile.height / height:.3f}%"
            f'" title="{escape(name)}: {size:,} bytes, {percent(size, total, 2)}">'
            f"<div><b>{escape(name)}</b><span>{whole(size)}</span><small>{percent(size, total)}</small></div></div>"
            for index, ((name, size), tile) in enumerate(
                zip(shown, squarify([size for _, size in shown], width, height))
            )
        )
        maps.append(
            f'<div class="treemap {shape}" role="img" aria-label="Bytes by class: {escape(words)}" '
            f'style="aspect-ratio:{width:g}/{height:g}">{tiles}</div>'
        )
    return "".join(maps)


def flattened(value: Any, prefix: str = "", depth: int = 0) -> list[tuple[str, Any]]:
    """Return nested dicts as (dotted name, value) pairs; lists of plain values stay one value."""
    if isinstance(value, dict) and value and depth < 6:
        return [
            pair
            for key, item in value.items()
            for pair in flattened(item, f"{prefix}.{key}" if prefix else str(key), depth + 1)
        ]
    return [(prefix, value)]
