"""Schedules as functions of progress: values at both ends, monotone where they promise it, same under every budget."""

import math
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from golf.errors import UserError
from golf.optim.averaging import Ema
from golf.optim.resize import resize_batch
from golf.optim.schedules import (
    Constant,
    Cosine,
    LinearRamp,
    Schedules,
    Stages,
    Taper,
    WarmdownFraction,
    WarmdownSteps,
)
from golf.progress import Progress


def at(step, total=100):
    return Progress(step, seconds=float(step), tokens=step * 10, max_steps=total)


def test_fraction_is_the_largest_share():
    assert Progress(5, 30.0, 500, max_steps=10, max_seconds=40.0, max_tokens=5000).fraction == 0.75
    assert Progress(5, 30.0, 500).fraction == 0.0
    assert Progress(50, max_steps=10).fraction == 1.0


def test_total_steps_is_the_smallest_estimate():
    assert Progress(10, 20.0, 1000, max_seconds=100.0).total_steps == 50
    assert Progress(10, 20.0, 1000, max_steps=40, max_seconds=100.0, max_tokens=90_000).total_steps == 40
    assert Progress(0, max_seconds=100.0).total_steps == 0


def test_warmdown_steps_under_a_step_budget():
    schedule = WarmdownSteps(20)
    assert [schedule(at(step)) for step in (0, 79, 80, 90, 99)] == [1.0, 1.0, 1.0, 0.5, 0.05]
    assert WarmdownSteps(0)(at(99)) == 1.0


def test_warmdown_steps_under_a_time_budget_counts_seconds_at_the_pace_so_far():
    schedule = WarmdownSteps(20)
    progress = Progress(80, seconds=160.0, max_seconds=180.0)  # 2 s per step: the last 40 s
    assert schedule(progress) == pytest.approx(0.5)
    assert schedule(Progress(60, seconds=120.0, max_seconds=180.0)) == 1.0
    assert schedule(Progress(0, seconds=0.0, max_seconds=180.0)) == 1.0
    assert schedule(Progress(91, seconds=181.0, max_seconds=180.0)) == 0.0


def test_warmdown_fraction_and_warm_up():
    schedule = WarmdownFraction(0.5, floor=0.1, warmup_fraction=0.1)
    assert schedule(at(0)) > 0.0
    assert schedule(at(5)) == pytest.approx(0.5)
    assert schedule(at(10)) == schedule(at(49)) == 1.0
    assert schedule(at(75)) == pytest.approx(0.5)
    assert schedule(at(99)) == pytest.approx(0.1)
    assert WarmdownFraction(0.0)(at(99)) == 1.0


def test_cosine_and_ramp_and_constant():
    assert Cosine(0.1)(at(0)) == 1.0
    assert Cosine(0.1)(at(50)) == pytest.approx(0.55)
    assert Cosine(0.1)(at(100)) == pytest.approx(0.1)
    ramp = LinearRamp(0.85, 0.95, 500)
    assert [ramp(at(step)) for step in (0, 250, 500, 9999)] == pytest.approx([0.85, 0.9, 0.95, 0.95])
    assert LinearRamp(0.85, 0.95, 0)(at(0)) == 0.95
    assert Constant(0.3)(at(7)) == 0.3


FALLING = [
    WarmdownSteps(37),
    WarmdownFraction(0.4),
    WarmdownFraction(1.0, floor=0.2),
    Cosine(),
    Cosine(0.3),
    Constant(),
]


@pytest.mark.parametrize("schedule", FALLING, ids=lambda s: type(s).__name__)
@given(first=st.integers(0, 399), second=st.integers(0, 399), pace=st.floats(0.01, 5.0), kind=st.integers(0, 2))
def test_rates_only_fall_under_every_budget(schedule, first, second, pace, kind):
    def rate(step):
        limits = [{"max_steps": 400}, {"max_seconds": 400 * pace}, {"max_tokens": 40_000}][kind]
        return schedule(Progress(step, step * pace, step * 100, **limits))

    early, late = sorted((first, second))
    assert 0.0 <= rate(late) <= rate(early) + 1e-9
    assert rate(early) <= 1.0


