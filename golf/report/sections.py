"""The sections of a run's page, one function each: RunData in, markup out.

A section whose data does not exist says "not there yet"; none of them raises on incomplete data.
"""

from typing import Any

from golf.report import charts
from golf.report.charts import Series, placed
from golf.report.collect import STAGE_ORDER, RunData
from golf.report.elements import (
    Cell,
    byte_bar,
    colour_of,
    missing,
    section,
    table,
    treemap,
)
from golf.report.format import (
    coverage,
    decimal,
    duration,
    escape,
    finite,
    percent,
    plain,
    scientific,
    short,
    signed,
    whole,
)
from golf.report.ladder import classes_of, deltas, exports_of, headline_rung, limit_of, rungs, total_of


def headline(run: RunData) -> str:
    """Name, BPB, bytes against the limit, the facts, and the command that repeats the run."""
    summary = run.summary
    rung = headline_rung(summary) or next((r for _, one in exports_of(summary) if (r := headline_rung(one))), None)
    total, limit = total_of(summary), limit_of(summary)
    if rung:
        stage, protocol = plain(rung.get("stage") or "scored"), plain(rung.get("protocol") or "")
        how = protocol if protocol.startswith(stage) else f"{stage} · {protocol}".strip(" ·")
        coverage = rung.get("coverage")
        if isinstance(coverage, dict) and coverage.get("complete") is False:
            how += " · PARTIAL: not the whole split"
        score = f"<strong>{decimal(rung['bpb'])}</strong><span>bits per byte<br><em>{escape(how)}</em></span>"
    else:
        score = "<strong>–</strong><span>bits per byte<br><em>not there yet</em></span>"
    if total is None:
        size = f'<p class="size"><b>Size</b> not there yet; the limit is {limit:,} bytes</p>'
    else:
        free = limit - total
        room = f"{free:,} bytes free" if free >= 0 else f"{-free:,} bytes over the limit"
        size = (
            f'<p class="size{" over" if free < 0 else ""}"><b>{total:,}</b> / {limit:,} bytes'
            f" <span>{percent(total, limit)} · {room}</span></p>{byte_bar(classes_of(summary), total, limit)}"
        )
    facts = "".join(
        f"<div{' class=wide' if len(text) > 24 else ''}><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>"
        for name, text in sorted(_facts(run), key=lambda fact: len(fact[1]) > 24)
    )
    command = run.texts.get("command.txt", "").strip()
    if command:
        repeat = (
            '<div class="command"><span>To repeat it</span><button type="button" class="copy">Copy</button>'
            f'<pre tabindex="0">{escape(command)}</pre></div>'
        )
    else:
        repeat = missing("The command to repeat this run (command.txt)")
    name = summary.get("name") or run.folder.parent.name or run.folder.name
    return f"""<header id="top"><p class="kind">golf · run report</p><h1>{escape(name)}</h1>
<p class="where">{escape(run.folder.name)} · {escape(_state(run))}</p>
<div class="hero"><div class="score{"" if rung else " none"}">{score}</div><dl class="facts">{facts}</dl></div>
{size}{repeat}{_notes(run)}</header>"""


def _state(run: RunData) -> str:
    done = {stage["name"].split("/")[0] for stage in run.stages}
    if headline_rung(run.summary):
        return "trained, packed and scored" if total_of(run.summary) else "scored"
    if done:
        return f"stages done: {', '.join(stage for stage in STAGE_ORDER if stage in done) or len(done)}"
    return f"training, step {whole(run.last.get('step'))}" if run.last else "nothing recorded yet"


def _facts(run: RunData) -> list[tuple[str, str]]:
    summary, last = run.summary, run.last

    def first(name: str, fallback: Any = None) -> Any:
        return summary[name] if summary.get(name) is not None else fallback

    rows = [
        ("Steps", whole(first("steps", last.get("step")))),
        ("Tokens", short(first("train_tokens", last.get("tokens")))),
        ("Training time", duration(first("train_seconds", last.get("seconds")))),
        ("Tokens per second", short(first("tokens_per_second"))),
        ("Parameters", whole(first("parameters"))),
        ("Seed", plain(first("seed"))),
        ("Hardware", plain(first("hardware"))),
    ]
    if finite(summary.get("mfu")) is not None:
        rows.append(("MFU", percent(summary["mfu"], 1)))
    if finite(summary.get("flops")) is not None:
        rows.append(("Training FLOPs", scientific(summary["flops"])))
    if finite(summary.get("joules")) is not None:
        rows.append(("Energy", f"{short(summary['joules'])}J"))
    return rows


def _notes(run: RunData) -> str:
    items = "".join(f"<li>{escape(note)}</li>" for note in run.notes[:50])
    return f'<ul class="notes">{items}</ul>' if items else ""


