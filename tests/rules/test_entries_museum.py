"""Faults of logs and submission folders: sizes, clocks, seeds, claims, bytes. No torch, no network, no data."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from entries import MODEL_BYTES, SCRIPT, log_text, write_entry

from golf.rules.byte_fingerprint import KNOWN_COUNTS, SPLIT_BYTES, implied_bytes
from golf.rules.facts import facts_from_log
from golf.rules.subject import open_subject


@pytest.fixture
def entry(tmp_path):
    return lambda logs=None, **claims: write_entry(tmp_path / "entry", logs, **claims)


@pytest.fixture
def log(tmp_path):
    def write(**changes):
        path = tmp_path / "train.log"
        path.write_text(log_text(**changes))
        return open_subject(path)

    return write


def test_a_whole_entry_fails_nothing(entry, outcomes):
    found = outcomes(open_subject(entry()))
    assert [rule for rule, outcome in found.items() if outcome == "fail"] == []
    passing = {"L7", "L18", "L20", "L21", "L22", "L23", "L25", "L26", "L29", "L32", "L33", "H1"}
    assert {rule for rule, outcome in found.items() if outcome == "pass"} == passing


def test_templates_in_a_log_are_no_numbers():
    facts = facts_from_log(log_text(), "train_seed5.log")
    assert [score.label for score in facts.scores if score.step is None][-1] == "final_int8_zlib_roundtrip_exact"
    assert (facts.final.loss, facts.final.bpb, facts.eval_seconds) == (2.03860961, 1.20737944, 70.0)
    assert (facts.train_seconds, facts.train_shards, facts.val_tokens) == (598.0, 80, 62_021_632)
    assert (facts.code_bytes, facts.artifact_bytes) == (len(SCRIPT), MODEL_BYTES)
    assert facts.on_eight_h100


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"train_ms": 601_153}, "L22"),
        ({"train_ms": 600_001}, "L22"),
        ({"train_ms": 599_700, "calibration": 3.6}, "L23"),
        ({"train_ms": 599_700, "calibration": 3.6}, "L26"),
        ({"eval_ms": 602_000}, "L25"),
        ({"train_shards": 1499}, "L15"),
        ({"val_tokens": 9_660_000}, "L7"),
        ({"val_tokens": 62_023_616}, "L7"),
        ({"model_bytes": 16_300_000}, "L20"),
        ({"model_bytes": 15_999_990}, "L20"),
        ({"bpb": 1.20737944 / 1.0413}, "L29"),
        ({"bpb": 1.20737944 * 151.08 / 186.2}, "L29"),
        ({"zero_bpb": 3.8873}, "L29"),
    ],
    ids=str,
)
def test_a_fault_in_a_log_is_caught(changes, rule, log, outcomes):
    assert outcomes(log(**changes), rule) == {rule: "fail"}


def test_hints_computed_before_the_clock_are_caught(tmp_path, outcomes):
    path = tmp_path / "train.log"
    hints, timer = "ngram_tilt:precompute_done elapsed=167.67s total_targets=1\n", "beginning TTT eval timer\n"
    path.write_text(log_text() + hints + timer)
    assert outcomes(open_subject(path), "L25", "L26") == {"L25": "fail", "L26": "fail"}
    path.write_text(log_text() + timer + hints)
    assert outcomes(open_subject(path), "L25")["L25"] == "pass"


def test_a_log_of_other_hardware_says_nothing_of_the_limit(tmp_path, outcomes):
    path = tmp_path / "train.log"
    path.write_text(log_text().replace("NVIDIA H100 80GB HBM3", "NVIDIA GeForce RTX 3090"))
    assert outcomes(open_subject(path), "L22")["L22"] == "cannot tell"


@pytest.mark.parametrize(
    ("logs", "claims", "rule"),
    [
        ({7: {"matrix_lr": 0.05}}, {}, "L32"),
        ({7: {"val_tokens": 62_023_616}}, {}, "L32"),
        ({}, {"val_bpb": 1.2050}, "H1"),
        ({}, {"val_bpb": 1.2050}, "L32"),
        ({}, {"bytes_total": 15_000_000}, "H1"),
        ({}, {"bytes_total": 16_186_500}, "L20"),
        ({}, {"seeds": [1337, 42]}, "L19"),
        ({seed: {"code_bytes": len(SCRIPT) - 20} for seed in (1337, 42, 7)}, {"bytes_code": len(SCRIPT) - 20}, "L20"),
    ],
    ids=str,
)
def test_a_fault_in_an_entry_is_caught(logs, claims, rule, entry, outcomes):
    assert outcomes(open_subject(entry(logs, **claims)), rule) == {rule: "fail"}


def test_a_raw_count_beside_a_packed_one_is_fine(entry, outcomes):
    folder = entry()
    for path in folder.glob("*.log"):
        raw = f"Code size (uncompressed): 191274 bytes\nCode size (compressed): {len(SCRIPT)} bytes\n"
        path.write_text(path.read_text().replace(f"Code size: {len(SCRIPT)} bytes\n", raw))
    assert outcomes(open_subject(folder), "L20")["L20"] == "pass"


def test_mebibytes_are_named(entry, strict):
    from golf.rules.registry import RULES

    verdict = RULES["L20"].check(open_subject(entry(bytes_total=16_054_963)), strict)
    assert "mebibytes" in verdict.reason


@pytest.mark.parametrize("name", ["helper.py", "kernels/fused.cu", "mix.c"])
def test_a_helper_file_is_caught(name, entry, outcomes):
    folder = entry()
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("x = 1\n")
    assert outcomes(open_subject(folder), "L21") == {"L21": "fail"}


def test_code_that_reaches_out_is_caught(entry, outcomes):
    folder = entry()
    (folder / "train_gpt.py").write_text("import torch\nfrom huggingface_hub import hf_hub_download\n")
    assert outcomes(open_subject(folder), "L18") == {"L18": "fail"}
    (folder / "train_gpt.py").write_text("import torch\nimport mystery\n")
    assert outcomes(open_subject(folder), "L18") == {"L18": "fail"}
    (folder / "requirements.txt").write_text("mystery==1.0\n")
    assert outcomes(open_subject(folder), "L18") == {"L18": "pass"}


@pytest.mark.parametrize("name", ["README.md", "submission.json", "train_gpt.py"])
def test_an_incomplete_folder_is_caught(name, entry, outcomes):
    folder = entry()
    (folder / name).unlink()
    assert outcomes(open_subject(folder), "L33") == {"L33": "fail"}


def test_a_script_that_does_not_parse_is_caught(entry, outcomes):
    folder = entry()
    (folder / "train_gpt.py").write_text("def broken(:\n")
    assert outcomes(open_subject(folder), "L33") == {"L33": "fail"}


def test_a_stale_log_is_caught(entry, outcomes):
    folder = entry(val_bpb=1.1502)
    assert outcomes(open_subject(folder), "H1") == {"H1": "fail"}


def test_gains_are_tested_against_the_bar(entry, tmp_path, outcomes):
    better = {
        1337: {"loss": 2.0286, "bpb": 1.20145},
        42: {"loss": 2.0288, "bpb": 1.20157},
        7: {"loss": 2.0284, "bpb": 1.20133},
    }
    subject = open_subject(write_entry(tmp_path / "new", better))
    assert outcomes(subject, "L31")["L31"] == "cannot tell"
    subject.against = open_subject(entry()).facts
    assert outcomes(subject, "L31")["L31"] == "pass"
    subject.against, same = subject.facts, open_subject(entry())
    same.against = subject.facts
    assert outcomes(same, "L31")["L31"] == "fail"


@pytest.mark.parametrize("known", KNOWN_COUNTS, ids=lambda known: known.name)
def test_published_pairs_imply_their_bytes(known):
    loss = 2.0
    bpb = loss / 0.6931471805599453 * known.targets / known.bytes
    assert implied_bytes(known.targets, loss, bpb) == pytest.approx(known.bytes, abs=1)
    assert known.whole == (abs(known.bytes / SPLIT_BYTES[0] - 1) < 0.001 and "targets" not in known.note) or known.note


def test_logs_are_audited_without_torch(tmp_path):
    path = tmp_path / "train.log"
    path.write_text(log_text(train_ms=601_153))
    program = f"import sys, golf.cli; code = golf.cli.main(['audit', {str(path)!r}, '--json']); " \
              "print(code, sorted({'torch', 'lightning'} & set(sys.modules)), file=sys.stderr)"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "4 []"
    assert "L22" in json.loads(done.stdout)["failed"]