class Recorder:
    """Remembers which rates were set."""

    def __init__(self):
        self.seen = {}

    def set_lr(self, multiplier):
        self.seen["lr"] = multiplier

    def set_momentum(self, momentum):
        self.seen["momentum"] = momentum

    def set_weight_decay(self, multiplier):
        self.seen["weight_decay"] = multiplier


def applied(schedules, progress):
    """The rates that were set; with the shape of the batch they are all that is scheduled."""
    optimizer = Recorder()
    shape = schedules.apply(progress, optimizer)
    assert {**optimizer.seen, **shape} == schedules.values(progress)
    return optimizer.seen


def test_schedules_set_the_optimizers_rates():
    both = Schedules(lr=WarmdownSteps(20), momentum=LinearRamp(0.85, 0.95, 100))
    assert applied(both, at(90)) == {"lr": 0.5, "momentum": pytest.approx(0.94)}
    assert applied(Schedules(lr=Constant(0.5)), at(3)) == {"lr": 0.5}


# -- warm-ups, tapers, stages -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("schedule", [WarmdownSteps(20, 10), WarmdownFraction(0.2, warmup_steps=10)])
def test_a_warm_up_in_steps_starts_at_zero(schedule):
    assert [schedule(at(step)) for step in (0, 1, 5, 10, 79)] == pytest.approx([0.0, 0.1, 0.5, 1.0, 1.0])
    assert Cosine(warmup_steps=10)(at(5)) == pytest.approx(0.5 * Cosine()(at(5)))


def test_compilation_inside_the_run_makes_the_published_accidental_warm_up():
    """19 March, seed 1337: 28.8 s in the first step; full rate, then 0.0055, and 0.44 at step 100."""
    schedule, pace = WarmdownSteps(3600, first_step_seconds=28.8), 0.0678

    def rate(step):
        return schedule(Progress(step, seconds=step * pace, max_seconds=600.0))

    assert rate(0) == 1.0
    assert rate(1) == pytest.approx(0.0055, abs=1e-4)
    assert rate(100) == pytest.approx(0.44, abs=0.01)
    assert rate(280) < 1.0
    assert rate(400) == 1.0


def test_the_taper():
    taper = Taper(0.7, 0.5)
    assert [taper(at(step)) for step in (0, 70, 85, 100)] == pytest.approx([1.0, 1.0, 0.75, 0.5])


def test_stages_hold_until_the_next_one_under_every_budget():
    stages = Stages([[0, 256], [0.3, 512], [0.6, 1024]])
    assert [stages(at(step)) for step in (0, 29, 30, 59, 60, 100)] == [256, 256, 512, 512, 1024, 1024]
    assert stages(Progress(3, seconds=40.0, max_seconds=100.0)) == 512
    assert stages(Progress(3, tokens=700, max_tokens=1000)) == 1024


@pytest.mark.parametrize("stages", [[], [[0.1, 3]], [[0, 3], [0, 4]], [[0, 3], [0.5, 4], [0.2, 5]], [[0, 1, 2]]])
def test_bad_stages_are_one_line(stages):
    with pytest.raises(UserError, match=r"type rising \[fraction, value\] from fraction 0") as raised:
        Stages(stages)
    assert "\n" not in str(raised.value)


def test_shapes_are_those_a_run_meets():
    both = Schedules(Constant(), seq_len=Stages([[0, 256], [0.5, 512]]), batch_share=Stages([[0, 0.5], [0.25, 1.0]]))
    met = dict.fromkeys((both.values(at(s))["seq_len"], both.values(at(s))["batch_share"]) for s in range(101))
    assert both.shapes() == list(met) == [(256, 0.5), (256, 1.0), (512, 1.0)]
    assert Schedules(Constant()).shapes() == [(None, 1.0)]
    assert Schedules(Constant(), batch_share=Stages([[0, 0.5], [0.9, 1]])).shapes() == [(None, 0.5), (None, 1.0)]


