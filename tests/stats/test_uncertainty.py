"""Estimates of a planted truth are unbiased, and the errors told of them are about the errors made."""

import numpy as np
import pytest

from heldout_torch import DataError
from heldout_torch.stats import (
    Reliability,
    RunTable,
    consistency,
    error_bound,
    influence,
    influence_error,
    memorization,
    memorization_error,
    pair_error,
    pair_p_values,
    reliability,
)
from tests.stats.reference import random_runs

N, M, RUNS, RATIO = 60, 30, 300, 0.7


def planted(seed, runs=RUNS, n=N):
    """Runs in which a training example is right with known shares in and out, and moves one test example.

    Test example j is right with a base share, and up to 0.5 more often where training example j was trained on.
    """
    rng = np.random.default_rng(seed)
    truth = np.random.default_rng(0)
    held_out, gain = truth.uniform(0.1, 0.5, n), truth.uniform(0, 0.4, n)
    base, moved = truth.uniform(0.2, 0.4, M), truth.uniform(0, 0.5, M)
    trained_on = np.zeros((runs, n), bool)
    for row in trained_on:
        row[rng.choice(n, int(n * RATIO), replace=False)] = True
    correct_train = rng.random((runs, n)) < held_out + gain * trained_on
    correct_test = rng.random((runs, M)) < base + moved * trained_on[:, :M]
    return RunTable.from_arrays(trained_on, correct_train, correct_test), gain, held_out, moved


@pytest.fixture(scope="module")
def experiments():
    """Estimates, errors and truths of many repetitions."""
    results = {"memorization": [], "influence": [], "consistency": []}
    for seed in range(60):
        table, gain, held_out, moved = planted(seed)
        own = np.arange(M)
        results["memorization"].append((memorization(table), memorization_error(table), gain))
        results["influence"].append((influence(table)[own, own], influence_error(table)[own, own], moved))
        scores = consistency(table)
        results["consistency"].append((scores.scores, scores.standard_error, held_out))
    return {name: map(np.array, zip(*parts, strict=True)) for name, parts in results.items()}


@pytest.mark.parametrize("statistic", ["memorization", "influence", "consistency"])
def test_estimates_are_unbiased_and_their_errors_cover(experiments, statistic):
    estimate, error, truth = experiments[statistic]
    deviation = (estimate - truth) / error  # (repetitions, examples)
    assert abs(deviation.mean()) < 4 / np.sqrt(deviation.size)
    assert 0.93 < (np.abs(deviation) < 1.96).mean() < 0.97
    assert deviation.std() == pytest.approx(1, abs=0.06)
    if statistic != "consistency":
        assert ((estimate - truth) ** 2).mean() < error_bound(RUNS, RATIO)


def test_error_is_that_of_two_sample_means():
    trained_on, correct_train, correct_test = random_runs(80, 10, 6, seed=0)
    table = RunTable.from_arrays(trained_on, correct_train, correct_test, mix_ratios=True)

    def error(correct, mask):
        groups = correct[mask].astype(float), correct[~mask].astype(float)
        return np.sqrt(sum(group.var(ddof=1) / len(group) for group in groups)) if all(map(len, groups)) else np.nan

    expected = [error(correct_train[:, i], trained_on[:, i]) for i in range(10)]
    np.testing.assert_allclose(memorization_error(table), expected, rtol=1e-5)
    expected = [[error(correct_test[:, j], trained_on[:, i]) for i in range(10)] for j in range(6)]
    np.testing.assert_allclose(influence_error(table), expected, rtol=1e-5)
    np.testing.assert_allclose(influence_error(table, [4, 2], [5]), np.array(expected)[5:, [4, 2]], rtol=1e-5)
    single = pair_error(table, np.array([4, 2]), np.array([5, 0]))
    np.testing.assert_allclose(single, [expected[5][4], expected[0][2]], rtol=1e-5)


