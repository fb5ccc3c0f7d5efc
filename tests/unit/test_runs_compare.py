"""`golf runs`, `compare` and `leaderboard`: on run folders as the pipeline leaves them, and on published entries."""

from __future__ import annotations

import io
import json
import math
import tarfile
from pathlib import Path

import pytest
import yaml
import zstandard

from golf import cli
from golf.pipeline.run_folder import RUN_VERSION

TOKENS, BYTES = 100_000, 240_000


def snapshot(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return zstandard.ZstdCompressor().compress(buffer.getvalue())


SOURCE = snapshot({"golf/loop.py": b"0", "golf/app.py": b"0"})


@pytest.fixture
def make_run(tmp_path, monkeypatch):
    """A finished run in runs/<name>/<job>: what `golf runs` reads of it."""
    monkeypatch.chdir(tmp_path)

    def make(name: str, job: int, seed: int, nats: float, rate: float = 0.02, **given) -> Path:
        folder = tmp_path / "runs" / name / str(job)
        folder.mkdir(parents=True)
        config = {"run_version": RUN_VERSION, "name": name, "seed": seed, "objective": "sliding", "through": "score"}
        config |= {"parent": None, "ablate": None, "optim": {"matrix_lr": rate}, "budget": {}} | given.get("config", {})
        overrides = given.get("overrides", [f"experiment={name}", f"seed={seed}"])
        size = given.get("bytes", BYTES)
        score = {"nats_per_token": nats, "tokens": TOKENS, "bytes": size, "bpb": nats * TOKENS / size / math.log(2)}
        ladder = [{"stage": "raw", **score, "bpb": score["bpb"] + 0.1}, {"stage": "sliding", **score}]
        summary = {"ladder": ladder, "total_bytes": 3_000_000 + job, "train_seconds": 90.0, "step_ms_p50": 10.0 + job}
        summary |= {"hardware": given.get("hardware", "a CPU"), "steps": 100, "rules": given.get("rules")}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        (folder / "overrides.yaml").write_text(yaml.safe_dump(overrides))
        (folder / "summary.json").write_text(json.dumps(summary))
        (folder / "source.tar.zst").write_bytes(given.get("source", SOURCE))
        return folder

    return make


def run(capsys, *argv: str) -> tuple[int, str, str]:
    code = cli.main(["runs", *argv])
    out = capsys.readouterr()
    return code, out.out, out.err


def three_seeds(make_run, name: str, nats: float, first_job: int = 0, **given) -> None:
    for index, wobble in enumerate((0.0, 0.002, -0.001)):
        make_run(name, first_job + index, index + 1, nats + wobble, **given)


def test_the_table_and_its_conditions(capsys, make_run):
    make_run("a", 0, 1, 2.0)
    make_run("a", 1, 2, 2.1, rate=0.04, rules={"failed": ["L5"]})
    code, out, _ = run(capsys)
    assert code == 0
    assert len(out.splitlines()) == 3
    assert "1 failed" in out
    code, out, _ = run(capsys, "--where", "optim.matrix_lr=0.04", "--json", "--price", "20")
    (only,) = json.loads(out)["runs"]
    assert (only["seed"], only["experiment"], only["stage"], only["rules_failed"]) == (2, "a", "sliding", ["L5"])
    assert only["cost_usd"] == pytest.approx(20 * 90 / 3600)
    assert only["bpb"] == pytest.approx(2.1 * TOKENS / BYTES / math.log(2))
    for condition, seeds in (("bpb<1.23", [1]), ("seed!=1", [2]), ("seed>=1", [1, 2]), ("parent=null", [1, 2])):
        found = json.loads(run(capsys, "--where", condition, "--json")[1])["runs"]
        assert [row["seed"] for row in found] == seeds, condition


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--where", "sed=1"], "nearest: seed"),
        (["--where", "seed"], "allowed are KEY=VALUE"),
        (["list", "nowhere"], "nowhere: no such folder"),
        (["compare", "runs/a"], "there is only one entry (a)"),
        (["compare", "runs/a", "record/0427_lqer_sparse_gate_h"], "nearest: record/0427_lqer_sparse_gate_hp"),
        (["compare", "runs/a", "runs/b", "--policy", "none"], "type --policy challenge_0.005_nats_p01"),
        (["compare", "runs/a", "runs/b", "--stage", "ttt"], "no run with a ttt; scored are: raw, sliding"),
        (["compare", "runs/a", "runs/other_text"], "scores of different texts cannot be compared"),
        (["compare", "runs/a/0,runs/b/0", "runs/b"], "optim.matrix_lr differ"),
        (["compare", "runs/a/0,runs/old_code/0", "runs/b"], "ran different code: golf/loop.py"),
    ],
)
def test_errors_are_one_line(capsys, make_run, argv, words):
    make_run("a", 0, 1, 2.0)
    make_run("b", 0, 1, 2.1, rate=0.04)
    make_run("other_text", 0, 1, 2.0, rate=0.03, bytes=250_000)
    make_run("old_code", 0, 2, 2.0, source=snapshot({"golf/loop.py": b"1", "golf/app.py": b"0"}))
    code, _, err = run(capsys, *argv)
    assert code == 2
    assert err.count("\n") == 1
    assert words in err


