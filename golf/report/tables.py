"""Plain text tables for the console: the ladder, the bytes against the limit, the jobs of a multirun.

Invariant: no line is wider than 100 columns, whatever the values are; only the standard library.
"""

from typing import Any

from golf.report.format import MISSING, coverage, decimal, duration, finite, percent, plain, signed, whole
from golf.report.ladder import classes_of, deltas, exports_of, limit_of, rungs, total_of

WIDTH = 100
BAR_WIDTH = 32


def aligned(header: list[str], rows: list[list[str]], flexible: int, left: set[int]) -> str:
    """Lay out columns two spaces apart; column `flexible` is cut with '…' where the table would exceed WIDTH."""
    lines = [[" ".join(str(cell).split()) for cell in line] for line in [header, *rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for column in sorted(range(len(header)), key=lambda c: (c != flexible, -widths[c])):
        excess = sum(widths) + 2 * (len(widths) - 1) - WIDTH
        if excess > 0:
            widths[column] = max(min(widths[column], max(8, len(header[column]))), widths[column] - excess)
    cut = [[cell if len(cell) <= w else cell[: w - 1] + "…" for cell, w in zip(line, widths)] for line in lines]
    text = [
        "  ".join(cell.ljust(w) if c in left else cell.rjust(w) for c, (cell, w) in enumerate(zip(line, widths)))
        for line in cut
    ]
    text.insert(1, "  ".join("─" * width for width in widths))
    return "\n".join(line.rstrip() for line in text)


def _titled(title: str, export: str, several: bool) -> str:
    return (f"{title} · export {export}" if several else title)[:WIDTH]


def ladder_table(summary: dict[str, Any]) -> str:
    """Return the ladder of every export: from the raw weights to the score of the packed artifact."""
    blocks = []
    exports = exports_of(summary)
    for name, export in exports:
        rows = rungs(export)
        title = _titled("Ladder", name, len(exports) > 1)
        if not rows:
            blocks.append(f"{title}: nothing scored yet")
            continue
        body = [
            [
                plain(row.get("stage")),
                decimal(row.get("nats_per_token")),
                decimal(row.get("bpb")),
                signed(delta),
                whole(row.get("tokens")),
                coverage(row.get("coverage")),
                duration(row.get("seconds")),
                plain(row.get("protocol")),
            ]
            for row, delta in zip(rows, deltas(rows))
        ]
        header = ["stage", "nats/token", "BPB", "Δ BPB", "tokens", "coverage", "time", "protocol"]
        blocks.append(f"{title}\n{aligned(header, body, flexible=7, left={0, 5, 7})}")
    return "\n\n".join(blocks)


def _bar(size: int, limit: int) -> str:
    cells = BAR_WIDTH * 8 * min(1.0, size / limit)
    full, eighths = divmod(round(cells), 8)
    bar = "█" * full + (" ▏▎▍▌▋▊▉"[eighths] if eighths else "")
    return bar or ("▏" if size else "")


def bytes_table(summary: dict[str, Any]) -> str:
    """Return the bytes by class of every export, against the limit; the classes and 'not attributed' give the total."""
    blocks = []
    exports = exports_of(summary)
    for name, export in exports:
        total, limit, classes = total_of(export), limit_of(export), classes_of(export)
        title = _titled(f"Bytes of {limit:,}", name, len(exports) > 1)
        if total is None:
            blocks.append(f"{title}: nothing packed yet")
            continue
        body = [[kind, whole(size), percent(size, limit, 2), _bar(size, limit)] for kind, size in classes.items()]
        rest = total - sum(classes.values())
        if rest and classes:
            body.append(["not attributed", f"{rest:,}", percent(rest, limit, 2), _bar(max(rest, 0), limit)])
        body.append(["total", whole(total), percent(total, limit, 2), _bar(total, limit)])
        free = limit - total
        body.append(["free" if free >= 0 else "OVER THE LIMIT BY", whole(abs(free)), percent(abs(free), limit, 2), ""])
        blocks.append(f"{title}\n{aligned(['class', 'bytes', 'share', ''], body, flexible=0, left={0, 3})}")
    return "\n\n".join(blocks)


def sweep_table(rows: list[dict[str, Any]]) -> str:
    """Return the jobs of a multirun; a row has job, overrides, bpb, bytes, seconds, status (any may be missing)."""
    if not rows:
        return "No jobs."
    scored = [bpb for row in rows if (bpb := finite(row.get("bpb"))) is not None]
    best = min(scored) if len(scored) > 1 else None
    body = []
    for row in rows:
        overrides = row.get("overrides", "")
        text = " ".join(map(str, overrides)) if isinstance(overrides, (list, tuple)) else plain(overrides)
        bpb = finite(row.get("bpb"))
        mark = "◂ best" if best is not None and bpb == best else ""
        body.append(
            [
                plain(row.get("job")),
                text or MISSING,
                decimal(bpb),
                whole(row.get("bytes")),
                duration(row.get("seconds")),
                f"{plain(row.get('status'))} {mark}".strip(),
            ]
        )
    header = ["job", "overrides", "BPB", "bytes", "time", "status"]
    return aligned(header, body, flexible=1, left={1, 5})
