"""Prefetching: the same batches in the same order, a bounded number ahead, and errors where they belong."""

import threading
import time
from types import SimpleNamespace

import pytest
import torch

from golf.data.stream import Batch
from golf.training.datamodule import RankStream
from golf.training.prefetch import AHEAD, prefetched


def alive() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "golf-prefetch"]


def test_in_order_and_no_further_than_allowed() -> None:
    made: list[int] = []
    batches = prefetched(lambda number: made.append(number) or number, 7)
    assert [next(batches) for _ in range(3)] == [7, 8, 9]
    time.sleep(0.05)
    assert len(made) <= 3 + AHEAD + 1
    batches.close()
    assert not alive()


def test_an_error_reaches_the_one_who_asks_after_what_was_good() -> None:
    def make(number: int) -> int:
        if number == 2:
            raise ValueError("no such batch")
        return number

    batches = prefetched(make, 0)
    assert [next(batches), next(batches)] == [0, 1]
    with pytest.raises(ValueError, match="no such batch"):
        next(batches)
    assert not alive()


def test_waiting_is_measured_and_both_ways_give_the_same_batches(monkeypatch) -> None:
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)  # needs an accelerator

    def batch(micro_step: int, rank: int, world: int) -> Batch:
        time.sleep(0.002)
        rows = torch.full((1, 2), micro_step * 10 + rank + world)
        return Batch(rows, rows)

    seen = {}
    for device in ("cpu", "cuda"):
        session = SimpleNamespace(
            step=3, accumulate=2, rank=1, world=2, device=SimpleNamespace(type=device), statistics={}
        )
        session.stream = SimpleNamespace(batch=batch)
        stream = iter(RankStream(session))
        seen[device] = [int(next(stream).inputs_BT[0, 0]) for _ in range(4)]
        stream.close()
        assert session.statistics["data_wait_seconds"] > 0
    assert seen["cpu"] == seen["cuda"] == [63, 73, 83, 93]
    assert not alive()
