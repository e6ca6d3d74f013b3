"""Chances of false pairs are those of Fisher's exact test, and rates those of Benjamini and Hochberg."""

import numpy as np
import pytest
from scipy.stats import binom, false_discovery_control, fisher_exact, hypergeom

from heldout_torch import DataError
from heldout_torch.stats import RunTable, false_discovery_rate, influence_pairs, pair_p_values
from tests.stats.reference import random_runs


def test_p_values_are_those_of_fishers_exact_test():
    trained_on, _, correct_test = random_runs(90, 8, 6, seed=4)
    table = RunTable.from_arrays(trained_on, trained_on, correct_test, mix_ratios=True)
    train, test = (axis.ravel() for axis in np.meshgrid(np.arange(8), np.arange(6)))
    values = pair_p_values(table, train, test)
    for value, i, j in zip(values, train, test, strict=True):
        inside, outside = (correct_test[mask, j] for mask in (trained_on[:, i], ~trained_on[:, i]))
        counts = [[inside.sum(), (~inside).sum()], [outside.sum(), (~outside).sum()]]
        assert value == pytest.approx(fisher_exact(counts, "greater").pvalue, rel=1e-9)


def test_p_values_of_many_runs_are_right_far_in_the_tail():
    trained_on = np.broadcast_to((np.arange(2000) < 1400)[:, None], (2000, 3))
    correct = np.arange(2000)[:, None] < [600, 1200, 1400]
    table = RunTable.from_arrays(trained_on, trained_on, correct, mix_ratios=True)
    expected = hypergeom.sf(np.array([600, 1200, 1400]) - 1, 2000, 1400, [600, 1200, 1400])
    np.testing.assert_allclose(pair_p_values(table, np.arange(3), np.arange(3)), expected, rtol=1e-8)
    assert expected[1] < 1e-200


@pytest.mark.parametrize(
    ("runs", "trained", "correct"),
    [(20, 14, 9), (20, 14, 0), (20, 14, 20), (20, 0, 9), (20, 20, 9), (20, 1, 1), (4, 3, 2), (5, 2, 3)],
)
def test_p_values_of_every_outcome_are_the_upper_tail(runs, trained, correct):
    least, most = max(0, trained + correct - runs), min(trained, correct)
    common = np.arange(least, most + 1)
    run = np.arange(runs)[:, None]
    right = np.where(run < trained, run < common, run - trained < correct - common)  # (runs, outcomes)
    table = RunTable.from_arrays(run < trained, run < trained, right, mix_ratios=True)
    expected = hypergeom.sf(common - 1, runs, trained, correct)
    np.testing.assert_allclose(pair_p_values(table, np.zeros(len(common), int), np.arange(len(common))), expected)


def chance_of_a_false_pair(share):
    """Exact chance that shares of right runs, of 1,400 and 600, differ by 0.15 or more where the truth is one share."""
    inside = np.arange(1401)
    most = np.floor(600 * (inside / 1400 - 0.15) + 1e-9)  # right runs outside
    return binom.pmf(inside, 1400, share) @ np.where(most >= 0, binom.cdf(most, 600, share), 0)


def test_false_pairs_among_all_of_imagenet_are_as_many_as_the_rates_say():
    """The figures of docs/formats.md; a pair of exactly 0.15 is as likely false as true among so many."""
    expected = 64e9 * chance_of_a_false_pair(0.5)
    assert 20 < expected < 28
    assert 64e9 * chance_of_a_false_pair(0.9) < 1e-9
    run = np.arange(2000)[:, None]
    right = np.where(run < 1400, run < [764, 1330], run - 1400 < [237, 480])  # 1,001 and 1,810 runs in all
    table = RunTable.from_arrays(run < 1400, run < 1400, right, mix_ratios=True)
    p_values = pair_p_values(table, [0, 0], [0, 1])
    # The test supposes the number of right runs; the binomial sum is over all numbers.
    assert p_values[0] == pytest.approx(chance_of_a_false_pair(0.5), rel=0.5)
    assert false_discovery_rate(p_values, tests=64_000_000_000)[0] == 1
    assert false_discovery_rate(p_values, tests=64_000_000_000)[1] < 1e-8


def test_chances_hold_where_nothing_influences_anything():
    """Among tables of random bits hardly ever a pair at 5 %, and p-values not smaller than they say."""
    found, small = 0, []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        bits = [rng.random((100, k)) < share for k, share in ((60, 0.7), (40, 0.9))]
        pairs = influence_pairs(
            RunTable.from_arrays(bits[0], bits[0], bits[1], mix_ratios=True),
            min_influence=-2, min_memorization=None, same_class=False,
        )  # fmt: skip
        found += (pairs.false_discovery_rate <= 0.05).any()
        small.append((pairs.p_value <= 0.01).mean())
    assert found <= 6  # of 40 tables; 2 on average, if not fewer
    assert 0 < np.mean(small) <= 0.011


def test_false_discovery_rate_is_benjamini_and_hochbergs():
    values = np.random.default_rng(5).random(50) ** 3
    values[7] = values[9]
    np.testing.assert_allclose(false_discovery_rate(values), false_discovery_control(values))
    padded = np.concatenate([values, np.ones(950)])
    np.testing.assert_allclose(false_discovery_rate(values, tests=1000), false_discovery_control(padded)[:50])
    assert false_discovery_rate(np.zeros(0)).shape == (0,)


def test_what_cannot_be_is_refused():
    table = RunTable.from_arrays(*random_runs(10, 4, 3, seed=6), mix_ratios=True)
    with pytest.raises(DataError, match="expected pairs"):
        pair_p_values(table, [0, 1], [0])
    with pytest.raises(DataError, match="test_index"):
        pair_p_values(table, [0], [3])
    for wrong in (np.nan, 1.01, -0.01):
        with pytest.raises(DataError, match=rf"p_values hold {wrong}, expected p-values in 0 \.\.\. 1"):
            false_discovery_rate(np.array([0.5, wrong]))
    with pytest.raises(DataError, match="tests is 1, expected at least 2, the number of p-values"):
        false_discovery_rate(np.array([0.5, 0.2]), tests=1)
    for tests in (float("nan"), float("inf"), "three"):
        with pytest.raises(DataError, match="tests"):
            false_discovery_rate(np.array([0.5, 0.2]), tests=tests)
    for values in (["a"], [[0.5]], 0.5, [0.5 + 0j], None):
        with pytest.raises(DataError, match="expected a row of numbers"):
            false_discovery_rate(values)
