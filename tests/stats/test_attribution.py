"""The linear datamodeling score is Spearman's correlation of each test example, and its interval covers.

Also of stats/rank_kernels.py.
"""

import numpy as np
import pytest
import torch
from dattri.metric import lds as dattri_lds
from scipy.stats import spearmanr

from heldout_torch import DataError
from heldout_torch.stats import OutputTable, lds


def linear_world(runs, n, m, seed, size=None):
    """Runs on subsets of one size whose margins are a linear function of the subset, plus noise; and that function."""
    rng = np.random.default_rng(seed)
    weights = np.random.default_rng(0).normal(0, 1, (m, n)) / np.sqrt(n)
    masks = np.zeros((runs, n), bool)
    for row in masks:
        row[rng.choice(n, size or n // 2, replace=False)] = True
    margins = masks @ weights.T + rng.normal(0, 1, (runs, m)) / 2
    return OutputTable.from_arrays(masks, margins), weights


def test_it_is_spearmans_correlation_of_each_test_example():
    table, weights = linear_world(80, 50, 30, seed=1)
    found = lds(weights, table)
    predicted = table.mask() @ weights.T
    expected = [spearmanr(predicted[:, j], table.margins_test[:, j]).statistic for j in range(30)]
    np.testing.assert_allclose(found.correlation, expected, atol=1e-12)
    assert found.mean == pytest.approx(np.mean(expected))
    assert found.interval[0] < found.mean < found.interval[1]
    assert found.runs == 80


def test_it_is_dattris():
    table, weights = linear_world(40, 30, 12, seed=2)
    subsets = torch.from_numpy(np.array([np.flatnonzero(mask) for mask in table.mask()]))
    expected, _ = dattri_lds(torch.from_numpy(weights.T), (torch.from_numpy(table.margins_test), subsets))
    np.testing.assert_allclose(lds(weights, table).correlation, expected.numpy(), atol=1e-12)


def test_ties_get_their_mean_rank():
    rng = np.random.default_rng(3)
    table, _ = linear_world(60, 20, 15, seed=3)
    table = OutputTable.from_arrays(table.mask(), np.round(table.margins_test))
    scores = rng.integers(-1, 2, (15, 20))
    predicted = table.mask() @ scores.T
    expected = [spearmanr(predicted[:, j], table.margins_test[:, j]).statistic for j in range(15)]
    np.testing.assert_allclose(lds(scores, table).correlation, expected, atol=1e-12)


def test_a_resample_is_spearmans_correlation_of_the_runs_drawn():
    """One resample of one test example: both ends of its interval are the correlation over the runs drawn."""
    table, weights = linear_world(50, 20, 1, seed=4)
    times = np.random.default_rng(7).multinomial(50, np.full(50, 1 / 50), 1)[0]
    drawn = np.repeat(np.arange(50), times)
    expected = spearmanr((table.mask() @ weights.T)[drawn, 0], table.margins_test[drawn, 0]).statistic
    assert lds(weights, table, resamples=1, seed=7).interval == pytest.approx((expected, expected))


def test_the_interval_covers_as_often_as_it_says():
    truth = lds(linear_world(20_000, 20, 5, seed=0)[1], linear_world(20_000, 20, 5, seed=5)[0], resamples=1).mean
    inside = 0
    for seed in range(200):
        table, weights = linear_world(100, 20, 5, seed=10 + seed)
        low, high = lds(weights, table, level=0.9).interval
        inside += low <= truth <= high
    assert 0.83 <= inside / 200 <= 0.96


def test_blocks_functions_and_selections_give_the_same():
    table, _ = linear_world(20, 9000, 10, seed=6)
    scores = np.random.default_rng(6).normal(0, 1, (10, 9000)).astype(np.float32)
    whole = lds(scores, table)
    asked = []

    def rows(test):
        asked.append(test)
        return scores[test]

    np.testing.assert_array_equal(lds(rows, table).correlation, whole.correlation)
    assert np.concatenate(asked).tolist() == list(range(10))
    test, train = [7, 2], np.arange(9000) % 3 == 1
    part = lds(scores[np.ix_(test, train)], table, train, test)
    by_function = lds(lambda rows: scores[np.ix_(rows, np.flatnonzero(train))], table, train, test)
    np.testing.assert_array_equal(by_function.correlation, part.correlation)
    others = np.where(train, scores, 0)
    np.testing.assert_allclose(part.correlation, lds(others, table).correlation[test], atol=2e-3)


def test_many_test_examples_come_in_blocks():
    table, scores = linear_world(10, 40, 3000, seed=7)
    sizes = []

    def rows(test):
        sizes.append(len(test))
        return scores[test]

    found = lds(rows, table, resamples=1)
    assert len(sizes) == 2
    predicted = table.mask() @ scores.T
    for j in (0, sizes[0] - 1, sizes[0], 2999):
        expected = spearmanr(predicted[:, j], table.margins_test[:, j]).statistic
        assert found.correlation[j] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("dtype", [np.float16, ">f4", np.uint8, np.uint64, ">i4", list, torch.tensor])
def test_scores_are_any_array_of_numbers(dtype):
    table, _ = linear_world(30, 20, 4, seed=9)
    scores = np.random.default_rng(0).integers(0, 200, (4, 20))
    given = dtype(scores.tolist()) if dtype in (list, torch.tensor) else scores.astype(dtype)
    np.testing.assert_array_equal(lds(given, table).correlation, lds(scores, table).correlation)


def test_large_integers_are_no_rounded_scores():
    table, _ = linear_world(30, 20, 1, seed=9)
    small = np.arange(20)[None]
    large = 2**40 + small  # which single precision would make all the same
    sizes = table.mask().sum(1)
    expected = spearmanr(table.mask() @ small[0] + 2**40 * sizes, table.margins_test[:, 0]).statistic
    assert lds(large.astype(np.uint64), table).correlation[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_runs_of_one_subset_are_tied_whatever_rounding_does(dtype):
    """So are those that have as many examples of equal scores: a product adds up different runs in different orders."""
    rng = np.random.default_rng(5)
    subsets = rng.random((13, 19)) < 0.5
    which = rng.integers(0, 13, 65)
    margins = rng.normal(size=(65, 4))
    table = OutputTable.from_arrays(subsets[which], margins)
    scores = rng.normal(size=(4, 19)).astype(dtype)
    scores[2:] = np.arange(19) % 2 * dtype(0.1)
    predicted = [(subsets.astype(float) @ scores[j])[which] for j in range(2)] + 2 * [subsets[which, 1::2].sum(1)]
    expected = [spearmanr(one, margins[:, j]).statistic for j, one in enumerate(predicted)]
    np.testing.assert_allclose(lds(scores, table).correlation, expected, atol=1e-12)
    everything = OutputTable.from_arrays(np.ones((65, 19), bool), margins)
    with pytest.warns(UserWarning, match="4 of 4 test examples have no linear datamodeling score"):
        assert np.isnan(lds(scores, everything).correlation).all()


def test_what_all_scores_have_in_common_does_not_blur_them():
    """Where all subsets are of one size, a constant moves all predictions alike."""
    table, weights = linear_world(40, 3000, 3, seed=5)
    fine, tiny = np.round(weights * 2**20) / 2**20, np.ldexp(weights, -1010)
    expected = lds(fine, table).correlation
    for scores in (fine + 64, (np.round(weights * 2**12) / 2**12 + 1024).astype(np.float32)):
        predicted = table.mask() @ scores.astype(np.float64).T
        exact = [spearmanr(predicted[:, j], table.margins_test[:, j]).statistic for j in range(3)]
        np.testing.assert_allclose(lds(scores, table).correlation, exact, atol=1e-12)
    np.testing.assert_allclose(lds(fine + 64, table).correlation, expected, atol=1e-12)
    np.testing.assert_allclose(lds(tiny, table).correlation, lds(weights, table).correlation, atol=1e-3)


def test_constant_margins_have_no_score():
    table, weights = linear_world(30, 20, 4, seed=9)
    margins = table.margins_test.copy()
    margins[:, 2] = 1.5
    with pytest.warns(UserWarning, match="1 of 4 test examples have no linear datamodeling score"):
        found = lds(weights, OutputTable.from_arrays(table.mask(), margins))
    assert np.isnan(found.correlation[2])
    assert found.mean == pytest.approx(np.delete(found.correlation, 2).mean())
    with pytest.warns(UserWarning, match="4 of 4 test examples have no linear datamodeling score: their predictions"):
        nothing = lds(np.zeros((4, 20)), table)
    assert np.isnan(nothing.correlation).all()
    assert np.isnan([nothing.mean, *nothing.interval]).all()


def test_what_cannot_be_is_refused():
    table, weights = linear_world(30, 20, 4, seed=9)
    with pytest.raises(DataError, match=r"expected \(test, train\) \(4, 20\)"):
        lds(weights.T, table)
    with pytest.raises(DataError, match="expected numbers"):
        lds(lambda test: weights[:1], table)
    with pytest.raises(DataError, match="score nan of test example 3"):
        lds(np.where(np.arange(4)[:, None] == 3, np.nan, weights), table)
    with pytest.raises(DataError, match="sums of scores of test example 3 are infinite"):
        lds(np.where(np.arange(4)[:, None] == 2, 1e308, weights)[:3], table, test=[0, 1, 3])
    with pytest.raises(DataError, match="three runs"):
        lds(weights, table.select_runs([0, 1]))
    with pytest.raises(DataError, match="level is 1, expected a share"):
        lds(weights, table, level=1)
    for number in (0, 2.5):
        with pytest.raises(DataError, match=f"resamples is {number}, expected a number from 1"):
            lds(weights, table, resamples=number)
    for seed in (-1, "a", 1.5):
        with pytest.raises(DataError, match="seed is"):
            lds(weights, table, seed=seed)


@pytest.mark.filterwarnings("error")
def test_resamples_of_one_run_alone_rank_nothing():
    """Of 27 ways to draw three of three runs three are of one run."""
    table, weights = linear_world(3, 20, 4, seed=9)
    found = lds(weights, table, resamples=200)
    assert -1 <= found.interval[0] <= found.mean <= found.interval[1] <= 1
    assert not np.isnan(found.interval).any()