def test_shares_at_which_something_starts_are_listed():
    found = Schedules(
        WarmdownFraction(0.3),
        weight_decay=Taper(1.2),
        seq_len=Stages([[0, 256], [1.5, 512]]),
    ).activation_fractions()
    assert found["lr.warmdown_fraction"] == pytest.approx(0.7)
    assert {name for name, fraction in found.items() if fraction > 1} == {
        "weight_decay.start_fraction",
        "seq_len.stages[1]",
    }


def test_weight_decay_is_set_with_the_rates():
    rates = applied(Schedules(Constant(), weight_decay=Taper(0.5, 0.0)), at(75))
    assert rates == {"lr": 1.0, "weight_decay": pytest.approx(0.5)}


class Rows(NamedTuple):
    inputs_BT: torch.Tensor
    targets_BT: torch.Tensor
    cu_seqlens: torch.Tensor | None = None


def test_resizing_keeps_tokens_in_order_and_the_first_rows():
    ids = torch.arange(32)
    batch = Rows(ids.view(4, 8), ids.view(4, 8) + 1)
    assert resize_batch(batch) is batch
    short = resize_batch(batch, 4)
    assert torch.equal(short.inputs_BT, ids.view(8, 4))
    assert torch.equal(short.targets_BT, short.inputs_BT + 1)
    assert torch.equal(resize_batch(batch, 4, 0.5).inputs_BT, ids[:16].view(4, 4))
    assert torch.equal(resize_batch(batch, None, 0.25).inputs_BT, ids[:8].view(1, 8))
    assert resize_batch(batch, 8, 0.01).inputs_BT.shape == (1, 8)


def test_resizing_a_packed_row_keeps_its_first_tokens():
    ids = torch.arange(16).view(1, 16)
    packed = Rows(ids, ids + 1, torch.tensor([0, 5, 11, 16, 16], dtype=torch.int32))
    half = resize_batch(packed, None, 0.5)
    assert torch.equal(half.inputs_BT, ids[:, :8])
    assert half.cu_seqlens.tolist() == [0, 5, 8, 8, 8]
    with pytest.raises(UserError, match="packed documents have no rows to cut"):
        resize_batch(packed, 4)


@pytest.mark.parametrize(
    ("seq_len", "share", "words"), [(3, 1.0, "rows of 8 tokens"), (4, 0.0, "batch_share: 0 is not")]
)
def test_what_cannot_be_resized_is_one_line(seq_len, share, words):
    ids = torch.arange(16).view(2, 8)
    with pytest.raises(UserError, match=words):
        resize_batch(Rows(ids, ids), seq_len, share)


# -- averaging --------------------------------------------------------------------------------------------------------
def test_ema_is_the_recursion_and_keeps_dtypes():
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    model.bias.data = model.bias.data.bfloat16()
    ema = Ema(decay=0.9)
    expected = None
    for step in range(1, 6):
        with torch.no_grad():
            model.weight.add_(1.0)
        ema.update(model, at(step))
        weight = model.weight.detach()
        expected = weight.clone() if expected is None else 0.9 * expected + 0.1 * weight
    average = ema.average(model)
    torch.testing.assert_close(average["weight"], expected)
    assert average["bias"].dtype == torch.bfloat16


def test_ema_before_its_start_follows_the_weights_and_resumes():
    model = nn.Linear(3, 2)
    ema = Ema(decay=0.9, start_fraction=0.5)
    for step in (1, 2, 49):
        with torch.no_grad():
            model.weight.mul_(2.0)
        ema.update(model, at(step))
    torch.testing.assert_close(ema.average(model)["weight"], model.weight.detach())
    twin = Ema(decay=0.9, start_fraction=0.5)
    twin.load_state_dict(ema.state_dict())
    with torch.no_grad():
        model.weight.zero_()
    for average in (ema, twin):
        average.update(model, at(80))
    assert torch.equal(ema.shadow["weight"], twin.shadow["weight"])


def test_derived_horizon_grows_with_the_run():
    ema = Ema(horizon_fraction=0.05)
    assert ema.decay_at(at(10)) == 0.0
    assert math.isclose(ema.decay_at(at(1000, total=2000)), 1.0 - 1.0 / 50.0)
