"""The report page: complete, partial and hostile run folders give a page that is whole, small and inert."""

import json
import re
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from golf.errors import UserError
from golf.report.html import MAX_BYTES, write_report
from golf.report.sweep import write_sweep_report

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "browser"))
from fake_run import CLASSES, summary_of, write_run

VOID = {"meta", "link", "br", "img", "input", "hr"}
EVIL = '</script><script>alert(1)</script><img src="https://example.org/x.png" onerror=alert(1)>"\'`${x}'


class Structure(HTMLParser):
    """Collects tags, attributes and text, and insists that tags nest."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.ids: list[str] = []
        self.feed(page)
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID and not self.get_starttag_text().endswith("/>"):
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if self.stack and self.stack[-1] not in ("script", "style"):
            self.text.append(data)

    def tagged(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        return [
            a for t, a in self.tags if t == tag and all((a.get(k) or "").startswith(v) for k, v in attributes.items())
        ]


def structure(folder: Path) -> Structure:
    found = Structure(write_report(folder).read_text(encoding="utf-8"))
    assert len(found.ids) == len(set(found.ids))
    return found


def loads_nothing(page: Structure) -> bool:
    links = [
        value for _, attributes in page.tags for key in ("src", "href", "srcset") if (value := attributes.get(key))
    ]
    return all(link.startswith(("#", "data:", "./")) for link in links)


def test_complete_run_shows_every_part(tmp_path):
    page = structure(write_run(tmp_path / "demo" / "stamp"))
    text = " ".join(page.text)
    assert "not there yet" not in text
    assert "1.8346" in text
    assert "2,355,972" in text
    assert "/ 16,000,000 bytes" in text
    assert "The classes add up to the total: 2,355,972 bytes = 2,317,060 artifact + 38,912 code." in text
    assert "python train.py experiment=demo seed=1337" in text
    assert "moved 24 · tensors 24" in text
    assert "1 of 3 had no effect." in text
    assert "15,979,001" in text
    assert "It fits. 15,980,000 bytes were allowed, code included." in text
    assert text.count("blocks.5.mlp.proj") == 3  # its bar, the bar's title and the table
    assert "+0.00038" in text
    assert [a["data-chart"] for a in page.tagged("figure", **{"data-chart": ""}) if a.get("data-chart")] == [
        "loss",
        "bpb",
        "lr",
        "tokens_per_second",
        "step_ms",
        "clock",
    ]
    assert "Scoring sliding" in text
    assert "Profile strict: 1 fail, 1 cannot tell, 1 pass, 1 not applicable." in text
    assert "→ train a smaller model" in text
    assert "By place in the document" in text
    assert "fineweb_val_000001.bin" in text
    assert len(page.tagged("div", **{"class": "tile"})) == 2 * len(CLASSES)
    assert loads_nothing(page)


def test_every_chart_names_its_unit_and_says_what_it_shows(tmp_path):
    page = structure(write_run(tmp_path / "demo" / "stamp"))
    labels = [attributes["aria-label"] for attributes in page.tagged("div", **{"class": "plot"})]
    assert len(labels) == 9
    assert labels[0].startswith("Loss, nats per token, over steps 0 to 1.18 k: training from ")
    assert "validation from" in labels[0]


def test_empty_folder_is_a_page_of_not_there_yet(tmp_path):
    page = structure(tmp_path)
    text = " ".join(page.text)
    assert text.count("not there yet") >= 9
    assert loads_nothing(page)


@pytest.mark.parametrize(
    "missing",
    [
        "summary.json",
        "metrics.jsonl",
        "config.yaml",
        "command.txt",
        "liveness.json",
        "environment.json",
        "overrides.yaml",
    ],
)
def test_any_file_may_be_missing_or_broken(tmp_path, missing):
    folder = write_run(tmp_path / "demo" / "stamp", steps=50)
    (folder / missing).unlink()
    structure(folder)
    (folder / missing).write_bytes(b'\xff\xfe{"ladder": [3, null], ')
    structure(folder)
    (folder / missing).unlink()
    (folder / missing).mkdir()
    structure(folder)


def test_a_finished_run_that_never_validated_says_so(tmp_path):
    folder = write_run(tmp_path / "demo" / "stamp")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    kept = [{key: value for key, value in line.items() if not key.startswith("val/")} for line in lines]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    text = " ".join(structure(folder).text)
    assert "Validation: none during training; type trainer.val_check_steps=100" in text
    assert "Validation: not there yet" not in text


def test_values_of_the_wrong_type_do_not_stop_the_report(tmp_path):
    strange = dict.fromkeys(summary_of(), EVIL)
    for summary in (
        strange,
        {key: [1, {"x": None}] for key in summary_of()},
        {"exports": {"a": 3, "b": {}}},
        [],
        3,
        None,
    ):
        (tmp_path / "summary.json").write_text(json.dumps(summary))
        (tmp_path / "liveness.json").write_text(json.dumps(summary))
        (tmp_path / "environment.json").write_text(json.dumps(summary))
        structure(tmp_path)
    ladder = [{"stage": None, "bpb": float("nan")}, {"stage": "raw", "bpb": 10**400}, {"bpb": "x", "coverage": 0.5}]
    (tmp_path / "summary.json").write_text(json.dumps({"ladder": ladder, "bytes_by_class": {"a": -1, "b": 0}}))
    structure(tmp_path)


def test_metrics_of_a_killed_and_resumed_run(tmp_path):
    rows = [{"step": step, "train/loss": 3.0} for step in (1, 2, 3, 4)]
    rows += [{"step": step, "train/loss": 2.0} for step in (3, 4, 5)]
    rows += [{"step": 6, "train/loss": float("nan")}, {"train/loss": 1.0}, {"step": True}]
    lines = "\n".join(map(json.dumps, rows)) + '\n{"step": 7, "train/l'
    (tmp_path / "metrics.jsonl").write_text(lines)
    page = write_report(tmp_path).read_text()
    data = json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', page)[1])
    assert data["loss"]["series"][0]["steps"] == [1, 2, 3, 4, 5]
    assert data["loss"]["series"][0]["values"] == [3, 3, 2, 2, 2]
    assert "3 lines of metrics.jsonl could not be read" in page
    assert "1 values were not finite" in page


def test_long_runs_are_thinned_without_losing_extremes(tmp_path):
    folder = write_run(tmp_path / "demo" / "stamp", steps=20_000, every=1, exports=True)
    with open(folder / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": 12_345, "train/loss": 9.75}) + "\n")
    started = time.perf_counter()
    path = write_report(folder)
    assert time.perf_counter() - started < 5
    assert path.stat().st_size < MAX_BYTES / 4
    data = json.loads(re.search(r'type="application/json">(.*?)</script>', path.read_text())[1])
    loss = data["loss"]["series"][0]
    assert len(loss["steps"]) <= 600
    assert loss["steps"][-1] == 20_000
    assert max(loss["high"]) == 9.75


def test_large_inputs_of_every_kind_stay_below_the_limit(tmp_path):
    (tmp_path / "config.yaml").write_text("".join(f"key{i}: <&>{'v' * 50}\n" for i in range(50_000)))
    (tmp_path / "liveness.json").write_text(
        json.dumps({f"t{i}": {"ran": True, "evidence": "e" * 900} for i in range(5000)})
    )
    (tmp_path / "environment.json").write_text(json.dumps({f"v{i}": "x" * 100 for i in range(5000)}))
    for index in range(500):
        (tmp_path / f"file{index}").write_bytes(b"")
    page = structure(tmp_path)
    assert (tmp_path / "report.html").stat().st_size < MAX_BYTES
    assert "more are not listed" in " ".join(page.text)


def test_names_from_the_run_are_inert(tmp_path):
    folder = write_run(tmp_path / "demo" / "stamp", steps=60, name=EVIL)
    summary = summary_of(EVIL, exports=True)
    summary["bytes_by_class"] = {EVIL: summary["total_bytes"]}
    summary["hardware"] = {EVIL: EVIL}
    summary["exports"][EVIL] = {"ladder": [{"stage": EVIL, "bpb": 1.0, "protocol": EVIL, "coverage": EVIL}]}
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "liveness.json").write_text(json.dumps({EVIL: {EVIL: EVIL}}))
    (folder / "environment.json").write_text(json.dumps({EVIL: [EVIL]}))
    (folder / "config.yaml").write_text(f"a: {EVIL}\n{EVIL}\n# {EVIL}\n")
    (folder / "<img src=x onerror=alert(2)>.txt").write_text("")
    (folder / "stages" / "<b>stage").mkdir()
    (folder / "stages" / "<b>stage" / "manifest.json").write_text(json.dumps({"status": EVIL}))
    page = structure(folder)
    assert len(page.tagged("script")) == 2
    assert page.tagged("img") == []
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert loads_nothing(page)


def test_exports_have_one_ladder_each(tmp_path):
    page = structure(write_run(tmp_path / "demo" / "stamp", exports=True))
    assert [a["id"] for a in page.tagged("table") if a["id"].startswith("ladder")] == ["ladder-0", "ladder-1"]
    assert [a["id"] for a in page.tagged("table") if a["id"].startswith("bytes")] == ["bytes-0", "bytes-1"]


def test_bytes_that_do_not_add_up_are_said(tmp_path):
    summary = summary_of()
    summary["total_bytes"] += 5
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    text = " ".join(structure(tmp_path).text)
    assert "5 of 2,355,977 bytes" in text
    assert "not attributed" in text
    summary["total_bytes"] = 17_000_000
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    assert "1,000,000 bytes over the limit" in " ".join(structure(tmp_path).text)


def test_folder_that_is_missing_or_not_writable(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no run folder"):
        write_report(tmp_path / "nothing")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    old = write_report(tmp_path).read_bytes()
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(UserError, match="could not be written: Permission denied"):
        write_report(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_bytes() == old


def test_sweep_page_links_to_the_jobs_it_has(tmp_path):
    write_report(write_run(tmp_path / "0 #", steps=20))
    rows = [
        {"job": 0, "overrides": ["seed=1"], "bpb": 1.9, "bytes": 5, "seconds": 3, "status": "done", "folder": "0 #"},
        {"job": 1, "overrides": EVIL, "status": "failed", "folder": "../elsewhere"},
    ]
    page = Structure(write_sweep_report(tmp_path, rows).read_text())
    assert [a["href"] for a in page.tagged("a") if a["href"].startswith("./")] == ["./0%20%23/report.html"]
    assert "1 of 2 jobs scored" in " ".join(page.text)
    assert page.tagged("img") == []
    Structure(write_sweep_report(tmp_path, []).read_text())


def test_the_headline_says_when_a_part_of_the_split_was_scored():
    from golf.report.collect import RunData
    from golf.report.sections import headline

    def page(complete: bool) -> str:
        rung = {"stage": "sliding", "bpb": 1.5, "protocol": "sliding", "coverage": {"complete": complete}}
        return headline(RunData(Path("run"), {"ladder": [rung]}))

    assert "PARTIAL" in page(False)
    assert "PARTIAL" not in page(True)
