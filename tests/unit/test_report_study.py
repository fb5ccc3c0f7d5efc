"""`golf runs report`: what pages of sweeps and of all runs say, pictures, one line for every wrong input."""

from __future__ import annotations

import json
import statistics
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from scipy import stats

from golf import cli
from golf.report import screenshot
from golf.report.collect import collect
from golf.report.pictures import run_pictures
from golf.report.study import point_of, texts_of
from golf.report.study_pictures import Point, front, intervals_picture, pareto_picture
from golf.runs.entries import scored_entries

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "browser"))
from fake_library import ENTRIES, OFFICIAL_BYTES, finished, write_sweep
from fake_run import write_run
from test_report_page import EVIL, Structure, loads_nothing

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def library(tmp_path, monkeypatch) -> Path:
    """runs/ with a sweep of four entries, a run of another text, and one that has just begun."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(screenshot, "NAMES", ("no-browser-of-this-name",))
    monkeypatch.delenv("CHROMIUM", raising=False)
    write_sweep(tmp_path / "runs" / "seq2048" / "multirun_1")
    finished(tmp_path / "runs" / "cpu" / "a", "cpu", 1, 1.8, 2_300_000, tokens=20_000, text_bytes=40_000, failed=["L7"])
    begun = finished(tmp_path / "runs" / "cpu" / "b", "cpu", 2, 1.8, 2_300_000)
    (begun / "summary.json").unlink()
    return tmp_path / "runs"


def golf(capsys, *argv: str) -> tuple[int, str, str]:
    code = cli.main(["runs", "report", *argv])
    out = capsys.readouterr()
    return code, out.out, out.err


def page_of(folder: Path) -> tuple[Structure, str]:
    page = Structure((folder / "report.html").read_text(encoding="utf-8"))
    assert len(page.ids) == len(set(page.ids))
    return page, " ".join(page.text)


def test_a_sweep_has_entries_verdicts_pareto_and_commands(library, capsys):
    folder = library / "seq2048" / "multirun_1"
    (folder / "0" / "report.html").write_text("")
    code, out, err = golf(capsys, "runs/seq2048/multirun_1", "--images")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "report  runs/seq2048/multirun_1/report.html"
    assert out.splitlines()[-1].startswith("no PNG: no Chromium found")
    page, text = page_of(folder)
    assert loads_nothing(page)
    assert "4 entries scored on 151,080,363 bytes of text" in text
    assert "python train.py -m experiment=wide_mlp_with_a_long_name seed=1,2,3" in text
    assert "python train.py experiment=int6_embedding seed=2" in text  # of a job
    assert "wide_mlp_with_a_long_name against seq2048" in text  # the whole account
    assert [text.count(f"{verdict} ") > 0 for verdict in ("better", "worse")] == [True, True]
    assert "failed: UserError: <b>no</b>" in text  # as text, not as markup
    assert "12 of 13 jobs scored" in text
    assert {a["href"] for a in page.tagged("a", href="./")} == {"./0/report.html"}
    assert {path.name for path in (folder / "images").iterdir()} == {"pareto.svg", "seeds.svg"}


def test_all_runs_by_text_with_places(library, capsys):
    code, out, _ = golf(capsys, "all")
    assert (code, out) == (0, "report  runs/report.html\n")
    page, text = page_of(library)
    assert loads_nothing(page)
    assert "14 runs, 13 scored, 5 entries" in text
    assert "1 failed" in text
    assert "of 49" in text
    assert "Still to gain" in text
    assert "Scored on" in text
    assert "40,000 bytes of text" in text
    assert len(page.tagged("table", id="entries-")) == 2  # one per validation text, never together


def test_damaged_runs_and_a_sweep_that_failed_still_have_a_page(library, capsys):
    (library / "cpu" / "a" / "source.tar.zst").write_bytes(b"not a tar")
    (library / "cpu" / "b" / "config.yaml").write_text("run_version: [")
    assert golf(capsys, "all")[0] == 0
    _, text = page_of(library)
    assert "cpu/a was passed over: its files are damaged" in text
    assert "cpu/b was passed over" in text
    failed = write_sweep(library.parent / "failed", entries=())
    assert golf(capsys, "failed")[0] == 0
    assert "0 of 1 jobs scored" in page_of(failed)[1]


def test_jobs_of_export_py_are_points_and_their_commands_name_the_script(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for job, (codec, bpb, size) in enumerate((("lzma", 1.2, 900), ("zstd", 1.2, 950), ("none", 1.19, 2000))):
        place = tmp_path / "exports" / str(job)
        place.mkdir(parents=True)
        record = {"job": job, "script": "export", "overrides": ["run=runs/x/y", f"codec={codec}"], "state": "done"}
        (place / "job.json").write_text(json.dumps({**record, "objective": bpb, "bytes": size, "seconds": 1.0}))
    assert golf(capsys, "exports", "--images")[0] == 0
    _, text = page_of(tmp_path / "exports")
    assert "python export.py run=runs/x/y codec=zstd" in text
    assert "Bytes and bits per byte of the jobs" in text
    root = ElementTree.parse(tmp_path / "exports" / "images" / "pareto.svg").getroot()
    words = ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]
    assert "codec=lzma" in words
    assert "codec=none" in words
    assert "codec=zstd" not in words  # not on the front


def test_intervals_are_those_of_student(library):
    entries = scored_entries(library / "seq2048")
    point = point_of(entries[0])
    low, high = stats.t.interval(0.95, 2, statistics.fmean(point.seeds), stats.sem(point.seeds))
    assert (point.low, point.high) == pytest.approx((low, high), rel=1e-9)
    assert point_of(scored_entries(library / "cpu")[0]).low is None
    ((text, members),) = texts_of(entries)
    assert text.startswith(f"{OFFICIAL_BYTES:,} bytes")
    assert members == [0, 1, 2, 3]


def test_the_front_has_what_nothing_beats():
    points = [Point(name, bpb, size) for name, bpb, size, _ in ENTRIES] + [Point("unpacked", 1.0, None)]
    assert [point.label for point in front(points)] == ["int6_embedding", "seq2048", "wide_mlp_with_a_long_name"]
    twin = Point("twin", 1.1935, 15_210_007)
    assert len(front([*points, twin])) == 3


def test_pictures_are_documents_with_text_as_text(tmp_path):
    run = collect(write_run(tmp_path / "demo", name=EVIL))
    pictures = run_pictures(run)
    points = [Point(EVIL, 1.2, 5, (1.1, 1.3), 0.5, 1.9), Point("b" * 200, 1.21, 4)]
    pictures |= {"pareto": pareto_picture(points, EVIL), "seeds": intervals_picture(points, EVIL)}
    for name, content in pictures.items():
        root = ElementTree.fromstring(content)
        assert root.tag == f"{SVG}svg", name
        assert not [element for element in root.iter() if element.tag in (f"{SVG}script", f"{SVG}img")]
        assert len(list(root.iter(f"{SVG}text"))) > 4
    texts = ["".join(element.itertext()) for element in ElementTree.fromstring(pictures["ladder"]).iter(f"{SVG}text")]
    assert texts.count("1.8346") == 1
    assert "−0.0357" in texts
    areas = [float(a.get("width")) * float(a.get("height")) for a in ElementTree.fromstring(pictures["treemap"])[2:]
             if a.tag == f"{SVG}rect" and a.get("rx")]  # fmt: skip
    assert areas[0] / areas[1] == pytest.approx(1_212_416 / 818_304, rel=0.02)
    empty = run_pictures(collect(tmp_path))
    assert set(empty.values()) == {None}


def test_seeds_beside_a_run_are_on_its_page(library, capsys):
    folder = library / "seq2048" / "multirun_1"
    assert golf(capsys, "runs/seq2048/multirun_1/1")[0] == 0
    page, text = page_of(folder / "1")
    assert "1.19133 ± 0.00225 BPB over 3 seeds (95 %), sample sd 0.00091." in text
    assert golf(capsys, "cpu/b")[0] == 0  # found below runs/; it has just begun
    assert "Only this run was looked at" in page_of(library / "cpu" / "b")[1]
    assert len(page.tagged("table", id="seed-list")) == 1


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["nothing"], "no such folder; type a run folder like runs/<name>/<time>, a sweep's folder, or all"),
        (["empty"], "no runs in empty"),
        (["all", "--policy", "x"], "--policy x"),
        ([], "type golf runs report --help"),
    ],
)
def test_wrong_inputs_are_one_line(library, capsys, argv, words):
    Path("empty").mkdir()
    code, out, err = golf(capsys, *argv)
    assert (code, out) == (2, "")
    assert words in err
    assert len(err.splitlines()) == 1


def test_all_without_runs_says_how_to_make_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, _, err = golf(capsys, "all")
    assert code == 2
    assert "make demo" in err
