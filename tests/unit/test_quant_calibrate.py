"""Calibration: second moments by definition, sources that no validation token enters, the stage that keeps them."""

import json

import numpy as np
import pytest
import torch

from golf.config.build import build
from golf.config.compose import compose
from golf.data.shards import Shards, write_shard
from golf.data.shuffled import ShuffledStream
from golf.errors import UserError, VerificationFailed
from golf.pipeline.calibrate import load_hessians, save_hessians
from golf.quant.calibrate import TrainingTokens
from golf.quant.calibration_ledger import CalibrationLedger
from golf.quant.hessian import collect_hessians
from golf.quant.self_generated import SelfGenerated

SIZES = {"vocab_size": 48, "num_layers": 3, "width": 32, "num_heads": 4, "num_kv_heads": 2, "compute_dtype": "float32"}


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    config = compose("train", ["model/depth=loop", "model.depth.first=1", "model.depth.last=1"])["model"]
    made = build({**config, **SIZES})
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made.eval()


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    rng = np.random.default_rng(0)
    for index in range(3):
        write_shard(folder / f"fineweb_train_{index:06d}.bin", rng.integers(2, 48, size=900))
    write_shard(folder / "fineweb_val_000000.bin", rng.integers(2, 48, size=900))
    return folder


def ids(seed, rows=3):
    return torch.randint(0, 48, (rows, 16), generator=torch.Generator().manual_seed(seed))


def test_hessians_are_sums_of_outer_products_over_all_visits(net):
    seen = []
    linear = net.blocks[1].mlp.proj
    handle = linear.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0].detach()))
    hessians = collect_hessians(net, [ids(0), ids(1)])
    handle.remove()
    x = torch.cat([part.flatten(0, 1) for part in seen]).double()
    assert len(seen) == 2 * 3  # two batches, three passes of the looped block
    assert torch.allclose(hessians["blocks.1.mlp.proj.weight"].double(), x.T @ x / 2, rtol=1e-4, atol=1e-6)
    assert torch.equal(hessians["blocks.0.attn.c_q.weight"], hessians["blocks.0.attn.c_v.weight"])
    with torch.no_grad():
        final = torch.cat([net.hidden(ids(seed)).flatten(0, 1) for seed in (0, 1)]).double()
    assert torch.allclose(hessians["tok_emb.weight"].double(), final.T @ final / 2, rtol=1e-4, atol=1e-5)


def test_ranks_share_the_batches_of_training_data(net, shards):
    source = TrainingTokens(lambda *sizes: ShuffledStream(*sizes, ranks=2), batches=4, rows=2)
    train = Shards(sorted(shards.glob("fineweb_train_*")), 48)
    whole = list(source.token_batches(train, 16))
    parts = [list(source.token_batches(train, 16, rank, 2)) for rank in (0, 1)]
    assert [batch.shape for batch in whole] == [(2, 16)] * 4
    assert all(torch.equal(a, b) for a, b in zip(whole, [parts[0][0], parts[1][0], parts[0][1], parts[1][1]]))
    assert set(source.hessians(net, train, 16)) == set(collect_hessians(net, whole))
    three = [list(source.token_batches(train, 16, rank, 3)) for rank in (0, 1, 2)]
    assert [len(part) for part in three] == [2, 1, 1]
    dealt = [three[0][0], three[1][0], three[2][0], three[0][1]]
    assert all(torch.equal(a, b) for a, b in zip(whole, dealt))


def test_batches_of_one_rank_among_several(net, shards):
    """The records' rank-local Hessians: what rank 0 of two sees, whoever collects it."""
    train = Shards(sorted(shards.glob("fineweb_train_*")), 48)

    def order(*sizes):
        return ShuffledStream(*sizes, ranks=2)

    source = TrainingTokens(order, batches=4, rows=3, first_rank_of=2)
    stream = order(train, 2 * 3 * 16, 16, 2)
    expected = [stream.batch(index, 0, 2).inputs_BT for index in range(4)]
    found = list(source.token_batches(train, 16))
    assert len(found) == 4
    assert all(torch.equal(a, b) for a, b in zip(found, expected))
    assert not torch.equal(found[0], next(TrainingTokens(order, batches=4, rows=3).token_batches(train, 16))[:3])
    parts = [list(source.token_batches(train, 16, rank, 2)) for rank in (0, 1)]
    assert all(torch.equal(a, b) for a, b in zip(found, [parts[0][0], parts[1][0], parts[0][1], parts[1][1]]))
    with pytest.raises(UserError, match="first_rank_of=0"):
        TrainingTokens(order, first_rank_of=0)


def test_validation_shards_are_refused(net, shards):
    source = TrainingTokens(ShuffledStream, batches=2, rows=1)
    with pytest.raises(VerificationFailed, match="never sees validation data"):
        source.hessians(net, Shards([shards / "fineweb_val_000000.bin"]), 16)


