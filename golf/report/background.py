"""The sections below the results: stage times, liveness, configuration, environment, files.

Same contract as `golf.report.sections`: RunData in, markup out, and nothing raises on incomplete data.
"""

from typing import Any

from golf.report.collect import RunData
from golf.report.elements import Cell, flattened, folded, missing, section, table, yaml_text
from golf.report.format import duration, escape, finite, plain

MAX_ROWS = 1000


def stages(run: RunData) -> str:
    """How long each stage took."""
    if not run.stages:
        return section("stages", "Stages", missing("Stage manifests"))
    longest = max([finite(stage.get("seconds")) or 0 for stage in run.stages], default=0) or 1
    body = []
    for index, stage in enumerate(run.stages):
        seconds = finite(stage.get("seconds"))
        width = 100 * (seconds or 0) / longest
        bar = f'<span class="bar"><span style="width:{width:.2f}%"></span></span>'
        state = stage.get("status") or stage.get("state") or ("done" if seconds is not None else "not there yet")
        body.append([Cell(stage["name"], index), Cell(plain(state), plain(state)), Cell(duration(seconds), seconds)])
        body[-1].append(Cell("", seconds, bar))
    total = sum(finite(stage.get("seconds")) or 0 for stage in run.stages)
    markup = table("stage-times", "Seconds by stage", ["Stage", "State", "Time", "Share"], {2}, body)
    return section("stages", "Stages", f'{markup}<p class="note">Together {escape(duration(total))}.</p>')


def liveness(run: RunData) -> str:
    """Which techniques proved that they ran."""
    about = "A technique that is configured must prove that it ran."
    rows = _records(run.liveness)
    if not rows:
        return section("liveness", "Liveness", missing("liveness.json"), about)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    body = [[_live_cell(row.get(column)) for column in columns] for row in rows[:MAX_ROWS]]
    heads = [column.replace("_", " ").capitalize() for column in columns]
    numeric = {
        i for i, c in enumerate(columns) if all(finite(r.get(c)) is not None for r in rows if r.get(c) is not None)
    }
    return section("liveness", "Liveness", table("live", "Liveness of techniques", heads, numeric - {0}, body), about)


def _records(value: Any) -> list[dict[str, Any]]:
    """Return liveness as rows: a list of objects, an object of objects or an object of plain values."""
    if isinstance(value, dict):
        inner = [item for item in value.values() if isinstance(item, list) and item and isinstance(item[0], dict)]
        if len(inner) == 1:
            return _records(inner[0])
        return [
            {"technique": key, **(item if isinstance(item, dict) else {"result": item})} for key, item in value.items()
        ]
    if isinstance(value, list):
        return [item if isinstance(item, dict) else {"technique": plain(item)} for item in value]
    return []


def _live_cell(value: Any) -> Cell:
    if isinstance(value, bool):
        word = "yes" if value else "no"
        return Cell(word, word, f'<span class="flag {word}">{"✓ yes" if value else "✗ no"}</span>')
    number = finite(value)
    text = plain(value)
    return Cell(text if len(text) <= 400 else text[:399] + "…", number if number is not None else text[:80])


def details(run: RunData) -> list[str]:
    """Configuration, environment, every field of the summary, and the files of the run."""
    config = run.texts.get("config.yaml")
    overrides = run.texts.get("overrides.yaml", "").strip()
    shown = folded("config.yaml, everything resolved", yaml_text(config)) if config else missing("config.yaml")
    if overrides and overrides not in ("[]", "{}"):
        shown = folded("overrides.yaml, what was typed", yaml_text(overrides), open_now=True) + shown
    parts = [section("configuration", "Configuration", shown)]
    pairs = flattened(run.environment) if isinstance(run.environment, (dict, list)) else []
    parts.append(section("environment", "Environment", _pairs_table("env", "Environment", pairs, "environment.json")))
    rest = [(key, value) for key, value in run.summary.items() if key not in ("ladder", "exports")]
    pairs = [pair for key, value in rest for pair in flattened(value, str(key))]
    everything = folded("summary.json, every field", _pairs_table("all", "Summary", pairs, "summary.json"))
    parts.append(section("files", "Files", _files_table(run) + everything))
    return parts


def _pairs_table(key: str, label: str, pairs: list[tuple[str, Any]], source: str) -> str:
    if not pairs:
        return missing(source)
    body = [[Cell(name, name), Cell((text := plain(value)[:2000]), text[:80])] for name, value in pairs[:MAX_ROWS]]
    return table(key, label, ["Name", "Value"], set(), body)


def _files_table(run: RunData) -> str:
    if not run.files:
        return missing("Files of the run")
    body = [[Cell(name, name), Cell(f"{size:,}", size)] for name, size in run.files]
    left = f" {run.files_left_out:,} more are not listed." if run.files_left_out else ""
    total = f"{len(run.files)} files, {sum(size for _, size in run.files):,} bytes.{left}"
    return folded(total, table("file-list", "Files of the run", ["File", "Bytes"], {1}, body), len(run.files) <= 40)
