"""The record experiments: what was published of them stands in the file, the networks have the logged sizes, and each
trains, quantises, packs, is read back and scores in a tiny variant with all its parts."""

from __future__ import annotations

import re
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from tiny import records, shrink_quantisation, shrunk
from tiny_run import steps_of, tiny_run

from golf.config.build import build
from golf.config.check import find
from golf.config.code import to_override
from golf.config.compose import Composer, conf_dir
from golf.config.undeclared import undeclared
from golf.models.roles import roles_of

RECORDS = records()
ROOT = Path(__file__).resolve().parents[2]
FLOAT32 = ("hardware.compute_dtype=float32",)
PLACES = ("attn.c_q", "mlp.fc")
PUBLISHED_KEYS = {"folder", "bpb", "seeds", "bytes", "steps", "parameters"}
# Logged parameters that are not stored: a frozen 768 x 8192 head that nothing reads.
DEAD_PARAMETERS = {"0324_ternary_74m": 768 * 8192}


@lru_cache(maxsize=1)
def composer() -> Composer:
    return Composer("train")


@lru_cache(maxsize=64)
def composed(record: str) -> dict[str, Any]:
    return composer().compose([f"experiment=record/{record}", *FLOAT32])


def test_every_folder_of_the_track_is_there() -> None:
    assert len(RECORDS) == 46
    assert sum(name.startswith("03") for name in RECORDS) == 26
    folders = [composed(name)["published"]["folder"] for name in RECORDS]
    assert len(set(folders)) == 46


@pytest.mark.parametrize("record", RECORDS)
def test_record_says_what_was_published(record: str) -> None:
    published = composed(record)["published"]
    assert set(published) == PUBLISHED_KEYS
    assert published["folder"].startswith(f"2026-{record[:2]}-{record[2:4]}_")
    assert 1.06 < published["bpb"] < 1.23
    assert published["seeds"]
    text = (conf_dir() / "experiment" / "record" / f"{record}.yaml").read_text(encoding="utf-8")
    assert text.startswith(f"# @package _global_\n# python train.py experiment=record/{record} ")
    for key in ("bytes", "steps", "parameters"):
        assert f"{published[key]:,} {key}" in re.sub(r"\n# ", " ", text)
    assert composed(record)["name"] == record


@pytest.mark.parametrize("record", RECORDS)
def test_record_has_no_error(record: str) -> None:
    config = composed(record)
    assert find(config).errors == []
    assert undeclared(config, "train", conf_dir()) == []


@pytest.mark.parametrize("record", RECORDS)
def test_record_has_the_logged_number_of_parameters(record: str) -> None:
    config = composed(record)
    with torch.device("meta"):
        net = build(config["model"])
    stored = sum(parameter.numel() for parameter in net.parameters())
    assert stored == config["published"]["parameters"] - DEAD_PARAMETERS.get(record, 0)


def test_the_leaderboard_page_is_that_of_the_files() -> None:
    sys.path.insert(0, str(ROOT / "scripts"))
    from make_docs import leaderboard

    def experiment(name: str) -> dict[str, Any]:
        return (
            composed(name.removeprefix("record/"))
            if name.startswith("record/")
            else composer().compose([*FLOAT32, f"experiment={name}"])
        )

    page = leaderboard(experiment)
    assert (ROOT / "docs" / "leaderboard.md").read_text(encoding="utf-8") == page, "type python scripts/make_docs.py"
    headings = re.findall(r"^## `record/(\w+)`: ([\d.]+)(?:, [−+][\d.]+ from `[\w/]+`)?$", page, re.MULTILINE)
    assert [name for name, _ in headings] == RECORDS
    assert all(float(score) == composed(name)["published"]["bpb"] for name, score in headings)


def test_known_bad_details_are_off() -> None:
    for record in RECORDS:
        config = composed(record)
        assert config["optim"]["clip"] == "global"
        assert config["callbacks"]["warmup"]["keep_optimizer_state"] is False
        assert config["schedule"]["lr"].get("first_step_seconds", 0.0) == 0.0


ADAPTERS = {
    "0410_varlen_attention": ("lora", 96, 32, 1.0, False),
    "0413_varlen_phased_ttt": ("phased", 96, 32, 1.0, False),
    "0414_multiphase_ttt": ("phased", 96, 48, 1.0, False),
    "0416_attention_output_gate": ("lora", 96, 48, 1.0, False),
    "0423_sparse_gate_polar": ("phased", 96, 48, 1.5, True),
    "0427_lqer_sparse_gate_hp": ("phased", 80, 48, 1.8, True),
}
# record: codes of attention, MLP, embedding; clips in deviations (0: searched); batches of calibration; codec, level
SEARCHED = ("GptqSearch", 6, 6, 8, 0, 0, 0)
PUBLISHED_PACKING = {
    "0325_gptq_xsa_all": (*SEARCHED, "text", "LzmaCodec", 9),
    "0329_loader_full_gptq": (*SEARCHED, 64, "LzmaCodec", 6),
    "0331_parallel_residual_recurrence": ("GptqSearch", 5, 5, 8, 0, 0, 0, "text", "BrotliCodec", 11),
    "0401_vocab4096_mlp4": (*SEARCHED, 64, "BrotliCodec", 11),
    "0404_decoupled_lanes": (*SEARCHED, 64, "BrotliCodec", 11),
    "0405_sp8192_sdclip": ("Gptq", 6, 6, 8, 12.85, 12.85, 20, 64, "BrotliCodec", 11),
    "0409_loop35_parallel": ("Gptq", 6, 6, 8, 12.85, 12.85, 20, 64, "BrotliCodec", 11),
    "0413_varlen_phased_ttt": ("Gptq", 6, 6, 8, 12.85, 12.85, 20, 64, "BrotliCodec", 11),
    "0414_multiphase_ttt": ("Gptq", 6, 6, 7, 13, 12, 15, 16, "BrotliCodec", 11),
    "0416_attention_output_gate": ("Gptq", 6, 6, 7, 13, 12, 15, 64, "BrotliCodec", 11),
    "0422_mlp_clip12": ("Gptq", 6, 6, 7, 13, 12, 15, 16, "BrotliCodec", 11),
    "0427_smear_lqer": ("Gptq", 6, 6, 7, 13, 12, 15, 16, "BrotliCodec", 11),
    "0427_lqer_sparse_gate_hp": ("Gptq", 6, 6, 7, 13, 11.5, 14, 16, "GroupedZpaq", 5),
}
SELF_GENERATED = {"0325_gptq_xsa_all", "0331_parallel_residual_recurrence"}
SGD_RATES = {"0323_leaky_relu_parallel_muon": 0.002, "0406_qk5_ttt": 0.005, "0409_loop35_parallel": 0.005}


