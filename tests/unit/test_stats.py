"""Tests of gains, power and policies: against scipy.stats, against simulation, and against published seeds."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from golf.errors import UserError
from golf.runs.compare import compare_two
from golf.runs.entries import entries_of
from golf.runs.leaderboard import find_published
from golf.stats.gain import holm, paired, pooled_deviation, student_quantile, student_tail, welch
from golf.stats.policies import policy_of
from golf.stats.power import detectable_effect, power, seeds_needed

SAMPLES = st.lists(st.floats(0.9, 1.3), min_size=2, max_size=8, unique=True)


@settings(max_examples=60, deadline=None)
@given(SAMPLES, SAMPLES, st.floats(0, 0.1))
def test_welch_equals_scipy(new, old, margin):
    found = welch(new, old, margin)
    theirs = stats.ttest_ind(np.array(old) - margin, new, equal_var=False, alternative="greater")
    low, high = stats.ttest_ind(old, new, equal_var=False).confidence_interval(0.95)
    assert (found.t, found.p) == pytest.approx((theirs.statistic, theirs.pvalue), rel=1e-6, abs=1e-12)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-6, abs=1e-9)
    assert found.degrees == pytest.approx(theirs.df, rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0.9, 1.3), st.floats(0.9, 1.3)), min_size=3, max_size=8, unique=True))
def test_paired_equals_scipy_and_takes_common_seeds_only(pairs):
    new, old = ({str(seed): pair[side] for seed, pair in enumerate(pairs)} for side in (0, 1))
    found = paired({**new, "x": 9.0}, {**old, "y": 9.0})
    if found.error == 0:
        return
    theirs = stats.ttest_rel(list(old.values()), list(new.values()), alternative="greater")
    assert (found.t, found.p) == pytest.approx((theirs.statistic, theirs.pvalue), rel=1e-6, abs=1e-12)


def test_no_test_without_two_values_and_certainty_without_spread():
    assert welch([1.0], [1.1, 1.2]) is None
    assert paired({"1": 1.0}, {"1": 1.1, "2": 1.2}) is None
    assert welch([1.0, 1.0], [1.1, 1.1]).p == 0.0
    assert welch([1.1, 1.1], [1.0, 1.0]).p == 1.0
    assert welch([1.0, 1.0], [1.0, 1.0]).p == 0.5


def test_student_against_known_values():
    assert student_tail(2.0, 10.0) == pytest.approx(0.036694, abs=1e-6)
    assert student_tail(1.0, 1.0) == pytest.approx(0.25, abs=1e-12)
    assert student_tail(math.inf, 3.0) == 0.0
    assert student_quantile(0.025, 4) == pytest.approx(2.776445, abs=1e-6)


# New, old, gain in nats per token, p of no gain, p of no more than 0.005: computed by others from the same logs.
PUBLISHED = [
    ("record/0325_gptq_xsa_all", "record/0323_leaky_relu_parallel_muon", 0.0078, 0.0004, 0.0095),
    ("record/0329_loader_full_gptq", "record/0325_gptq_xsa_all", 0.0042, 0.0010, 0.877),
    ("record/0331_parallel_residual_recurrence", "record/0329_loader_full_gptq", 0.0101, 0.0098, 0.041),
    ("record/0403_muoneqr_recurrence", "record/0401_vocab4096_mlp4", 0.0152, 0.0013, 0.0037),
    ("record/0404_decoupled_lanes", "record/0403_muoneqr_recurrence", 0.0035, 0.048, 0.825),
    ("record/0406_hessian_sdclip", "record/0405_sp8192_sdclip", 0.0054, 0.0017, 0.373),
    ("record/0410_varlen_attention", "record/0409_a2_muon097", 0.0167, 0.0005, 0.0016),
    ("record/0422_mlp_clip12", "record/0419_gated_attention", 0.0021, 0.063, 0.973),
]


@pytest.mark.parametrize(("new", "old", "gain", "p", "p_of_margin"), PUBLISHED)
def test_published_steps(new, old, gain, p, p_of_margin):
    """Also those whose validation shards were cut anew, where only bits per byte can be compared."""
    found = compare_two(*entries_of(new), *entries_of(old), policy_of("challenge_0.005_nats_p01"))
    nats = 1 if found.unit == "nats_per_token" else math.log(2) / found.tokens_per_byte
    assert found.any_gain.gain * nats == pytest.approx(gain, abs=6e-5)
    assert found.any_gain.p == pytest.approx(p, abs=6e-4 if p > 0.001 else 6e-5)
    assert found.gain.p == pytest.approx(p_of_margin, abs=6e-4 if p_of_margin > 0.01 else 6e-5)


def test_power_against_simulation():
    generator = np.random.default_rng(1)
    effect, deviation, n = 0.004, 0.002, 3
    new = generator.normal(0, deviation, (20_000, n))
    old = generator.normal(effect, deviation, (20_000, n))
    p = stats.ttest_ind(old, new, axis=1, alternative="greater").pvalue
    assert power(effect, deviation, n, n, 0.05) == pytest.approx((p < 0.05).mean(), abs=0.012)


def test_detectable_effect_and_seeds_agree_with_power():
    effect = detectable_effect(0.001, 3, 3, 0.01, margin=0.005)
    assert power(effect, 0.001, 3, 3, 0.01, 0.005) == pytest.approx(0.8, abs=1e-6)
    more = seeds_needed(0.006, 0.001, 3, 3, 0.01, 0.005)
    assert power(0.006, 0.001, 3 + more, 3 + more, 0.01, 0.005) >= 0.8
    assert power(0.006, 0.001, 2 + more, 2 + more, 0.01, 0.005) < 0.8
    fixed = seeds_needed(0.02, 0.001, 1, 3, 0.01, 0.005, old_is_fixed=True)
    assert fixed == 1, "one more of the new alone, and there are two"
    assert seeds_needed(0.004, 0.001, 3, 3, 0.01, 0.005) is None
    assert detectable_effect(0.001, 1, 3, 0.01) is None


def test_pooled_deviation_and_holm():
    assert pooled_deviation([1.0, 2.0, 3.0], [5.0]) == pytest.approx(1.0)
    assert pooled_deviation([1.0], [2.0]) is None
    samples = [0.1, 0.4, 0.2], [1.0, 1.5]
    degrees = 2 * statistics.variance(samples[0]) + statistics.variance(samples[1])
    assert pooled_deviation(*samples) == pytest.approx(math.sqrt(degrees / 3))
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_margins_in_bits_per_byte():
    policy = policy_of("challenge_0.005_nats_p01")
    for entry, published in (("record/0322_ema_gptq_lite", 0.0029613), ("record/0405_sp8192_sdclip", 0.0019357)):
        assert policy.margin_bpb(find_published(entry).tokens_per_byte()) == pytest.approx(published, rel=2e-4)
    with pytest.raises(UserError, match=r"--policy chal.*nearest: challenge_0.005_nats_p01"):
        policy_of("challenge_0.005_nats_p1")
