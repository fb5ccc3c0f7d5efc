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
        ({"val_tokens": 9_660_000, "bpb": 1.20737944 / 1.2}, "L29"),
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


def test_a_part_of_the_split_is_no_wrong_byte_table(log, outcomes):
    """#1854: what it leaves out is L7's; its bytes are those of its tokens."""
    assert outcomes(log(val_tokens=9_660_000), "L7", "L29") == {"L7": "fail", "L29": "cannot tell"}


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


# Lines of public logs, by family of scripts: what each says of the same run.
FORMATS = {
    "march": """val_loader:shards pattern=fineweb_val_*.bin tokens:62021632
world_size:8 grad_accum_steps:1
seed:1337
step:7185/9000 val_loss:1.9199 val_bpb:1.1369 train_time:598012ms step_avg:83.51ms
stopping_early: wallclock_cap train_time:598012ms step:7185/9000
Serialized model int6+lzma: 15909118 bytes
Total submission size int6+lzma: 15990006 bytes
final_int6_sliding_window val_loss:1.9 val_bpb:1.12 stride:64 eval_time:73000ms
legal_ttt val_loss:1.8898 val_bpb:1.1192 eval_time:409000ms
legal_ttt_exact val_loss:1.88976776 val_bpb:1.11922988
""",
    "april": """val_tokens: 62021632
world_size: 8
  seed: 1337
7185/20000 val_loss: 1.9199 val_bpb: 1.1369
7000/20000 train_loss: 1.9 train_time: 9.9m tok/s: 7500000
stopping_early: wallclock_cap train_time: 598012ms step: 7185/20000
Serialized model quantized+brotli: 15909118 bytes
Total submission size quantized+brotli: 15990006 bytes
quantized_ttt_phased val_loss:1.88976776 val_bpb:1.11922988 eval_time:408000ms
total_eval_time:409.0s
""",
    "keyword": """world_size=8 seed=1337 val_tokens=62,021,632
[step 7185] val_bpb=1.1369 | val_loss=1.9199 | train_time=598.012s
serialized_model_int8_zlib:15909118 bytes
Total bytes: 15,990,006
final: val_bpb=1.11922988, val_loss=1.88976776, eval_time=409.0s
""",
}


@pytest.mark.parametrize("family", FORMATS)
def test_every_family_of_logs_is_read(family, tmp_path, outcomes):
    path = tmp_path / "train.log"
    path.write_text(FORMATS[family])
    subject = open_subject(path)
    facts = subject.facts[0]
    assert (facts.final.loss, facts.final.bpb) == (1.88976776, 1.11922988)
    assert (facts.seed, facts.world_size, facts.val_tokens) == (1337, 8, 62_021_632)
    assert (facts.train_seconds, facts.eval_seconds) == (598.012, 409.0)
    assert (facts.total_bytes, facts.artifact_bytes) == (15_990_006, 15_909_118)
    assert facts.scores[0].step == 7185
    assert outcomes(subject, "L7", "L20", "L29") == {"L7": "pass", "L20": "pass", "L29": "pass"}
    path.write_text(FORMATS[family].replace("1.11922988", "1.09000000"))  # as if there were more bytes
    assert outcomes(open_subject(path), "L29") == {"L29": "fail"}


def test_minutes_are_no_clock(tmp_path, outcomes):
    path = tmp_path / "train.log"
    path.write_text("1/2 val_loss: 2.0 val_bpb: 1.2 train_time: 10.0m\n")
    assert outcomes(open_subject(path), "L22") == {"L22": "cannot tell"}


@pytest.mark.parametrize("pack", ["lzma", "zlib", "bz2"])
def test_a_packed_script_is_read_without_running_it(pack, entry, outcomes):
    import base64
    import importlib

    folder = entry()
    inside = "import torch\nimport {}\nraise SystemExit('this must not run')\n" + "x = 1\n" * 40
    for module, outcome in (("socket", "fail"), ("math", "pass")):
        blob = importlib.import_module(pack).compress(
            inside.format(module).encode() + bytes(f"# {id(module)}", "ascii")
        )
        text = base64.b85encode(blob).decode()
        (folder / "train_gpt.py").write_text(
            f"import base64,{pack}\nexec({pack}.decompress(base64.b85decode({text!r})))\n"
        )
        assert outcomes(open_subject(folder), "L18") == {"L18": outcome}
    (folder / "train_gpt.py").write_text(
        "import base64,zlib\nexec(zlib.decompress(base64.b85decode('" + "q" * 300 + "')))\n"
    )
    assert outcomes(open_subject(folder), "L18") == {"L18": "cannot tell"}
