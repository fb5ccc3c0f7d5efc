"""Averages: which weights are taken, in which dtype, resumed exactly; and what is averaged is what is exported."""

import copy
import json

import pytest
import torch
from torch import nn

from golf.config.compose import compose
from golf.errors import UserError
from golf.optim.averaging import Ema, Swa
from golf.pipeline.run_folder import create_run_folder, silent
from golf.pipeline.train import average_weights, train_run
from golf.progress import Progress
from golf.training.resolve import resolve_config


def model_at(value, dtype=torch.float32):
    model = nn.Module()
    model.w, model.table = nn.Parameter(torch.full((2, 2), value)), nn.Parameter(torch.full((3,), value).to(dtype))
    return model


def run_through(swa, multipliers, start=1):
    """Weights equal to the step's number, each step with its multiplier."""
    for step, multiplier in enumerate(multipliers, start):
        swa.update(model_at(float(step)), Progress(step, max_steps=100), multiplier)
    return swa


def test_swa_takes_every_nth_step_below_the_threshold_and_weighs_them_alike():
    swa = run_through(Swa(start_multiplier=0.5, every=3), [1.0] * 6 + [0.5] * 3 + [0.49] * 7)  # of 12, 15: below 0.5
    assert swa.count == 2
    assert swa.average(model_at(0.0))["w"].eq(13.5).all()


def test_swa_by_fraction():
    swa = run_through(Swa(start_multiplier=None, start_fraction=0.1, every=2), [1.0] * 13)
    assert swa.average(model_at(0.0))["w"].eq(11.0).all()  # 10 and 12
    assert swa.activation_fractions() == {"start_fraction": 0.1}


def test_swa_without_anything_taken_is_the_weights():
    model = model_at(3.0)
    average = run_through(Swa(), [1.0] * 60).average(model)
    assert average["w"].eq(3.0).all()
    assert average["w"] is not model.w
    assert Swa().state_dict() == {}


def test_sums_in_the_tensors_own_dtype_lose_what_float32_keeps():
    """256 + 1 is 256 in bfloat16: the records' sums of bfloat16 tables were like that (64.75 is 65 in bfloat16)."""
    averages = {}
    for dtype in ("float32", "own"):
        swa = Swa(start_multiplier=None, every=1, dtype=dtype)
        for step, value in enumerate([256.0, 1.0, 1.0, 1.0], 1):
            swa.update(model_at(value, torch.bfloat16), Progress(step))
        assert swa.sums["table"].dtype == (torch.float32 if dtype == "float32" else torch.bfloat16)
        average = swa.average(model_at(0.0, torch.bfloat16))["table"]
        assert average.dtype == torch.bfloat16
        averages[dtype] = average[0].item()
    assert averages == {"float32": 65.0, "own": 64.0}


def test_swa_resumes_where_it_was():
    whole = run_through(Swa(every=2), [0.1] * 12)
    first = run_through(Swa(every=2), [0.1] * 6)
    second = Swa(every=2)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    run_through(second, [0.1] * 6, start=7)
    assert second.count == whole.count == 6
    assert torch.equal(second.sums["w"], whole.sums["w"])


@pytest.mark.parametrize(
    ("options", "words"),
    [({"dtype": "fp16"}, "average.dtype=fp16: allowed are float32, own"), ({"every": 0}, "average.every=0 must be")],
)
def test_bad_options(options, words):
    with pytest.raises(UserError, match=words):
        Swa(**options)


OVERRIDES = (
    *("experiment=smoke", "hardware=cpu", "hardware.compile=false", "hardware.threads=1", "budget.max_steps=12"),
    *("data.train_tokens=20000", "data.val_tokens=2000", "data.tokens_per_step=128", "data.spans_per_step=2"),
    *("eval.max_tokens=128", "schedule=warmdown_fraction", "schedule.lr.warmdown_fraction=0.8"),
)


@pytest.mark.parametrize(
    "average",
    [("average=ema", "average.decay=0.8"), ("average=swa", "~average.decay", "average.every=2"), ("average=none",)],
)
def test_what_is_averaged_is_what_is_exported(average, tmp_path, monkeypatch):
    """The weights that the average stage writes are the average of the weights after every step, recomputed here."""
    from safetensors.torch import load_file

    texts = [*OVERRIDES, *average, f"data.folder={tmp_path / 'data'}"]
    run = create_run_folder(tmp_path / "run", resolve_config(compose("train", texts)), texts)
    history, kind = [], {"average=ema": Ema, "average=swa": Swa}.get(average[0])
    if kind is not None:
        update = kind.update

        def recording(self, model, progress, lr_multiplier=1.0):
            history.append(({n: p.detach().clone() for n, p in model.named_parameters()}, lr_multiplier))
            update(self, model, progress, lr_multiplier)

        starting = {}
        start = kind.start

        def first(self, model):
            starting.setdefault("weights", {n: p.detach().clone() for n, p in model.named_parameters()})
            start(self, model)

        monkeypatch.setattr(kind, "update", recording)
        monkeypatch.setattr(kind, "start", first)
    train_run(run, run.path / "stages" / "train")
    (written,), result = average_weights(run, tmp_path / "average", run.path / "stages" / "train", silent)
    exported, raw = load_file(written), load_file(run.path / "stages" / "train" / "weights.safetensors")
    expected = raw
    if kind is Ema:
        expected = {n: w.float() for n, w in starting["weights"].items()}
        for weights, _ in history:
            expected = {n: 0.8 * expected[n] + 0.2 * w.float() for n, w in weights.items()}
    if kind is Swa:
        taken = [weights for step, (weights, multiplier) in enumerate(history, 1) if multiplier < 0.5 and step % 2 == 0]
        assert 1 < len(taken) < 6
        expected = {n: sum(weights[n].float() for weights in taken) / len(taken) for n in taken[0]}
    for name, tensor in expected.items():
        torch.testing.assert_close(exported[name].float(), tensor.float(), atol=1e-6, rtol=1e-5)
    assert result["averaged"] is (kind is not None)
    differs = any(not torch.equal(exported[name], raw[name]) for name in raw)
    assert differs is (kind is not None)
    assert json.dumps(result)
