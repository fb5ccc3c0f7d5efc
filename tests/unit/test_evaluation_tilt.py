"""Hints come from the past only, and a tilted distribution still sums to one."""

import numpy as np
import pytest

from golf.evaluation.tilt import NO_HINT, FollowerCounts, NgramHints, tilted_nll

VOCAB = 12


def builder(**options):
    word_start = np.zeros(VOCAB, bool)
    word_start[4:9] = True
    boundary = np.zeros(VOCAB, bool)
    boundary[1] = True
    return NgramHints(word_start, boundary, within_beta=0.9, word_beta=0.5, **options)


@pytest.fixture
def stream():
    rng = np.random.default_rng(0)
    phrase = rng.integers(2, VOCAB, 40)
    parts = [np.concatenate([[1], phrase, rng.integers(2, VOCAB, 10)]) for _ in range(6)]
    return np.concatenate(parts).tolist()


def test_a_hint_depends_on_nothing_behind_it(stream):
    hints, betas = builder().hints(stream)
    assert (hints >= 0).sum() > 100
    assert (betas[hints == NO_HINT] == 0).all()
    for place in (60, 150, 220):
        other = stream[:place] + [2 + (token + 3) % (VOCAB - 2) for token in stream[place:]]
        again = builder().hints(other)
        np.testing.assert_array_equal(hints[: place + 1], again[0][: place + 1])
        np.testing.assert_array_equal(betas[: place + 1], again[1][: place + 1])


def test_repeated_phrases_are_hinted(stream):
    hints, betas = builder().hints(stream)
    last = slice(5 * 51 + 20, 5 * 51 + 41)
    assert (hints[last] == stream[last]).all()
    assert betas[last].max() == pytest.approx(2.1)


def test_counts_prefer_the_most_frequent_follower():
    counts = FollowerCounts()
    for token in (3, 5, 5, 3, 3):
        counts.add("context", token)
    assert counts.lookup("context", 0.5, 3) == (3, 0.6)
    assert counts.lookup("context", 0.7, 3) == (NO_HINT, 0.0)
    assert counts.lookup("context", 0.5, 6) == (NO_HINT, 0.0)
    assert counts.lookup("other", 0.0, 0) == (NO_HINT, 0.0)


def test_tilted_probabilities_sum_to_one():
    rng = np.random.default_rng(2)
    logits = rng.standard_normal(VOCAB)
    log_p = logits - np.log(np.exp(logits).sum())
    everything = np.arange(VOCAB)
    for hint, beta in ((4, 2.0), (0, 0.5), (NO_HINT, 0.0)):
        ones = np.full(VOCAB, hint)
        nll = tilted_nll(-log_p, np.full(VOCAB, log_p[max(hint, 0)]), everything, ones, np.full(VOCAB, beta))
        assert np.exp(-nll).sum() == pytest.approx(1.0, abs=1e-12)
        if hint == NO_HINT:
            np.testing.assert_array_equal(nll, -log_p)
        else:
            assert nll[hint] < -log_p[hint]
