"""`golf audit` on a real run: nothing of it is flagged, what is tampered with is, and the report says what was done."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from golf.errors import UserError
from golf.rules.audit import audit, main
from golf.rules.profile import load_profile, make_profile
from golf.rules.registry import RULES
from golf.rules.subject import open_subject

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
TINY = (
    "experiment=smoke",
    "budget.max_steps=4",
    "hardware=cpu",
    "hardware.compile=false",
    "hardware.threads=1",
    "hardware.compute_dtype=float32",
    "data.train_tokens=60000",
    "data.val_tokens=400",
    "eval.max_tokens=0",
)


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A run through every stage, scored whole; its train_gpt.py is the whole program, which is quicker to write."""
    from golf.app import run_pipeline
    from golf.config.compose import compose
    from golf.pipeline.run_folder import create_run_folder
    from golf.training.resolve import resolve_config

    texts = [*TINY, f"data.folder={tmp_path_factory.mktemp('data')}"]
    folder = tmp_path_factory.mktemp("runs") / "smoke" / "first"
    made = create_run_folder(folder, resolve_config(compose("train", texts)), texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("golf.submission.flatten.specialised_text", lambda text: text)
        run_pipeline(made)
    return folder


@pytest.fixture(scope="session")
def report(run):
    return audit(open_subject(run), load_profile("strict"))


def copy_of(run, tmp_path):
    folder = tmp_path / "smoke" / "copy"
    shutil.copytree(run, folder)
    return folder


def tampered(run, tmp_path, name, change):
    folder = copy_of(run, tmp_path)
    content = json.loads((folder / name).read_text())
    change(content)
    (folder / name).write_text(json.dumps(content))
    return open_subject(folder, quick=True)


def test_a_run_of_golf_fails_nothing(report):
    # Four steps are too few for techniques that come late, which is what H2 is there to say.
    assert set(report["failed"]) <= {"H2"}, [entry for entry in report["rules"] if entry["outcome"] == "fail"]
    assert set(report["tested_by_behaviour"]) >= {"L1", "L2", "L3", "L4", "L5", "L6", "L7", "L14", "L15", "L16", "L27"}


def test_every_rule_says_what_it_did(report):
    assert [entry["id"] for entry in report["rules"]] == list(RULES)
    for entry in report["rules"]:
        assert entry["title"]
        assert entry["status"]
        assert entry["reason"]
        assert "\n" not in entry["reason"]
        assert (entry["how"] != "") == (entry["outcome"] in ("pass", "fail"))
        assert entry["remedy"] or entry["outcome"] in ("pass", "not applicable")
    assert "legal" not in json.dumps([entry["reason"] for entry in report["rules"]])


def test_the_sandbox_scores_what_the_run_scored(report):
    assert next(entry for entry in report["rules"] if entry["id"] == "L16")["evidence"]["bpb"]


def test_a_partial_split_is_caught(run, tmp_path, outcomes):
    def cut(summary):
        summary["ladder"][-1]["coverage"] |= {"scored": 10, "never_scored": 390, "complete": False}

    assert outcomes(tampered(run, tmp_path, "summary.json", cut), "L7") == {"L7": "fail"}


@pytest.mark.parametrize(("left_over", "outcome"), [(15, "pass"), (199, "fail")])
def test_an_end_that_fills_no_window_is_counted(left_over, outcome, run, tmp_path, outcomes):
    """A window of half the split leaves the other half out, and every target of the rest is scored once."""

    def longer(summary):
        assert summary["ladder"][-1]["coverage"]["left_over"] == 15  # 399 targets in windows of 32
        summary["ladder"][-1]["coverage"]["left_over"] = left_over

    assert outcomes(tampered(run, tmp_path, "summary.json", longer), "L7") == {"L7": outcome}


def test_slow_clocks_are_caught(run, tmp_path, outcomes):
    def slow(summary):
        summary["train_seconds"] = 601.153

    assert outcomes(tampered(run, tmp_path, "summary.json", slow), "L22") == {"L22": "fail"}


def test_state_that_no_file_holds_is_caught(run, tmp_path, outcomes):
    def lost(summary):
        next(entry for entry in summary["ladder"] if entry["stage"] == "quantised")["bpb"] += 2.62

    assert outcomes(tampered(run, tmp_path, "summary.json", lost), "L27") == {"L27": "fail"}


@pytest.mark.parametrize("technique", ["qat", "average (ExponentialAverage)", "schedule.weight_decay (Taper)"])
def test_dead_switches_are_caught(technique, run, tmp_path, outcomes):
    def dead(liveness):
        liveness["techniques"].append({"technique": technique, "alive": False})

    assert outcomes(tampered(run, tmp_path, "liveness.json", dead), "H2") == {"H2": "fail"}


def test_a_damaged_model_is_no_traceback(run, tmp_path, outcomes):
    folder = copy_of(run, tmp_path)
    artifact = folder / "artifact" / "default" / "model.golf"
    artifact.write_bytes(artifact.read_bytes()[:-20])
    found = outcomes(open_subject(folder), "L1", "L16", "L27")
    assert found == {"L1": "cannot tell", "L16": "fail", "L27": "fail"}


def test_the_command_writes_rules_json_and_ends_with_its_code(run, tmp_path, capsys):
    folder = copy_of(run, tmp_path)
    assert main([str(folder), "--quick", "--profile", "challenge"]) == 0
    assert "This is no ruling" in capsys.readouterr().out
    written = json.loads((folder / "rules.json").read_text())
    assert written["profile"] == "challenge"
    (folder / "artifact" / "default" / "model.golf").write_bytes(b"GOLF" + bytes(16_000_000))
    assert main([str(folder), "--quick", "--rules", "L20", "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["failed"] == ["L20"]
    assert main([str(folder), "--quick", "--rules", "L20", "--profile", "none"]) == 0


def test_the_referee_at_the_end_of_a_run(run, tmp_path):
    from golf.pipeline.run_folder import RunFolder, open_run_folder
    from golf.pipeline.summary import write_summary
    from golf.rules.at_end import audit_run

    opened = open_run_folder(copy_of(run, tmp_path))
    assert audit_run(opened) is None
    strict = {"name": "strict", "counted": "all"}
    report = audit_run(RunFolder(opened.path, {**opened.config, "rules": strict}))
    assert report["tested_by_behaviour"] == []
    assert write_summary(opened)["rules"] == {name: report[name] for name in write_summary(opened)["rules"]}


def test_a_packed_model_alone_is_audited(run, tmp_path, outcomes):
    path = tmp_path / "model.golf"
    shutil.copy(run / "artifact" / "default" / "model.golf", path)
    found = outcomes(open_subject(path), "L1", "L2", "L3", "L6", "L7", "L16", "L28")
    assert {found[rule] for rule in ("L1", "L2", "L3", "L6", "L7")} == {"pass"}
    assert {found[rule] for rule in ("L16", "L28")} == {"cannot tell"}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["nowhere"], "does not exist"),
        (["{folder}"], "neither a run"),
        (["{file}"], "no line with val_loss"),
        (["{file}", "--profile", "stric"], "nearest: strict"),
        (["{file}", "--rules", "L99"], "no such rule"),
        (["{file}", "--quiet"], "unrecognized arguments"),
        ([], "or --list"),
        (["{file}", "--upstream", "mlp_powr=3"], "nearest: mlp_power"),
    ],
    ids=str,
)
def test_bad_input_is_one_line(argv, words, tmp_path):
    (tmp_path / "empty.log").write_text("nothing\n")
    places = {"{folder}": str(tmp_path), "{file}": str(tmp_path / "empty.log")}
    with pytest.raises(UserError, match=words) as raised:
        main([places.get(text, text) for text in argv])
    assert "\n" not in str(raised.value)


def test_rules_are_listed_with_their_status_and_threads(capsys):
    assert main(["--list", "--profile", "challenge", "--json"]) == 0
    entries = {entry["id"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert list(entries) == list(RULES)
    assert [f"L{number}" for number in range(1, 34)] == [name for name in entries if name.startswith("L")]
    assert all(entry["sources"] or entry["status"] == ["README"] for entry in entries.values())
    assert (entries["L8"]["status"], entries["L8"]["counted"], entries["L1"]["counted"]) == (["open"], False, True)
    assert main(["--list"]) == 0
    assert "L10  community, open" in capsys.readouterr().out


def test_profiles():
    assert set(load_profile("strict").counted) == set(RULES)
    assert not load_profile("none").counted
    assert set(load_profile("challenge").counted) < set(RULES)
    assert load_profile("as_merged_2026_04").gain_p == 0.25
    with pytest.raises(UserError, match="L99"):
        make_profile({"counted": ["L99"]})
    with pytest.raises(UserError, match="counted"):
        make_profile({"count": "all"})
