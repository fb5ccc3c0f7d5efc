"""Schedules as functions of progress: values at both ends, monotone where they promise it, same under every budget."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from golf.optim.averaging import Ema
from golf.optim.schedules import Constant, Cosine, LinearRamp, Schedules, WarmdownFraction, WarmdownSteps
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
    def set_rates(self, lr_multiplier, momentum, weight_decay):
        self.seen = (lr_multiplier, momentum)


def test_schedules_set_the_optimizers_rates():
    optimizer = Recorder()
    both = Schedules(lr=WarmdownSteps(20), momentum=LinearRamp(0.85, 0.95, 100))
    assert both.apply(at(90), optimizer) == {"lr": 0.5, "momentum": pytest.approx(0.94)}
    assert optimizer.seen == (0.5, pytest.approx(0.94))
    assert Schedules(lr=Constant(0.5)).apply(at(3), optimizer) == {"lr": 0.5}
    assert optimizer.seen == (0.5, None)


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