def test_compare_pairs_seeds_and_gives_a_verdict(capsys, make_run):
    three_seeds(make_run, "mine", 1.98, rate=0.03)
    three_seeds(make_run, "theirs", 2.0)
    code, out, _ = run(capsys, "compare", "runs/mine", "runs/theirs", "--json", "--policy", "research_p05")
    assert code == 0
    (found,) = json.loads(out)["comparisons"]
    assert (found["unit"], found["verdict"]) == ("nats_per_token", "better")
    assert found["pairs"]["gain"] == pytest.approx(0.02)
    assert found["any_gain"]["gain"] == pytest.approx(0.02)
    told = run(capsys, "compare", "runs/mine", "runs/theirs")[1]
    assert "mine against theirs" in told
    assert "p = 4.4e-05 of no gain" in told
    assert "challenge_0.005_nats_p01: better" in told
    worse = run(capsys, "compare", "runs/theirs", "runs/mine")[1]
    assert "challenge_0.005_nats_p01: worse" in worse


def test_a_small_gain_says_how_many_seeds_it_needs(capsys, make_run):
    three_seeds(make_run, "mine", 1.992, rate=0.03)
    three_seeds(make_run, "theirs", 2.0)
    told = run(capsys, "compare", "runs/mine", "runs/theirs")[1]
    assert "challenge_0.005_nats_p01: not shown: needs " in told
    single = run(capsys, "compare", "runs/mine/0", "runs/theirs/0")[1]
    assert "one seed says nothing about chance" in single
    assert "not shown: a test needs two seeds of each" in single


def test_a_sweep_is_split_into_its_entries_and_compared_with_the_parent(capsys, make_run):
    mine = {"parent": "theirs"}
    three_seeds(make_run, "s", 2.0, overrides=["experiment=theirs"])
    three_seeds(make_run, "s", 1.98, 3, overrides=["experiment=mine"], config=mine, rate=0.03)
    without = {**mine, "ablate": "optim"}
    three_seeds(make_run, "s", 1.99, 6, overrides=["experiment=mine", "ablate=optim"], config=without, rate=0.05)
    found = json.loads(run(capsys, "compare", "runs/s", "--json")[1])
    pairs = [(item["new"], item["old"]) for item in found["comparisons"]]
    assert pairs == [("mine", "theirs"), ("mine without optim", "mine")]
    told = run(capsys, "compare", "s")[1]
    assert "2 comparisons: one of them may look good by chance" in told


def test_different_hardware_is_not_paired(capsys, make_run):
    three_seeds(make_run, "mine", 1.98, rate=0.03)
    three_seeds(make_run, "theirs", 2.0, hardware="another")
    told = run(capsys, "compare", "runs/mine", "runs/theirs")[1]
    assert "different hardware" in told
    assert "paired by seed" not in told


def test_a_seed_that_ran_twice_counts_once(capsys, make_run):
    three_seeds(make_run, "mine", 1.98, rate=0.03)
    make_run("mine", 9, 1, 1.95, rate=0.03)
    three_seeds(make_run, "theirs", 2.0)
    found = json.loads(run(capsys, "compare", "runs/mine", "runs/theirs", "--json")[1])["entries"][0]
    assert len(found["scores"]) == 3
    assert "seed 1 ran more than once" in found["notes"][0]


def test_the_leaderboard_and_a_place_on_it(capsys, make_run):
    listed = json.loads(run(capsys, "leaderboard", "--json")[1])["published"]
    assert len(listed) >= 40
    best = min(listed, key=lambda entry: entry["bpb"])
    assert best["bpb"] == pytest.approx(1.06107587)
    official, tokens = 151_080_363, 62_021_632
    nats = 1.1 * official / tokens * math.log(2)
    for seed in (1, 2):
        folder = make_run("mine", seed, seed, nats)
        summary = json.loads((folder / "summary.json").read_text())
        summary["ladder"][-1] |= {"tokens": tokens, "bytes": official, "bpb": 1.1 + seed * 1e-4, "nats_per_token": nats}
        (folder / "summary.json").write_text(json.dumps(summary))
    (placed,) = json.loads(run(capsys, "leaderboard", "runs/mine", "--json")[1])["placed"]
    assert placed["place"] == 1 + sum(entry["bpb"] < placed["bpb"] for entry in listed)
    assert placed["margin_bpb"] == pytest.approx(0.0029613, rel=1e-4)
    assert placed["still_to_gain_bpb"] == pytest.approx(placed["bpb"] - best["bpb"] + placed["margin_bpb"])
    assert "still to gain: 0.04" in run(capsys, "leaderboard", "runs/mine")[1]
    make_run("small", 0, 1, 2.0)
    assert "no place" in run(capsys, "leaderboard", "runs/small")[1]
