"""Several runs as entries (golf.runs.entries): their means with intervals, verdicts, and the commands that repeat them.

Markup only; golf.runs.report reads the runs. Invariant: an interval is Student's t over seeds of one configuration and
one code, and there is none for a single seed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from golf.report.collect import REPORT_NAME
from golf.report.elements import Cell, folded, missing, section, table
from golf.report.format import decimal, escape, finite, plain, signed, whole
from golf.report.study_pictures import Point, front, intervals_picture, pareto_picture, told_mean
from golf.stats.gain import LEVEL, student_quantile

BEST = 5
MOST = 400  # entries of a table, best first
MOST_COMMANDS = 60
SAME_TEXT = 2e-4  # relative, of the scored bytes: as in golf.runs.compare
FLAGS = {"better": "yes", "worse": "no"}


def point_of(entry: Any) -> Point:
    """An entry as one point: its mean over seeds, and the mean's interval."""
    values = tuple(entry.bpb)
    mean, sizes = statistics.fmean(values), [score.total_bytes for score in entry.scores if score.total_bytes]
    low = high = None
    if len(values) > 1:
        error = statistics.stdev(values) / math.sqrt(len(values))
        half = student_quantile((1 - LEVEL) / 2, len(values) - 1) * error
        low, high = mean - half, mean + half
    return Point(entry.label, mean, max(sizes, default=None), values, low, high)


def seeds(entry: Any, base: Path) -> str:
    """The run page's section: every seed of the run's configuration and code."""
    about = "Runs beside this one with the same configuration and the same code, but for the seed."
    if entry is None:
        words = "Only this run was looked at: golf runs report &lt;run folder&gt; adds the seeds beside it."
        return section("seeds", "Seeds", f'<p class="empty">{words}</p>', about)
    point = point_of(entry)
    markup = _framed(intervals_picture([point], f"BPB by seed, rung {entry.stage}", False))
    return section("seeds", "Seeds", markup + _scores(entry, base, "seed-list") + _spread(entry, point), about)


def _scores(entry: Any, base: Path, key: str) -> str:
    mean, body = statistics.fmean(entry.bpb), []
    for score in entry.scores:
        numbers = [score.bpb, score.bpb - mean, score.nats_per_token, score.total_bytes, score.step_ms]
        texts = [decimal(numbers[0], 5), signed(numbers[1], 5), decimal(numbers[2], 5), whole(numbers[3])]
        cells = [Cell(words, finite(number)) for words, number in zip([*texts, decimal(numbers[4], 1)], numbers)]
        seed = Cell(str(score.seed), finite(_number(score.seed)))
        own = score.folder is not None and Path(score.folder).resolve() == base.resolve()
        body.append([seed, *cells, Cell("", None, "this run" if own else link(score.folder, base))])
    columns = ["Seed", "BPB", "From the mean", "Nats/token", "Bytes", "ms/step", "Report"]
    return table(key, f"Seeds of {entry.label}", columns, {0, 1, 2, 3, 4, 5}, body)


def _number(seed: str) -> int | None:
    return int(seed) if seed.isdigit() else None


def _spread(entry: Any, point: Point) -> str:
    count = len(entry.scores)
    if count < 2:
        words = "One seed: no interval. Two or more tell how much chance is in the score (seed=1,2,3 with -m)."
    else:
        words = f"{told_mean(point)} BPB over {count} seeds (95 %), sample sd {statistics.stdev(entry.bpb):.5f}."
    return f'<p class="note">{escape(" ".join([words, *entry.notes]))}</p>'


def link(folder: Any, base: Path, words: str | None = None) -> str:
    """A relative link to a run's page, so that the folder can be moved; only the name where there is no page below."""
    if not folder:
        return "–"
    place = Path(str(folder))
    page = (place if place.is_absolute() or place.is_dir() else base / place).resolve() / REPORT_NAME
    shown = escape(words or page.parent.name)
    for climbs, above in enumerate((base.resolve(), *list(base.resolve().parents)[:3])):
        if page.is_file() and page.is_relative_to(above):
            way = "../" * climbs or "./"
            return f'<a href="{way}{quote(page.relative_to(above).as_posix())}">{shown}</a>'
    return shown


def _framed(picture: str | None) -> str:
    return f'<figure class="chart picture">{picture}</figure>' if picture else ""


def texts_of(found: Sequence[Any]) -> list[tuple[str, list[int]]]:
    """Entries by the validation text that they were scored on: scores of different texts are never put together."""
    groups: dict[int, list[int]] = {}
    for place, entry in enumerate(found):
        size = next((score.bytes for score in entry.scores if score.bytes), 0)
        near = next((other for other in groups if other and abs(size / other - 1) < SAME_TEXT), size)
        groups.setdefault(near, []).append(place)
    order = sorted(groups.items(), key=lambda item: -len(item[1]))
    return [(f"{size:,} bytes of text" if size else "text of unknown size", places) for size, places in order]