def test_self_generated_text_depends_on_the_seed_and_not_on_ranks(net):
    source = SelfGenerated(sequences=5, rows=2, seed=3)
    whole = list(source.token_batches(net, 12))
    assert [len(batch) for batch in whole] == [2, 2, 1]
    parts = [list(source.token_batches(net, 12, rank, 2)) for rank in (0, 1)]
    assert all(torch.equal(a, b) for a, b in zip(whole, [parts[0][0], parts[1][0], parts[0][1]]))
    assert not torch.equal(whole[0], next(SelfGenerated(5, 2, seed=4).token_batches(net, 12)))
    assert not torch.equal(whole[0], whole[1])
    assert set(source.hessians(net, None, 12)) == set(collect_hessians(net, [ids(0)]))


def test_equal_hessians_are_stored_once(tmp_path):
    hessians = {"q": torch.eye(3), "k": torch.eye(3), "o": 2 * torch.eye(3), "p": torch.eye(4)}
    owners = save_hessians(hessians, tmp_path / "hessians.safetensors")
    assert owners == {"q": "q", "k": "q", "o": "o", "p": "p"}
    (tmp_path / "calibration.json").write_text(json.dumps({"tensors": owners}))
    loaded = load_hessians(tmp_path / "calibration.json", torch.device("cpu"))
    assert loaded["q"] is loaded["k"]
    assert all(torch.equal(loaded[name], hessian) for name, hessian in hessians.items())


def test_export_with_gptq_calibrates_and_says_what_each_tensor_lost(start_run, tmp_path):
    from golf.app import run_pipeline
    from golf.pipeline.export import export_run

    run = start_run(
        tmp_path / "run", "quant=int6_lqer", "quant.small_numel=500", "quant.calibration.rows=2", "through=pack"
    )
    run_pipeline(run)
    table = json.loads((run.path / "stages/quantise/sensitivity.json").read_text())
    assert table["notes"] == []
    codes = [line for line in table["tensors"] if line["entropy_bits"] is not None]
    assert codes
    assert all(line["hessian_error"] is not None for line in codes if line["kind"] == "corrected")
    assert sum(line["kind"] == "corrected" for line in codes) == 3
    result = json.loads((run.path / "stages/calibrate/manifest.json").read_text())["result"]
    assert result["on_training_clock"]
    assert result["training_tokens_read"] > 0
    summary = json.loads((run.path / "summary.json").read_text())["exports"]["default"]
    assert summary["fallbacks"] == 0
    assert summary["calibration"].items() >= result.items()
    assert result["collected"] > 5
    config = {**run.config, "quant": {**run.config["quant"], "calibration": None}}
    with pytest.raises(UserError, match="quant/calibration=training_tokens"):
        export_run(run, "again", config, "quantise")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: TrainingTokens(ShuffledStream, batches=0), "quant.calibration.batches=16"),
        (lambda: SelfGenerated(temperature=0.0), "quant.calibration.temperature=0.8"),
    ],
)
def test_what_is_refused(make, said):
    with pytest.raises(UserError, match=said):
        make()


class Watch:
    """A clock that a test sets."""

    seconds = 0.0

    def __call__(self):
        return self.seconds


def test_reading_training_data_runs_the_training_clock(net, shards):
    """Whatever a source says of itself: its reads are in the ledger, those after the clock's end are counted."""
    watch = Watch()
    ledger = CalibrationLedger(598.0, 600.0, watch)
    train = ledger.shards(sorted(shards.glob("fineweb_train_*")), 48)
    batches = TrainingTokens(ShuffledStream, batches=2, rows=1).token_batches(train, 16)
    next(batches)
    assert not ledger.as_dict()["over_training_clock"]
    early, watch.seconds = ledger.tokens_read, 3.0
    next(batches)
    found = ledger.as_dict()
    assert found["on_training_clock"]
    assert found["over_training_clock"]
    assert found["training_tokens_read"] == 2 * early == 2 * 17
    assert found["tokens_read_after_the_clock"] == early
    assert "601.0 of 600 s: OVER the training clock, 17 tokens read after it" in ledger.line(3)
    assert "type budget.reserve_seconds=4" in ledger.line(3)


def test_text_of_its_own_is_off_the_clock(net):
    watch = Watch()
    ledger = CalibrationLedger(598.0, 600.0, watch)
    assert SelfGenerated(sequences=2, rows=2).hessians(net, None, 12)
    watch.seconds = 3.0
    assert not ledger.as_dict()["on_training_clock"]
    assert ledger.line(3) == "calibrated 3 matrices in 3.0 s"


def test_the_ledger_refuses_validation_shards_under_any_name(shards, tmp_path):
    ledger = CalibrationLedger(0.0)
    with pytest.raises(VerificationFailed, match="is not a training shard"):
        ledger.shards([shards / "fineweb_val_000000.bin"])
    for name in ("fineweb_train_000000.bin", "fineweb_val_000000.bin"):
        (tmp_path / name).symlink_to(shards / "fineweb_val_000000.bin")
    with pytest.raises(VerificationFailed, match=r"train_000000\.bin is a validation shard"):
        ledger.shards([tmp_path / "fineweb_train_000000.bin"])
    assert ledger.tokens_read == 0
