"""Writes a run's report: one HTML file with everything inlined.

Invariant: the page loads nothing (its Content-Security-Policy forbids it, and allows only the one script whose hash it
carries), opens from file://, stays below MAX_BYTES for a run of any length, and is written atomically.
"""

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from golf.errors import UserError
from golf.report import background, sections
from golf.report.behaviour import SCRIPT
from golf.report.collect import REPORT_NAME, collect
from golf.report.format import decimal, escape
from golf.report.ladder import headline_rung
from golf.report.quantisation import quantisation
from golf.report.rules import rules
from golf.report.score_plots import score_plots
from golf.report.study import seeds
from golf.report.style import STYLE
from golf.report.throughput import throughput

MAX_BYTES = 3_000_000
NAVIGATION = {
    "top": "golf",
    "curves": "Training",
    "ladder": "Ladder",
    "seeds": "Seeds",
    "bits": "Bits",
    "size": "Size",
    "quantisation": "Quantisation",
    "throughput": "Throughput",
    "rules": "Rules",
    "stages": "Stages",
    "liveness": "Liveness",
    "configuration": "Configuration",
    "environment": "Environment",
    "files": "Files",
}


class PageTooLarge(UserError):
    """The page would be larger than MAX_BYTES."""


def write_report(run_folder: Path, entry: Any = None) -> Path:
    """Write `report.html` into a run folder from whatever the folder holds, and return its path.

    entry: the seeds of the run's configuration (golf.runs.entries), where the runs beside it were looked at.
    """
    folder = Path(run_folder).resolve()
    if not folder.is_dir():
        raise UserError(f"There is no run folder {run_folder}; type the path of a folder like runs/<name>/<stamp>")
    run = collect(folder)
    data: dict[str, Any] = {}
    parts = [
        sections.headline(run),
        sections.curves(run, data),
        sections.ladders(run),
        seeds(entry, folder),
        score_plots(run),
        sections.sizes(run),
        quantisation(run, data),
        throughput(run, data),
        rules(run),
        background.stages(run),
        background.liveness(run),
        *background.details(run),
    ]
    rung = headline_rung(run.summary)
    name = str(run.summary.get("name") or folder.name)
    title = f"{name} · {decimal(rung['bpb'])} BPB · golf" if rung else f"{name} · golf"
    navigation = "".join(f'<a href="#{key}">{text}</a>' for key, text in NAVIGATION.items())
    return write_page(folder / REPORT_NAME, title, navigation, "".join(parts), data)


def write_page(path: Path, title: str, navigation: str, body: str, data: dict[str, Any]) -> Path:
    """Write a page around `body`; `navigation` and `body` are safe markup, `title` is escaped here."""
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:"
    embedded = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        embedded = embedded.replace(character, f"\\u{ord(character):04x}")
    page = f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer"><title>{escape(title)}</title><link rel="icon" href="data:,">
<style>{STYLE}</style></head>
<body><nav aria-label="Sections"><div class="bar-inner">{navigation}</div></nav>
<main>{body}
<footer>Written by golf from the files of this run; nothing is loaded from anywhere else.</footer></main>
<script id="data" type="application/json">{embedded}</script><script>{SCRIPT}</script></body></html>
"""
    content = page.encode("utf-8", errors="replace")
    if len(content) > MAX_BYTES:
        raise PageTooLarge(f"The page {path} would have {len(content):,} bytes, more than {MAX_BYTES:,}")
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"{path} could not be written: {error.strerror or error}") from error
    return path
