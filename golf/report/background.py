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
    total = sum(finite(stage.get("seconds")) or 0 for stage in run.stages)
    body = []
    for index, stage in enumerate(run.stages):
        seconds = finite(stage.get("seconds"))
        width = 100 * (seconds or 0) / (total or 1)
        bar = f'<span class="bar"><span style="width:{width:.2f}%"></span></span>'
        state = stage.get("status") or stage.get("state") or ("done" if seconds is not None else "not there yet")
        body.append([Cell(stage["name"], index), Cell(plain(state), plain(state)), Cell(duration(seconds), seconds)])
        body[-1].append(Cell("", seconds, bar))
    markup = table("stage-times", "Seconds by stage", ["Stage", "State", "Time", "Share"], {2}, body)
    return section("stages", "Stages", f'{markup}<p class="note">Together {escape(duration(total))}.</p>')


def liveness(run: RunData) -> str:
    """Which techniques proved that they ran, and the numbers that say so."""
    about = "What was switched on must have had an effect."
    rows = _records(run.liveness)[:MAX_ROWS]
    if not rows:
        return section("liveness", "Liveness", missing("liveness.json"), about)
    body = []
    for row in rows:
        name = plain(row.get("technique"))
        alive = row.get("alive", row.get("ran"))
        word = plain(alive)
        flag = f'<span class="flag {word}">{"✓ yes" if alive else "✗ no"}</span>' if isinstance(alive, bool) else None
        evidence = " · ".join(
            f"{key.replace('_', ' ')} {plain(value)}"
            for key, value in row.items()
            if key not in ("technique", "alive", "ran") and value not in (None, [], {}, "")
        )
        cut = evidence if len(evidence) <= 400 else evidence[:399] + "…"
        body.append([Cell(name, name), Cell(word, word, flag), Cell(cut, cut[:80])])
    markup = table("live", "Liveness of techniques", ["Technique", "Alive", "Evidence"], set(), body)
    dead = sum(row.get("alive", row.get("ran")) is False for row in rows)
    verdict = f"{dead} of {len(rows)} had no effect." if dead else f"{len(rows)} techniques, none without effect."
    return section("liveness", "Liveness", f'{markup}<p class="note">{verdict}</p>', about)


def _records(value: Any) -> list[dict[str, Any]]:
    """Return liveness as rows: {"techniques": [rows]}, a list of rows, or an object from technique to row or value."""
    if isinstance(value, dict) and isinstance(value.get("techniques"), list):
        return _records(value["techniques"])
    if isinstance(value, dict):
        return [
            {**(item if isinstance(item, dict) else {"result": item}), "technique": key} for key, item in value.items()
        ]
    if isinstance(value, list):
        return [item if isinstance(item, dict) else {"technique": plain(item)} for item in value]
    return []


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
