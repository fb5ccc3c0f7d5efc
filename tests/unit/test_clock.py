"""The training clock with a fake time source: predictive stop, pause, resume, and ranks that agree bit for bit."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golf.clock import BudgetClock, InterruptibleClock


class FakeTime:
    """A time source that only moves when told to."""

    def __init__(self):
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def run(clock, time, step_seconds, step=0):
    """Train: every step takes `step_seconds(step)`; returns (steps done, progress before every step)."""
    seen = []
    clock.start()
    while not clock.should_stop(step):
        seen.append(clock.progress(step))
        time.seconds += step_seconds(step)
        step += 1
        assert step < 100_000
    return step, seen


def build_clock(time, **limits):
    clock = InterruptibleClock(tokens_per_step=100, **limits)
    clock.now = time
    return clock


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"max_steps": 7}, 7),
        ({"max_tokens": 700}, 7),
        ({"max_tokens": 650}, 7),
        ({"max_steps": 7, "max_tokens": 300}, 3),
        ({"max_seconds": 10.0}, 40),
        ({"max_seconds": 10.1}, 40),
        ({"max_seconds": 10.0, "reserve_seconds": 2.5}, 30),
        ({"max_seconds": 10.0, "reserve_steps": 4.0}, 36),
        ({"max_seconds": 10.0, "reserve_seconds": 2.5, "reserve_steps": 3.5}, 26),
        ({"max_seconds": 10.0, "max_steps": 5}, 5),
    ],
)
def test_steps_at_a_constant_pace(limits, expected):
    time = FakeTime()
    assert run(build_clock(time, **limits), time, lambda step: 0.25)[0] == expected


def test_the_limit_is_never_passed_when_the_last_step_would_not_fit():
    time = FakeTime()
    clock = build_clock(time, max_seconds=10.0)
    steps, _ = run(clock, time, lambda step: 0.3)
    assert steps == 33
    assert clock.read() <= 10.0


@settings(max_examples=60, deadline=None)
@given(
    seconds=st.floats(1.0, 100.0),
    pace=st.floats(0.01, 0.5),
    jitter=st.lists(st.floats(0.9, 1.1), min_size=1, max_size=7),
)
def test_progress_never_goes_back_under_mild_jitter_and_the_budget_is_used(seconds, pace, jitter):
    time = FakeTime()
    clock = build_clock(time, max_seconds=seconds)
    _, seen = run(clock, time, lambda step: pace * jitter[step % len(jitter)])
    steps = [progress.step for progress in seen]
    assert steps == sorted(steps)
    for before, after in itertools.pairwise(seen):
        # Between two readings the clock extrapolates; a reading may correct it, by less than the jitter of 32 steps.
        assert after.seconds >= before.seconds - 0.2 * 32 * pace
        assert 0.0 <= before.fraction <= 1.0
    assert clock.read() <= seconds + 2 * pace
    assert clock.read() >= min(seconds * 0.8, seconds - 4 * pace)


@settings(max_examples=40, deadline=None)
@given(steps=st.integers(1, 300), tokens=st.integers(0, 40_000))
def test_step_and_token_progress_is_monotone_and_ends_at_one(steps, tokens):
    time = FakeTime()
    clock = build_clock(time, max_steps=steps, max_tokens=tokens)
    done, seen = run(clock, time, lambda step: 0.1)
    fractions = [progress.fraction for progress in seen] + [clock.progress(done).fraction]
    assert all(a < b for a, b in itertools.pairwise(fractions))
    assert fractions[-1] == 1.0


def test_a_pause_does_not_count():
    time = FakeTime()
    clock = build_clock(time, max_seconds=10.0)
    clock.start()
    time.seconds += 2.0
    clock.pause()
    time.seconds += 500.0
    clock.pause()
    clock.start()
    clock.start()
    time.seconds += 3.0
    assert clock.read() == pytest.approx(5.0)


def test_nothing_limits_means_never_stop():
    time = FakeTime()
    clock = build_clock(time)
    clock.start()
    for step in range(1000):
        time.seconds += 1.0
        assert not clock.should_stop(step)
    assert clock.predicted_steps(1000) == 0


def test_a_resumed_clock_goes_on_from_the_seconds_used():
    time = FakeTime()
    clock = build_clock(time, max_seconds=10.0)
    clock.start()
    for step in range(12):
        assert not clock.should_stop(step)
        time.seconds += 0.25
    state = clock.state_dict()
    assert state["seconds"] == pytest.approx(3.0)
    later = FakeTime()
    later.seconds = 77.0
    resumed = build_clock(later, max_seconds=10.0)
    resumed.load_state_dict(state, step=12)
    assert resumed.progress(12).seconds == pytest.approx(3.0)
    assert run(resumed, later, lambda step: 0.25, step=12)[0] == 40


def test_predicted_steps():
    time = FakeTime()
    clock = build_clock(time, max_seconds=10.0)
    clock.start()
    for step in range(9):
        clock.should_stop(step)
        time.seconds += 0.5
    assert clock.predicted_steps(9) == 20
    assert clock.step_seconds == pytest.approx(0.5)


@settings(max_examples=30, deadline=None)
@given(paces=st.lists(st.floats(0.05, 0.4), min_size=2, max_size=4))
def test_ranks_of_different_speed_have_the_same_progress_and_stop_together(paces):
    """Rank 0's two numbers reach everyone; the others' own clocks do not matter."""
    box = {}
    times = [FakeTime() for _ in paces]

    def leader(values):
        box["sent"] = values
        return values

    def follower(values):
        return box["sent"]

    clocks = [
        build_clock(time, max_seconds=8.0, share=leader if rank == 0 else follower) for rank, time in enumerate(times)
    ]
    for clock in clocks:
        clock.start()
    for step in range(1000):
        stops = [clock.should_stop(step) for clock in clocks]
        assert len(set(stops)) == 1
        assert len({clock.progress(step) for clock in clocks}) == 1
        if stops[0]:
            break
        for time, pace in zip(times, paces):
            time.seconds += pace
    assert stops[0]
    assert clocks[0].read() <= 8.0 + 1e-9


def test_collectives_are_rare():
    calls = []
    time = FakeTime()
    clock = build_clock(time, max_seconds=600.0, share=lambda values: calls.append(values) or values)
    steps, _ = run(clock, time, lambda step: 0.12)
    assert steps == 5000
    assert len(calls) < steps / 20


def test_the_device_is_synchronised_only_where_seconds_matter():
    calls = []
    for limits, expected in (({"max_steps": 50}, False), ({"max_seconds": 5.0}, True)):
        calls.clear()
        time = FakeTime()
        clock = build_clock(time, synchronise=lambda: calls.append(1), **limits)
        run(clock, time, lambda step: 0.1)
        assert bool(calls) is expected


def test_an_interrupt_stops_all_ranks_at_one_step():
    box = {}

    def leader(values):
        box["sent"] = values
        return values

    time = FakeTime()
    clocks = [build_clock(time, share=share) for share in (leader, lambda values: box["sent"])]
    for clock in clocks:
        clock.start()
    for step in range(200):
        if step == 21:
            clocks[0].interrupt()
        stops = [clock.should_stop(step) for clock in clocks]
        assert len(set(stops)) == 1
        if stops[0]:
            break
        time.seconds += 0.1
    assert 21 <= step <= 21 + 32
    assert all(clock.interrupted for clock in clocks)


def test_per_rank_clock_follows_its_own_reading_and_stops_with_the_others():
    times = iter([0.0, *(float(t) for t in range(1, 400))])
    own = BudgetClock(8, max_seconds=100.0, share=lambda values: (values[0] - 2.0, values[1]), per_rank=True)
    own.now = lambda: next(times)
    own.start()
    shared_seconds, own_seconds = own.local_progress(0).seconds, own.progress(0).seconds
    assert own_seconds - own.local_progress(0).seconds == pytest.approx(2.0)
    assert own.should_stop(0) is False
    assert shared_seconds <= own_seconds