def curves(run: RunData, data: dict[str, Any]) -> str:
    """Training and validation loss, validation BPB, learning rate and momentum."""
    found = run.curves
    loss = [Series("training", found[key], "train") for key in ("train/loss",) if key in found]
    loss += [Series("validation", found[key], "validation", dots=True) for key in ("val/loss",) if key in found]
    wide = [charts.line_chart("loss", "Loss", "nats per token", loss)]
    trained = any(stage.get("name") == "train" and stage.get("seconds") is not None for stage in run.stages)
    narrow = [
        charts.line_chart(
            "bpb",
            "Validation",
            "bits per byte",
            [Series("validation", found[key], "validation", dots=True) for key in ("val/bpb",) if key in found],
            absent="none during training; type trainer.val_check_steps=100" if trained else "not there yet",
        )
    ]
    if "lr" in found:
        series = [Series("learning rate", found["lr"], "rate")]
        narrow.append(charts.line_chart("lr", "Learning rate", "multiplier, from the schedule", series, from_zero=True))
    markup = placed(wide, data) + f'<div class="pair">{placed(narrow, data)}</div>'
    return section("curves", "Training", markup)


def ladders(run: RunData) -> str:
    """One ladder per export: a chart and the exact numbers."""
    exports = exports_of(run.summary)
    parts = []
    for index, (name, export) in enumerate(exports):
        rows = rungs(export)
        if len(exports) > 1:
            parts.append(f'<h3 class="export">Export <b>{escape(name)}</b></h3>')
        if not rows:
            parts.append(missing("The ladder"))
            continue
        steps = deltas(rows)
        scored = [
            (plain(row.get("stage")), bpb, delta)
            for row, delta in zip(rows, steps)
            if (bpb := finite(row.get("bpb"))) is not None
        ]
        body = [_ladder_row(row, delta) for row, delta in zip(rows, steps)]
        columns = ["Stage", "Nats/token", "BPB", "Δ BPB", "Tokens", "Bytes", "Coverage", "Protocol", "Seconds"]
        label = f"Ladder of export {name}" if len(exports) > 1 else "Ladder"
        parts.append(charts.ladder_chart(scored))
        parts.append(table(f"ladder-{index}", label, columns, {1, 2, 3, 4, 5, 8}, body))
    about = (
        "The same weights, scored at each rung. Tokens and bytes are the targets scored and the text they stand for."
    )
    return section("ladder", "Ladder", "".join(parts), about)


def _ladder_row(row: dict[str, Any], delta: float | None) -> list[Cell]:
    def number(name: str, text: str) -> Cell:
        return Cell(text, finite(row.get(name)))

    return [
        Cell(plain(row.get("stage")), plain(row.get("stage"))),
        number("nats_per_token", decimal(row.get("nats_per_token"))),
        Cell("", finite(row.get("bpb")), f"<b>{decimal(row.get('bpb'))}</b>"),
        Cell(signed(delta), delta),
        number("tokens", whole(row.get("tokens"))),
        number("bytes", whole(row.get("bytes"))),
        Cell(coverage(row.get("coverage")), coverage(row.get("coverage"))),
        Cell(plain(row.get("protocol")), plain(row.get("protocol"))),
        number("seconds", decimal(row.get("seconds"), 2)),
    ]


def sizes(run: RunData) -> str:
    """Bytes by tensor class: areas, exact numbers, and whether they add up to the total."""
    exports = exports_of(run.summary)
    parts = []
    for index, (name, export) in enumerate(exports):
        classes, total = classes_of(export), total_of(export)
        if len(exports) > 1:
            parts.append(f'<h3 class="export">Export <b>{escape(name)}</b></h3>')
        if not classes or total is None:
            parts.append(missing("Bytes by class"))
            continue
        rest = total - sum(classes.values())
        tiled = {**classes, "not attributed": rest} if rest > 0 else classes
        body = [
            [
                Cell(kind, kind, f'<i class="swatch c{colour_of(kind, place)}"></i>{escape(kind)}'),
                Cell(whole(size), size),
                Cell(percent(size, total, 2), size),
                Cell(percent(size, limit_of(export), 2), size),
            ]
            for place, (kind, size) in enumerate(tiled.items())
        ]
        parts.append(treemap(tiled, sum(tiled.values())))
        parts.append(
            table(f"bytes-{index}", "Bytes by class", ["Class", "Bytes", "Of total", "Of limit"], {1, 2, 3}, body)
        )
        parts.append(f'<p class="note">{escape(_adding_up(export, rest, total))}</p>')
    return section("size", "Size", "".join(parts), "Every byte that is shipped, by what it is.")


def _adding_up(export: dict[str, Any], rest: int, total: int) -> str:
    artifact, code = finite(export.get("artifact_bytes")), finite(export.get("code_bytes"))
    files = f" = {artifact:,.0f} artifact + {code:,.0f} code" if artifact is not None and code is not None else ""
    if rest == 0:
        return f"The classes add up to the total: {total:,} bytes{files}."
    if rest > 0:
        return f"{rest:,} of {total:,} bytes{files} are in no class."
    return f"The classes exceed the total of {total:,} bytes{files} by {-rest:,}: one of the numbers is wrong."
