"""The report in headless Chromium: no console error, nothing requested, tables sort, charts answer, phones fit."""

import json
import re
import struct
import zlib
from html import escape, unescape
from pathlib import Path
from urllib.parse import unquote

import pytest
from fake_library import finished, write_sweep
from fake_run import CLASSES, write_run

from golf.report.collect import collect
from golf.report.html import write_report
from golf.report.pictures import run_pictures
from golf.report.screenshot import find_chromium, screenshot, visit
from golf.report.sweep import write_sweep_report
from golf.runs.report import job_rows, siblings, study_of, write_all, write_pictures

pytestmark = pytest.mark.skipif(
    find_chromium() is None,
    reason="no Chromium found (chromium, chromium-browser, google-chrome or $CHROMIUM): browser tests are skipped",
)


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    return write_report(write_run(tmp_path_factory.mktemp("report") / "demo" / "stamp"))


def selftest(path: Path, **options) -> tuple[dict, str]:
    seen = visit(path, "#selftest", **options)
    assert seen.console == []
    assert 'data-ready="yes"' in seen.dom
    assert "data-errors" not in seen.dom
    return json.loads(unescape(re.search(r'data-selftest="([^"]*)"', seen.dom)[1])), seen.dom


def test_page_works(page):
    seen, dom = selftest(page)
    assert seen["charts"] == 6
    assert seen["tables"] == 13
    assert seen["before"] == ["1.8844", "1.8675", "1.8704", "1.8346"]
    assert seen["ascending"] == sorted(seen["before"])
    assert seen["descending"] == sorted(seen["before"], reverse=True)
    assert seen["again"] == seen["before"]
    assert 'aria-sort="ascending"' in dom
    assert seen["resting"].startswith("step 1,180")
    assert re.match(
        r"step (58|59|60)\dat .* s.*training \d\.\d+validation \(step 600\) \d", seen["hover"].replace(" at", "at")
    )
    assert seen["cross"] is True
    assert dom.count('class="tile ') == 2 * len(CLASSES)
    assert dom.count('<path class="line') == 7 + 1 + 3 * 2  # the clock; three charts of bits with two rungs
    assert seen["overflow"] <= 0


def test_page_of_a_long_run_is_interactive_at_once(tmp_path):
    path = write_report(write_run(tmp_path / "demo" / "stamp", steps=20_000, every=1, exports=True))
    seen, _ = selftest(path)
    assert path.stat().st_size <= 3_000_000
    assert seen["milliseconds"] < 2000


def test_empty_run_and_sweep_have_no_errors(tmp_path):
    seen, _ = selftest(write_report(tmp_path))
    assert seen["charts"] == 0
    (tmp_path / "sweep").mkdir()
    rows = [{"job": 0, "bpb": 1.5, "overrides": "</script><script>alert(1)</script>", "status": "done"}]
    seen, _ = selftest(write_sweep_report(tmp_path / "sweep", rows))
    assert seen["tables"] == 1


def test_pages_of_a_sweep_and_of_all_runs_work(tmp_path):
    sweep = write_sweep(tmp_path / "runs" / "seq2048" / "multirun_1")
    demo = finished(tmp_path / "runs" / "demo", "demo", 1, 1.83, 2_355_972, tokens=20_000, text_bytes=40_000)
    seen, _ = selftest(write_sweep_report(sweep, job_rows(sweep), study_of(sweep)))
    assert seen["before"] == ["1.18753", "1.19133", "1.19363", "1.19913"]
    assert seen["descending"] == seen["before"][::-1]
    page, _ = write_all(tmp_path / "runs")
    seen, _ = selftest(page)
    assert seen["ascending"] == sorted(seen["before"]) != seen["before"]
    assert (seen["filtered"], seen["visible"]) == ("1 of 13", 1)
    assert seen["overflow"] <= 0
    seen, dom = selftest(write_report(demo, siblings(demo)))
    assert "One seed: no interval." in dom


def test_pictures_are_images_of_their_own_size(tmp_path):
    run = collect(write_run(tmp_path / "demo"))
    lines = write_pictures(tmp_path / "images", {**run_pictures(run), "seeds": None})
    assert lines[-1] == "image   seeds: its data is not there yet"
    for name in ("ladder", "loss", "treemap"):
        svg = (tmp_path / f"images/{name}.svg").read_text()
        width, height = map(int, re.search(r'width="(\d+)" height="(\d+)"', svg).groups())
        content = (tmp_path / f"images/{name}.png").read_bytes()
        assert png_size(content) == (2 * width, 2 * height)
        assert brightness(content) > 250
        assert len(content) > 10_000  # more than an empty picture of that size


def test_phone_width_does_not_scroll_sideways(page, tmp_path):
    picture = screenshot(page, tmp_path / "phone.png", 390, 800)
    assert png_size(picture.read_bytes()) == (390, 800)
    script = "const r = frame.contentDocument.documentElement; document.title = [r.clientWidth, r.scrollWidth]"
    outer = tmp_path / "phone.html"
    outer.write_text(
        f'<title></title><iframe id="frame" width="390" height="800" frameborder="0" onload="{script}" '
        f'srcdoc="{escape(page.read_text())}"></iframe>'
    )
    assert "<title>390,390</title>" in visit(outer).dom


def test_nothing_is_requested(page):
    text = page.read_text()
    assert "default-src 'none'" in text
    markup = re.sub(r"<script.*?</script>|<style.*?</style>", "", text, flags=re.S)
    assert not re.findall(r"""(?:src|href|srcset|action|poster)\s*=\s*["']?\s*(?:https?:)?//""", markup)
    assert "@import" not in text
    assert "url(" not in unquote(text)


def test_screenshots_in_both_schemes_differ(page, tmp_path):
    light = brightness(screenshot(page, tmp_path / "light.png", 800, 600).read_bytes())
    dark = brightness(screenshot(page, tmp_path / "dark.png", 800, 600, dark=True).read_bytes())
    assert light > 200
    assert dark < 60


def png_size(data: bytes) -> tuple[int, int]:
    return struct.unpack(">II", data[16:24])


def brightness(data: bytes) -> float:
    """Return the mean of the first row: filters 1, 3 and 4 store it relative to the left pixel, the others as it is."""
    width, _ = png_size(data)
    channels = {2: 3, 6: 4}[data[25]]
    chunks, at = b"", 8
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        chunks += data[at + 8 : at + 8 + size] if kind == b"IDAT" else b""
        at += size + 12
    row = bytearray(zlib.decompressobj().decompress(chunks, 1 + width * channels))
    if row[0] in (1, 3, 4):
        for index in range(1 + channels, len(row)):
            row[index] = (row[index] + row[index - channels] // (2 if row[0] == 3 else 1)) % 256
    pixels = [sum(row[i : i + 3]) / 3 for i in range(1, len(row), channels)]
    return sum(pixels) / len(pixels)
