"""Which rank is lost: the judgement over made-up beats, without processes."""

from __future__ import annotations

import pytest

from golf.training.heartbeat import Beat, Watch


def beats(count: int, *positions: tuple[int, bool], **flags: bool) -> dict[int, Beat]:
    at = {rank: Beat(count, step, waiting, False, False) for rank, (step, waiting) in enumerate(positions)}
    return {rank: beat._replace(**flags) for rank, beat in at.items()}


def first_verdict(frames, timeout: float = 10.0, own: int = 0):
    """The first thing that is said over frames one second apart, and when."""
    watch = Watch(timeout, own)
    for second, frame in enumerate(frames):
        found = watch.judge(frame, float(second))
        if found:
            return second, *found
    return None


def test_nothing_is_wrong_while_steps_are_made():
    assert first_verdict(beats(n, (1 + n // 8, True), (1 + n // 8, False)) for n in range(100)) is None


def test_a_rank_whose_beat_stops_is_silent():
    frames = [{**beats(n, (n, True), (n, False)), 1: Beat(min(n, 5), 5, False, False, False)} for n in range(40)]
    second, rank, what = first_verdict(frames)
    assert (second, rank) == (16, 1)
    assert what == "rank 1 has been silent for 11 s after step 5 (stopped, or its machine is gone)"


def test_the_hindmost_rank_stands_still():
    frames = [beats(n, (7, True), (7, True), (7, False), (7, True)) for n in range(40)]
    second, rank, what = first_verdict(frames)
    assert (second, rank, what) == (11, 2, "rank 2 has stood still for 11 s after step 7")


def test_if_all_wait_for_each_other_it_is_the_network():
    assert (
        "no rank has moved for 11 s after step 7" in first_verdict(beats(n, (7, True), (7, True)) for n in range(40))[2]
    )


@pytest.mark.parametrize("flags", [{"busy": True}, {"done": True}])
def test_validation_checkpoints_and_the_end_may_take_their_time(flags):
    frames = [{**beats(n, (7, True), (7, False)), 1: beats(n, (7, True), (7, False), **flags)[1]} for n in range(60)]
    assert first_verdict(frames) is None


def test_the_first_step_may_compile():
    assert first_verdict(beats(n, (0, True), (0, False)) for n in range(60)) is None


def test_a_process_that_was_stopped_itself_blames_nobody():
    watch = Watch(10.0, 0)
    assert watch.judge(beats(1, (7, True), (7, False)), 0.0) is None
    assert watch.judge(beats(1, (7, True), (7, False)), 100.0) is None
    assert watch.judge(beats(2, (8, True), (8, False)), 101.0) is None


def test_a_beat_survives_the_store():
    beat = Beat(12, 345, True, False, True)
    assert Beat.decode(beat.encode().encode()) == beat
