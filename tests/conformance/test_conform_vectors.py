"""The public vectors themselves, where they are at hand: GOLF_CONFORMANCE names their folder, GOLF_DATA the datasets.

Everything is run once. What golf does not support yet may stay unsupported; nothing may fail, and what is listed here
must pass.
"""

import os
from pathlib import Path

import pytest

from golf.interop.conform import run_conformance

VECTORS = os.environ.get("GOLF_CONFORMANCE")
DATA = os.environ.get("GOLF_DATA")

pytestmark = pytest.mark.skipif(not VECTORS, reason="GOLF_CONFORMANCE names no folder of conformance vectors")
needs_data = pytest.mark.skipif(not DATA, reason="GOLF_DATA names no folder with datasets and tokenizers")


@pytest.fixture(scope="module")
def results():
    return run_conformance([Path(VECTORS)], Path(DATA) if DATA else None)


def assert_passed(results, vector, *cases):
    """The cases that begin with one of `cases` (or all of them) exist and pass."""
    for prefix in cases or ("",):
        chosen = [r for r in results if r.vector == vector and r.case.startswith(prefix)]
        assert chosen, (vector, prefix)
        assert [r for r in chosen if r.status != "pass"] == []


def test_nothing_fails(results):
    assert [r for r in results if r.status == "fail"] == []
    assert all(r.detail for r in results if r.status == "unsupported")


def test_baseline_network(results):
    assert_passed(results, "2026-03-17_NaiveBaseline", "main", "long", "bf16_rope_freqs")


def test_weight_generator(results):
    assert_passed(results, "weights_check")


def test_baseline_training_run(results):
    assert_passed(results, "trajectory", "baseline.fp32", "baseline.bf16")


def test_windows_schedules_and_loaders(results):
    loaders = ("sequential_loader", "coprime_loader", "shuffled_loader", "packing_loader")
    cases = ("sliding", "lr", *loaders, "val_truncation", "muon_momentum_warmup")
    assert_passed(results, "eval_data", *cases)
    assert sum(r.vector == "eval_data" and r.case.startswith("sliding") for r in results) == 42


@needs_data
def test_byte_accounting(results):
    assert_passed(results, "byte_accounting")


@needs_data
def test_scores_of_tiny_networks(results):
    assert_passed(results, "bpb_eval", "baseline_blocks_L64", "baseline_blocks_L100", "sliding_20260319")


def test_optimiser_steps(results):
    assert_passed(results, "optim", "ns_batched.classic", "muon_baseline", "muon_wd", "ema0.9965", "ema0.997")
    assert_passed(results, "optim", *(f"ns{i}.classic_{dtype}" for i in range(4) for dtype in ("fp32", "bf16")))


def test_round_to_nearest_quantisers(results):
    assert_passed(results, "quant", "int8_clean", "int6_absmax", "int5_20260320", "int6_20260320", "gate_int8")


def test_upstream_artifacts(results):
    assert_passed(results, "baseline_tiny_trained.int8.ptz")
    assert_passed(results, "baseline_mid_random.int8.ptz")


@needs_data
def test_published_artifact():
    folders = sorted(path.parent for path in Path(DATA).rglob("expected.json"))
    if not folders:
        pytest.skip("no published artifact with an expected.json under GOLF_DATA")
    for folder in folders:
        assert [r for r in run_conformance([folder], Path(DATA)) if r.status != "pass"] == []