def test_records_learn_at_test_time_as_published() -> None:
    """The adapters' rank, chunk, scale and warm start, and the rate of SGD; everything else scores sliding windows."""
    learners = {name: composed(name)["ttt"] for name in RECORDS if "_target_" in composed(name)["ttt"]}
    assert len(learners) == 17
    for name, expected in ADAPTERS.items():
        node = learners[name]
        kind, lora = ("phased", node["lora"]) if "lora" in node else ("lora", node)
        scale = lora["alpha"] / lora["rank"] if lora["alpha"] else 1.0
        assert (kind, lora["rank"], lora["chunk"], scale, lora["warm_start"]) == expected
    for name, rate in SGD_RATES.items():
        assert (learners[name]["learning_rate"], learners[name]["epochs"]) == (rate, 3)
    phases = [(learners[f"{name}"]["documents"], learners[name]["phases"]) for name in list(ADAPTERS)[1:3]]
    assert phases == [(2000, 1), (2000, 3)]
    assert all(composed(name)["objective"] == "ttt" for name in learners)


def test_records_are_packed_as_published() -> None:
    """From 25 March on: GPTQ, its bits and clips by role, what it is calibrated on, the compressor."""
    for name in RECORDS:
        config = composed(name)
        assert ("calibration" in config["quant"]) == (name >= "0325"), name
    for name, expected in PUBLISHED_PACKING.items():
        config = composed(name)
        plan = build(config["quant"])
        with torch.device("meta"):
            state = build(config["model"]).state_dict()
        found = [
            plan.route(f"blocks.5.{place}.weight", state[f"blocks.5.{place}.weight"], "matrix") for place in PLACES
        ]
        found.append(plan.route("tok_emb.weight", state["tok_emb.weight"], "embedding"))
        formats = [getattr(treatment, "format", treatment) for treatment in found]
        clips = [0 if type(f).__name__ != "Gptq" else f.format.clip_factor for f in found]
        source = "text" if name in SELF_GENERATED else plan.calibration.batches
        codec = type(build(config["codec"])).__name__, config["codec"]["level"]
        bits = [fmt.bits for fmt in formats]
        assert (type(found[0]).__name__, *bits, *clips, source, *codec) == expected, name
        assert plan.route("blocks.5.attn.q_gain", state["blocks.5.attn.q_gain"], "scalar") == "float16"
    lqer = [name for name in RECORDS if composed(name)["quant"].get("correction")]
    assert lqer == ["0427_lqer_sparse_gate_hp", "0427_smear_lqer", "0429_smear_bosfix_3seed"]


def test_an_override_beats_what_records_inherit() -> None:
    config = composer().compose(["experiment=record/0427_lqer_sparse_gate_hp", "model/mlp=gelu", "budget=steps"])
    assert config["model"]["mlp"]["_target_"].endswith("Gelu")
    assert to_override("seed", config["seed"]) == "seed=1337"


def test_checking_a_record_is_fast_and_needs_no_torch() -> None:
    import subprocess

    begun = time.monotonic()
    code = "import sys; from golf.cli import main; code = main(['check', 'experiment=record/0429_smear_bosfix_3seed'])"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; assert 'torch' not in sys.modules; sys.exit(code)"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - begun < 10  # three seconds on a quiet machine


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shards")


@pytest.mark.parametrize("record", RECORDS)
def test_record_trains_packs_and_scores_in_a_tiny_variant(record: str, shards: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    config = shrunk(composed(record), layers=None)
    shrink_quantisation(config["quant"])
    losses: list[float] = []
    run = tiny_run(config, shards, tmp_path / "model.golf", lambda step, loss: losses.append(float(loss)))
    net = run.net
    assert sorted(roles_of(net)) == sorted(name for name, _ in net.named_parameters())
    assert len(losses) == steps_of(net)
    assert all(0 < loss < 10 for loss in losses)
    assert net.phase == len(net.plan.phases) - 1
    if "calibration" in config["quant"]:
        assert (run.ledger.tokens_read > 0) == (record not in SELF_GENERATED)
    unused = [note for note in run.quantised.notes if not note.startswith("blocks.0.attn")]  # 0331: it has no attention
    assert unused == []
    assert all(0 < result.bpb < 20 for result in run.scores.values())
    learns = "_target_" in config["ttt"]
    assert (run.scores["ttt"].record["updates"] > 0) if learns else "ttt" not in run.scores
    assert (run.found.quantised.tensors.keys(), run.again.phase) == (run.weights.keys(), net.phase)