def entries(found: Sequence[Any], commands: Sequence[str], base: Path) -> str:
    """Bytes × BPB, means with intervals, best first, and the commands of the best; all by validation text."""
    charts, tables, repeat = [], [], []
    groups = texts_of(found)
    for place, (text, members) in enumerate(groups):
        pairs = sorted(((found[i], commands[i]) for i in members), key=lambda pair: statistics.fmean(pair[0].bpb))
        points = [point_of(entry) for entry, _ in pairs]
        head = f'<h3 class="export">Scored on <b>{escape(text)}</b></h3>' if len(groups) > 1 else ""
        many = "entry" if len(pairs) == 1 else "entries"
        picture = pareto_picture(points, f"{len(pairs)} {many} scored on {text}", standalone=False)
        if len(pairs) > 1 or len(groups) == 1:  # a chart of one point beside others says nothing
            charts.append(_framed(picture) or f'<p class="empty">{escape(text)}: no entry was packed.</p>')
        tables.append(head + _entries_table([entry for entry, _ in pairs], points, base, f"entries-{place}"))
        repeat.append(head + _boxes([command for _, command in pairs], points))
    nothing = missing("Scored entries")
    about = "An entry is one configuration and its code; its seeds count together."
    parts = [("pareto", "Bytes and BPB", charts, ""), ("entries-section", "Entries", tables, about)]
    parts.append(("repeat", "Best configurations", repeat, "Each command repeats an entry with all its seeds."))
    return "".join(section(key, title, "".join(made) or nothing, lead) for key, title, made, lead in parts)


def _entries_table(found: Sequence[Any], points: Sequence[Point], base: Path, key: str) -> str:
    best, body = front(points), []
    for entry, point in zip(found[:MOST], points):
        steps = [score.step_ms for score in entry.scores if score.step_ms]
        half = None if point.low is None or point.high is None else (point.high - point.low) / 2
        sd = statistics.stdev(entry.bpb) if len(entry.bpb) > 1 else None
        reports = " ".join(link(score.folder, base, str(score.seed)) for score in entry.scores)
        step = statistics.fmean(steps) if steps else None
        body.append(
            [
                Cell(entry.label, entry.label),
                Cell("", point.bpb, f"<b>{point.bpb:.5f}</b>"),
                Cell("–" if half is None else f"± {half:.5f}", half),
                Cell(decimal(sd, 5), sd),
                Cell(str(len(entry.scores)), len(entry.scores)),
                Cell(whole(point.bytes), point.bytes),
                Cell("◆" if point in best else "", 0 if point in best else 1),
                Cell(plain(entry.stage), entry.stage),
                Cell(decimal(step, 1), step),
                Cell("", None, reports),
            ]
        )
    columns = ["Entry", "Mean BPB", "95 %", "sd", "Seeds", "Bytes", "Front", "Rung", "ms/step", "By seed"]
    several = any(len(point.seeds) > 1 for point in points)
    picture = _framed(intervals_picture(points, "Mean BPB by entry", False)) if several else ""
    notes = list(dict.fromkeys(note for entry in found for note in entry.notes))[:20]
    notes += [f"The best {MOST} of {len(found):,} entries are listed."] if len(found) > MOST else []
    told = "".join(f'<p class="note">{escape(note)}</p>' for note in notes)
    return picture + table(key, "Entries", columns, {1, 2, 3, 4, 5, 8}, body) + told


def _boxes(commands: Sequence[str], points: Sequence[Point]) -> str:
    boxes = [command_box(f"{p.label}: {told_mean(p)} BPB", command) for command, p in zip(commands, points)]
    boxes = boxes[:MOST_COMMANDS]
    rest = folded(f"The next {len(boxes) - BEST}", "".join(boxes[BEST:])) if len(boxes) > BEST else ""
    return "".join(boxes[:BEST]) + rest


def command_box(title: str, command: str) -> str:
    """A command with its button to copy it."""
    return (
        f'<div class="command"><span>{escape(title)}</span><button type="button" class="copy">Copy</button>'
        f'<pre tabindex="0">{escape(command)}</pre></div>'
    )


def verdicts(compared: Sequence[Any], text: str, policy: str) -> str:
    """Every comparison in a line, and the whole account folded."""
    about = f"Policy {policy}; a gain is what the old entry scores more than the new one."
    if not compared:
        words = text or "A verdict needs two entries, with several seeds of each."
        return section("verdicts", "Verdicts", f'<p class="empty">{escape(words)}</p>')
    body = []
    for item in compared:
        decisive = item.pairs or item.any_gain
        gain = statistics.fmean(item.old.bpb) - statistics.fmean(item.new.bpb)
        interval = f"{signed(decisive.low, 5)} to {signed(decisive.high, 5)}" if decisive else "–"
        sizes = [point_of(side).bytes for side in (item.new, item.old)]
        change = sizes[0] - sizes[1] if sizes[0] is not None and sizes[1] is not None else None
        flag = FLAGS.get(item.verdict, "")
        body.append(
            [
                Cell(item.new.label, item.new.label),
                Cell(item.old.label, item.old.label),
                Cell(signed(gain, 5), gain),
                Cell(interval, decisive.low if decisive else None),
                Cell("nats/token" if item.unit == "nats_per_token" else "BPB", item.unit),
                Cell(decimal(item.p, 4), finite(item.p)),
                Cell(signed(change, 0), change),
                Cell("", item.verdict, f'<span class="flag {flag}">{escape(plain(item.verdict))}</span>'),
            ]
        )
    columns = ["New", "Old", "Gain, BPB", "95 % interval", "Interval in", "p", "Δ bytes", "Verdict"]
    markup = table("verdict-list", "Verdicts", columns, {2, 3, 5, 6}, body)
    return section("verdicts", "Verdicts", markup + folded("The whole account", _code(text)), about)


def _code(text: str) -> str:
    return f'<pre class="code" tabindex="0">{escape(text)}</pre>'
