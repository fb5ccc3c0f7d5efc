"""The ledger: write-once, exact coverage, exact sums."""

import math

import numpy as np
import pytest
import torch

from golf.errors import VerificationFailed
from golf.evaluation.bpb import Score, bits_per_byte
from golf.evaluation.ledger import Coverage, Ledger, LedgerError


def test_bits_per_byte():
    assert bits_per_byte(8 * math.log(2), 4) == pytest.approx(2.0, abs=1e-15)
    assert math.isnan(bits_per_byte(1.0, 0))
    score = Score(math.log(2) * 6, 3, 2) + Score(0.0, 1, 1)
    assert (score.targets, score.bytes) == (4, 3)
    assert score.bpb == pytest.approx(2.0)
    assert score.nats_per_token == pytest.approx(1.5 * math.log(2))
    # A published pair of the official validation split (62,021,632 targets, 151,080,363 bytes).
    official = Score(2.03860961 * 62_021_632, 62_021_632, 151_080_363)
    assert official.bpb == pytest.approx(1.20737944, abs=1e-8)


def test_a_score_is_final():
    ledger = Ledger(10)
    ledger.record(3, torch.tensor([1.0, 2.0]))
    with pytest.raises(LedgerError, match="target 4 is already scored"):
        ledger.record(4, torch.tensor([0.5]))
    assert ledger.score(np.ones(10, np.int64)).nats_sum == 3.0  # the refused record left nothing behind
    assert issubclass(LedgerError, VerificationFailed)


@pytest.mark.parametrize("bad", [math.nan, -math.inf, -1.0])
def test_only_losses_are_recorded(bad):
    ledger = Ledger(10)
    with pytest.raises(LedgerError, match="target 6 has the loss"):
        ledger.record(5, np.array([1.0, bad]))
    assert ledger.coverage().scored == 0


def test_rounding_below_zero_and_infinite_losses_are_kept():
    ledger = Ledger(2)
    ledger.record(1, np.array([-1e-7, math.inf]))
    assert ledger.score(np.ones(2, np.int64)).bpb == math.inf


@pytest.mark.parametrize(("first", "count"), [(0, 1), (10, 2), (-3, 2)])
def test_targets_outside_the_stream(first, count):
    with pytest.raises(LedgerError, match="outside of 1…10"):
        Ledger(10).record(first, np.zeros(count))


def test_counting_keeps_every_scoring():
    ledger = Ledger(4, rescoring="count")
    ledger.record(1, np.array([1.0, 1.0, 1.0]))
    ledger.record(3, np.array([2.0]))
    score = ledger.score(np.array([1, 2, 3, 4]))
    assert (score.nats_sum, score.targets, score.bytes) == (5.0, 4, 9)
    assert ledger.coverage() == Coverage(split_targets=4, scored=3, scored_twice=1)
    with pytest.raises(ValueError, match="rescoring"):
        Ledger(4, rescoring="maybe")


def test_merging_ranks_is_exact_and_finds_duplicates():
    rng = np.random.default_rng(0)
    losses = rng.random(1000) * 7
    whole, parts = Ledger(1000), [Ledger(1000) for _ in range(3)]
    whole.record(1, losses)
    for rank, (begin, end) in enumerate([(0, 100), (100, 731), (731, 1000)]):
        parts[rank].record(begin + 1, losses[begin:end])
    parts[0].merge(parts[1])
    parts[0].merge(parts[2])
    bytes_N = rng.integers(0, 9, 1000)
    assert parts[0].score(bytes_N) == whole.score(bytes_N)  # bit for bit
    with pytest.raises(LedgerError, match="more than one rank"):
        parts[0].merge(parts[1])
    with pytest.raises(LedgerError, match="cannot be merged"):
        parts[0].merge(Ledger(3))


def test_reduce_over_ranks():
    other = Ledger(3)
    other.record(3, np.array([4.0]))

    def sum_over_ranks(tensor):
        return tensor + torch.from_numpy(other.nats_N if tensor.dtype == torch.float64 else other.times_N)

    ledger = Ledger(3)
    ledger.record(1, np.array([1.0, 2.0]))
    ledger.reduce(sum_over_ranks)
    assert ledger.score(np.ones(3, np.int64)).nats_sum == 7.0
    assert ledger.coverage().complete


def test_coverage_says_what_is_missing():
    ledger = Ledger(10)
    ledger.record(1, np.zeros(10))
    assert str(ledger.coverage()) == "scored 10 of 10 targets, 0 more than once"
    part = ledger.coverage(split_targets=40)
    assert not part.complete
    assert part.never_scored == 30
    assert str(part) == "scored 10 of 40 targets, 0 more than once, PARTIAL (25.00%)"
    assert part.as_dict() == {
        "split_targets": 40,
        "scored": 10,
        "scored_twice": 0,
        "never_scored": 30,
        "complete": False,
    }


def test_scores_need_bytes_for_every_target():
    with pytest.raises(LedgerError, match="3 byte counts for 10 targets"):
        Ledger(10).score(np.zeros(3, np.int64))