@pytest.mark.parametrize(
    ("train", "test"),
    [(np.arange(50), [3]), ([3], np.arange(6)), ([10], [0]), ([0], [6]), ([-11], [0]), ([[1]], [[2]]), ([0.5], [1])],
)
def test_errors_of_pairs_that_are_none_are_refused(train, test):
    """Their counts would be of whatever lies behind the arrays."""
    table = RunTable.from_arrays(*random_runs(80, 10, 6, seed=0), mix_ratios=True)
    with pytest.raises(DataError, match=r"train_index|test_index|expected pairs"):
        pair_error(table, train, test)
    with pytest.raises(DataError, match=r"train_index|test_index|expected pairs"):
        pair_p_values(table, train, test)


def test_bound_is_that_of_lemma_2_1():
    assert error_bound(2000, 0.7) == pytest.approx(1 / 600 + 1 / 1400, rel=1e-6)
    assert error_bound(2000, 0.3) == pytest.approx(error_bound(2000, 0.7))
    assert error_bound(16, 0.5) == pytest.approx(0.25 + np.exp(-0.5) / 2)
    wrong = (0, 0.5), (5, 1.0), (float("nan"), 0.5), ("3", 0.5), (2.5, 0.5), (5, "a"), (5, None), (5, float("nan"))
    for runs, ratio in wrong:
        with pytest.raises(DataError, match=r"runs is .* expected a number from 1|subset_ratio is .* expected a share"):
            error_bound(runs, ratio)


def test_reliability_compares_even_with_odd_runs_and_grows_with_their_number():
    table, *_ = planted(0, runs=801)
    result = reliability(table, memorization)
    halves = [memorization(table.select_runs(np.arange(start, 801, 2))) for start in (0, 1)]
    assert result.correlation == pytest.approx(np.corrcoef(*halves)[0, 1])
    assert result.mean_absolute_difference == pytest.approx(np.abs(halves[0] - halves[1]).mean(), rel=1e-5)
    assert (result.values, result.runs) == (N, (401, 400))
    few = reliability(table.select_runs(slice(40)), memorization)
    assert few.correlation < result.correlation
    assert reliability(table, lambda half: influence(half, [0, 1], [2])).values == 2


def test_reliability_needs_something_to_compare():
    with pytest.raises(DataError, match=r"3 runs \(0, 1, 2\) cannot be halved"):
        reliability(planted(0, runs=3)[0], memorization)
    table = RunTable.from_arrays(np.ones((4, 5), bool), np.ones((4, 5), bool), np.ones((4, 5), bool))
    with pytest.raises(DataError, match="no value of the statistic is a number in both halves"):
        reliability(table, memorization)


@pytest.mark.parametrize("value", [0.1, np.float32(0.1), 1e9 / 3, 0])
def test_a_constant_statistic_has_no_correlation(value):
    """Its standard deviation can be 1e-17, from rounding."""
    table = planted(0, runs=10)[0]
    for first in (np.zeros(777), np.arange(777)):
        found = reliability(table, lambda half, first=first: first * (half.keys[0] == table.keys[0]) + value)
        assert np.isnan(found.correlation)


def test_reliability_predicts_that_of_all_runs():
    """Two tables of as many runs agree as the halves of one say by Spearman and Brown."""
    predicted, met = [], []
    for seed in range(20):
        (one, *_), (other, *_) = planted(2 * seed, n=400), planted(2 * seed + 1, n=400)
        predicted.append(reliability(one, memorization).full_correlation)
        met.append(np.corrcoef(memorization(one), memorization(other))[0, 1])
    halves = reliability(one, memorization).correlation
    assert np.mean(predicted) == pytest.approx(np.mean(met), abs=0.01)
    assert halves < np.mean(met) - 0.03


@pytest.mark.parametrize("correlation", [-1.0 - 1e-12, -1.0, -0.999, -0.5, -1 / 3, -0.1, 0.0, 0.4, 1.0])
def test_a_predicted_reliability_is_a_correlation(correlation):
    """`2 r / (1 + r)` of -0.5 is -2."""
    found = Reliability(correlation, 0.1, 10, (5, 5)).full_correlation
    assert found == pytest.approx(max(-1, 2 * correlation / (1 + correlation)) if correlation > -0.99 else -1)
    assert np.isnan(Reliability(float("nan"), 0.1, 10, (5, 5)).full_correlation)
