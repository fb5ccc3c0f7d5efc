"""One good and one bad config for each cross check, and keys that nothing reads."""

from __future__ import annotations

import pytest

from golf.config import cross_checks
from golf.config.undeclared import misplaced_package, undeclared

CASES = [
    ("moved_keys", {"trainer": {"devices": None}}, {"trainer": {"devices": 2}}, "type hardware.devices=2"),
    ("moved_keys", {}, {"trainer": {"max_time": "00:10"}}, "type budget.max_seconds=<seconds>"),
    ("moved_keys", {}, {"trainer": {"accumulate_grad_batches": 4}}, "type data.tokens_per_step=<tokens>"),
    ("non_positive", {"model": {"width": 8}}, {"model": {"width": 0}}, "type model.width=1"),
    ("non_positive", {"budget": {"max_steps": 0}}, {"budget": {"max_steps": -1}}, "type budget.max_steps=0"),
    (
        "model_sizes",
        {"model": {"width": 512, "num_heads": 8, "num_kv_heads": 4}},
        {"model": {"width": 512, "num_heads": 7}},
        "type model.num_heads=8",
    ),
    ("model_sizes", {}, {"model": {"num_heads": 8, "num_kv_heads": 3}}, "type model.num_kv_heads=2"),
    (
        "token_batches",
        {"data": {"tokens_per_step": 512, "seq_len": 32, "spans_per_step": 8}, "hardware": {"devices": 4}},
        {"data": {"tokens_per_step": 500, "seq_len": 32, "spans_per_step": 8}},
        "type data.tokens_per_step=512",
    ),
    ("token_batches", {}, {"data": {"tokens_per_step": 1048570, "seq_len": 1024}}, "type data.tokens_per_step=1048576"),
    ("token_batches", {}, {"data": {"spans_per_step": 8}, "hardware": {"devices": 3}}, "type hardware.devices=2"),
    ("windows", {"eval": {"stride": 64, "seq_len": 0}}, {"eval": {"stride": 64, "seq_len": 32}}, "type eval.stride=32"),
    ("windows", {}, {"eval": {"stride": 64, "seq_len": 0}, "data": {"seq_len": 32}}, "type eval.stride=32"),
    ("windows", {}, {"eval": {"stride": 0}}, "type eval.stride=64"),
    (
        "schedule_fractions",
        {"schedule": {"lr": {"warmup_fraction": 0.1, "warmdown_fraction": 0.9}}},
        {"schedule": {"lr": {"warmup_fraction": 0.25, "warmdown_fraction": 0.9}}},
        "type schedule.lr.warmdown_fraction=0.75",
    ),
    ("schedule_fractions", {}, {"average": {"start_fraction": 1.5}}, "type average.start_fraction=1"),
    (
        "schedule_fractions",
        {"schedule": {"lr": {"warmdown_steps": 9}}, "budget": {"max_steps": 10}},
        {"schedule": {"lr": {"warmdown_steps": 12}}, "budget": {"max_steps": 10}},
        "type schedule.lr.warmdown_steps=5",
    ),
    ("averaging", {"average": {"decay": None}}, {"average": {"decay": 1.0}}, "type average.decay=0.997"),
    ("averaging", {}, {"average": {"decay": 0.9}, "budget": {"max_steps": 1}}, "type average=none"),
    (
        "vocabulary",
        {"model": {"vocab_size": 260}, "tokenizer": {"vocab_size": 260, "path": "bytes"}},
        {"tokenizer": {"vocab_size": 1024, "path": "bytes"}},
        "type tokenizer.vocab_size=260",
    ),
    ("vocabulary", {}, {"model": {"vocab_size": 8}, "data": {"vocab_size": 9}}, "set only tokenizer.vocab_size"),
    (
        "qat_start",
        {"qat": {"_target_": "golf.quant.qat.Qat", "at": 0.5}},
        {"qat": {"_target_": "golf.quant.qat.Qat", "at": 1.5}},
        "type qat.at=0.85",
    ),
    ("run_keys", {"seed": 1, "through": "score", "name": "a"}, {"seed": "x"}, "type seed=1337"),
    ("run_keys", {}, {"through": "scor"}, "type through=score"),
    ("run_keys", {}, {"objective": "slidng"}, "type objective=sliding"),
    ("run_keys", {}, {"name": "a/b"}, "type name=run"),
    ("run_keys", {}, {"name": 3}, "type name='3'"),
    ("inputs", {"run": "a", "artifact": None}, {"run": None, "artifact": None}, "type run=<run folder>"),
    ("inputs", {}, {"run": "a", "artifact": "b"}, "leave one of them out"),
    (
        "monitors",
        {"callbacks": {"stop": {"monitor": "val/bpb"}}, "trainer": {"val_check_steps": 9}},
        {"callbacks": {"stop": {"monitor": "val/bpb"}}, "trainer": {"val_check_steps": 0}},
        "type trainer.val_check_steps=100",
    ),
    (
        "monitors",
        {"callbacks": {"budget": None, "stop": {"monitor": None}}, "trainer": {"val_check_steps": 0}},
        {"callbacks": {"stop": {"monitor": "val_bpb"}}, "trainer": {"val_check_steps": 9}},
        "type callbacks.stop.monitor=val/bpb",
    ),
    ("starts", {"init_from": "a", "ckpt_path": None}, {"init_from": "a", "ckpt_path": "b"}, "leave init_from out"),
    ("starts", {"trainer": {"profiler": None}}, {"trainer": {"profiler": "simpel"}}, "type trainer.profiler=simple"),
    (
        "model_parts",
        {"model": {"num_layers": 11, "xsa": {"last_n": 11}}},
        {"model": {"num_layers": 11, "xsa": {"last_n": 12}}},
        "type model.xsa.last_n=11",
    ),
    (
        "schedule_fractions",
        {"schedule": {"seq_len": {"stages": [[0, 256], [0.5, 512]]}}},
        {"schedule": {"seq_len": {"stages": [[0, 256], [1.2, 512]]}}},
        "would never begin",
    ),
    (
        "codec_package",
        {"codec": {"_target_": "golf.codec.lzma_codec.LzmaCodec"}},
        {"codec": {"_target_": "golf.codec.zpaq_codec.ZpaqCodec"}},
        "pip install 'zpaq', or type codec=lzma",
    ),
    (
        "unused_ttt",
        {"ttt": {"_target_": "golf.ttt.sgd.SgdTtt"}, "eval": {"ttt": {"_target_": "golf.ttt.sgd.SgdTtt"}}},
        {"ttt": {"_target_": "golf.ttt.sgd.SgdTtt"}, "eval": {"stride": 64}},
        "type eval=ladder, or ttt=none",
    ),
    ("as_run", {"quant": {}}, {"optim": {}, "quant": {}}, "type quant=int8_rows"),
    (
        "sparsity_stages",
        {"sparsity": {"_target_": "golf.quant.gradual_pruning.GradualPruning", "at": 0.2, "until": 0.8, "share": 0.5}},
        {"sparsity": {"_target_": "golf.quant.gradual_pruning.GradualPruning", "at": 0.8, "until": 0.2, "share": 0.5}},
        "type sparsity.at=0.2 sparsity.until=0.8",
    ),
    (
        "hardware_scales",
        {"hardware": {"step_scale": 0.5, "rank_timeout_seconds": 0}},
        {"hardware": {"step_scale": 0.0, "rank_timeout_seconds": 60.0}},
        "type hardware.step_scale=1",
    ),
    (
        "target",
        {"budget": {"target_loss": 3.28, "target_check_steps": 125, "max_tokens": 10}},
        {"budget": {"target_loss": -1.0}},
        "type budget.target_loss=3.28",
    ),
    (
        "unique_tokens",
        {"budget": {"unique_tokens": 1000}, "data": {"seq_len": 128}},
        {"budget": {"unique_tokens": 100}, "data": {"seq_len": 128}},
        "less than one window of data.seq_len=128 + 1",
    ),
]


