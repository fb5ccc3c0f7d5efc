"""The public vectors: those that lie beside this file always, the whole set where it is at hand.

GOLF_CONFORMANCE names the folder of the whole set, GOLF_DATA the datasets. Everything is run once. What golf does not
support yet may stay unsupported; nothing may fail, and what is listed here must pass.
"""

import json
import os
from pathlib import Path

import pytest

from golf.interop.conform import run_conformance

HERE = Path(__file__).parent / "vectors"
VECTORS = os.environ.get("GOLF_CONFORMANCE")
DATA = os.environ.get("GOLF_DATA")

needs_vectors = pytest.mark.skipif(not VECTORS, reason="GOLF_CONFORMANCE names no folder of conformance vectors")
needs_data = pytest.mark.skipif(not DATA, reason="GOLF_DATA names no folder with datasets and tokenizers")
MODELS = [str(path.relative_to(HERE)) for path in sorted((HERE / "models").iterdir())]


@pytest.mark.parametrize(
    "path",
    [
        *(f"components/{name}.json" for name in ("arch", "init_20260319_overtone", "optim", "eval_data")),
        *MODELS,
        pytest.param("components/trajectory.json", marks=pytest.mark.slow),
    ],
)
def test_vectors_beside_this_file(path):
    results = run_conformance([HERE / path])
    assert results
    assert [r for r in results if r.status != "pass"] == []


def test_the_vectors_of_a_network_are_not_passed_by_another(tmp_path):
    """The mean loss alone would hardly tell: the losses of single tokens and the gradients do."""
    source = next(path for path in (HERE / "models").iterdir() if "MiniDepth" in path.name)
    folder = tmp_path / "any name"
    folder.mkdir()
    for name in ("grads.json", "vectors.safetensors"):
        (folder / name).write_bytes((source / name).read_bytes())
    spec = json.loads((source / "spec.json").read_text(encoding="utf-8"))
    spec["model_kwargs"]["parallel_start_layer"] = spec["hyperparameters"]["parallel_start_layer"] = 8
    (folder / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
    failed = {r.quantity for r in run_conformance([folder]) if r.status == "fail"}
    assert failed >= {"nll", "logits", "hidden", "gradient_l2_relative"}


@pytest.fixture(scope="module")
def results():
    if not VECTORS:
        pytest.skip("GOLF_CONFORMANCE names no folder of conformance vectors")
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


def test_networks(results):
    folders = [path.parent.name for path in Path(VECTORS).glob("models/*/spec.json")]
    assert folders
    for folder in folders:
        assert_passed(results, folder)


def test_weight_generator(results):
    assert_passed(results, "weights_check")


def test_training_runs(results):
    assert_passed(results, "trajectory")


def test_architecture_pieces(results):
    assert_passed(results, "arch")
    assert_passed(results, "init_20260319_overtone")


def test_windows_schedules_and_loaders(results):
    loaders = ("sequential_loader", "coprime_loader", "shuffled_loader", "packing_loader")
    cases = ("sliding", "lr", *loaders, "val_truncation", "muon_momentum_warmup")
    assert_passed(results, "eval_data", *cases)
    assert sum(r.vector == "eval_data" and r.case.startswith("sliding") for r in results) == 42


@needs_data
def test_byte_accounting(results):
    assert_passed(results, "byte_accounting")


@needs_data
def test_caseops(results):
    assert_passed(results, "caseops")


@needs_data
def test_scores_of_tiny_networks(results):
    assert_passed(results, "bpb_eval", "baseline_blocks_L64", "baseline_blocks_L100", "sliding_20260319")


def test_optimiser_steps(results):
    assert_passed(results, "optim")
    assert_passed(results, "bank_muon_20260323")


def test_round_to_nearest_quantisers(results):
    assert_passed(results, "quant", "int8_clean", "int6_absmax", "int5_20260320", "int6_20260320", "gate_int8")


def test_upstream_artifacts(results):
    assert_passed(results, "baseline_tiny_trained.int8.ptz")
    assert_passed(results, "baseline_mid_random.int8.ptz")
    assert_passed(results, "record_20260321_mid.int6.ptz")
    assert_passed(results, "record_20260405_mid.int6.ptz")
    assert_passed(results, "record_20260427_mid.brotli.ptz")
    assert_passed(results, "record_20260427_mid.pergroup.ptz")


def test_ternary_weights_and_their_packings(results):
    assert_passed(results, "ternary")


@needs_vectors
@needs_data
def test_published_artifact():
    folders = sorted(path.parent for path in Path(DATA).rglob("expected.json"))
    if not folders:
        pytest.skip("no published artifact with an expected.json under GOLF_DATA")
    for folder in folders:
        assert [r for r in run_conformance([folder], Path(DATA)) if r.status != "pass"] == []