@pytest.mark.parametrize(("name", "good", "bad", "words"), CASES)
def test_cross_checks(name, good, bad, words, monkeypatch):
    monkeypatch.setattr("golf.config.codec_checks.installed", lambda module, package: False)
    check = getattr(cross_checks, name)
    assert check in cross_checks.CROSS_CHECKS
    assert check(good) == []
    (line,) = check(bad)
    assert words in line
    assert "\n" not in line


def test_every_cross_check_has_a_case():
    assert {check.__name__ for check in cross_checks.CROSS_CHECKS} == {case[0] for case in CASES}


@pytest.mark.parametrize("check", cross_checks.CROSS_CHECKS)
def test_cross_checks_ignore_what_they_do_not_know(check):
    assert check({}) == []
    check(
        {"model": None, "data": [1], "trainer": 3, "budget": "x", "schedule": None, "eval": {"stride": "x"}, "seed": 1}
    )


def test_sentencepiece_size_is_counted_without_the_library(tmp_path):
    piece = b"\x0a\x05\x0a\x03abc"
    file = tmp_path / "tokenizer.model"
    file.write_bytes(piece * 7 + b"\x12\x02\x08\x01")
    config = {"tokenizer": {"path": str(file), "vocab_size": 8}}
    assert "type tokenizer.vocab_size=7" in cross_checks.vocabulary(config)[0]
    file.write_bytes(piece * 7 + b"\x12\x42\x08")  # cut off: not a model, and not this check's business
    assert cross_checks.vocabulary(config) == []


def test_keys_that_nothing_reads(tmp_path):
    (tmp_path / "hardware").mkdir()
    (tmp_path / "train.yaml").write_text("defaults:\n  - hardware: cpu\nseed: 1\nhardware:\n  extra: 1\n")
    (tmp_path / "hardware" / "cpu.yaml").write_text("devices: 1\n")
    assert (
        undeclared({"seed": 1, "hardware": {"devices": 1, "extra": 2, "x": {"_target_": "a.b"}}}, "train", tmp_path)
        == []
    )
    lines = undeclared({"sed": 1, "hardware": {"device": 2}}, "train", tmp_path)
    assert lines[0].endswith("type seed=1")
    assert lines[1].endswith("type hardware.devices=2")


def test_package_header_must_be_the_first_line(tmp_path):
    (tmp_path / "debug").mkdir()
    (tmp_path / "debug" / "good.yaml").write_text("# @package _global_\n# command\n# what\nseed: 1\n")
    (tmp_path / "debug" / "bad.yaml").write_text("# command\n# what\n# @package _global_\nseed: 1\n")
    (line,) = misplaced_package(tmp_path)
    assert "bad.yaml" in line
