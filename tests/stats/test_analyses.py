"""Analyses, against SciPy and against counting by hand."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch

from heldout_torch import DataError
from heldout_torch.report import plot_memorization_histogram
from heldout_torch.stats import (
    PUBLISHED_BINS,
    ConsistencyScores,
    InfluencePairs,
    Scores,
    accuracy_by_ratio,
    histogram,
    keep_indices,
    load_scores,
    mislabel_auc,
    pair_agreement,
    save_scores,
    score_agreement,
)
from heldout_torch.stats.analyses import kept_ties


def test_histogram_counts_every_value_once_in_18_bins():
    values = np.array([-0.2, 0.0, 0.05, 0.056, 0.5, 0.99, 1.0, np.nan], np.float32)
    result = histogram(values)
    np.testing.assert_allclose(result.edges, np.arange(19) / 18)
    assert result.counts.tolist() == [3, 1] + 7 * [0] + [1] + 7 * [0] + [2]
    assert result.missing == 1
    assert histogram(np.array([])).counts.sum() == 0


def test_histogram_takes_the_range_of_the_data_or_one_that_is_given():
    values = np.random.default_rng(0).uniform(0.15, 0.8, 500).astype(np.float32)
    for name, bins in PUBLISHED_BINS.items():
        result = histogram(values, **bins)
        counts, edges = np.histogram(values.astype(np.float64), bins["bins"], bins["range"])
        np.testing.assert_array_equal(result.counts, counts, name)
        np.testing.assert_array_equal(result.edges, edges, name)
    assert len(histogram(values, **PUBLISHED_BINS["cifar100-influence"]).counts) == 17
    upper = histogram(values, np.int64(3), (0.5, 0.7))
    assert upper.counts.sum() + upper.outside == 500
    assert upper.outside == ((values < 0.5) | (values > 0.7)).sum() > 0
    below = histogram(np.array([-0.9, -0.2, 0.1, 0.7]), 4, (-1, 1))
    assert below.counts.tolist() == [1, 1, 1, 1]  # who asks for negative ones gets them


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_value_on_the_edge_of_two_bins_is_in_the_upper_one_whatever_its_precision(dtype):
    for bins, range_ in ((18, (0.0, 1.0)), (17, (0.15, 1.0)), (20, (-1.0, 1.0))):
        on_edges = np.linspace(*range_, bins + 1).astype(dtype)  # 0.7 as float32 is below 0.7
        result = histogram(on_edges, bins, range_)
        assert result.counts.tolist() == [1] * (bins - 1) + [2]  # the last bin has its upper edge, too
        assert (result.edges.dtype, result.outside) == (np.float64, 0)
        np.testing.assert_array_equal(result.edges, np.linspace(*range_, bins + 1))
    assert histogram(np.array([0.7], dtype), 3, (0.7, 1)).counts.tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("values", "bins", "range_", "message"),
    [
        ([0.5, 1.5], 18, (0, 1), "values reach from 0.5 to 1.5, expected -1"),
        ([-2.0], 18, None, "values reach from -2.0 to -2.0, expected -1"),
        (np.array([-128], np.int8), 18, (0, 1), "values reach from -128"),
        ([0.5], 18, (0, np.inf), "expected the lowest and the highest edge"),
        ([0.5], 18, (-np.inf, 1), "expected the lowest and the highest edge"),
        ([0.5], 18, (0.5, 0.5), "expected the lowest and the highest edge"),
        ([0.5], 18, (0, 0.5, 1), "expected the lowest and the highest edge"),
        ([0.5], 0, (0, 1), "bins is 0, expected a number from 1"),
        ([0.5], 18.0, (0, 1), "bins is 18.0, expected a number from 1"),
        ([0.5], 18, (1, 0), "expected the lowest and the highest edge"),
        (["a"], 18, (0, 1), "values are <U1"),
    ],
)
def test_histogram_refuses_what_is_no_estimate(values, bins, range_, message):
    with pytest.raises(DataError, match=message):
        histogram(np.array(values), bins, range_)


def pairs_of(pairs):
    train, test, value = map(np.array, zip(*pairs, strict=True)) if pairs else np.zeros((3, 0), int)
    return InfluencePairs(train, test, value.astype(np.float32), value, value)


def test_agreement_of_pairs():
    one = pairs_of([(1, 2, 0.5), (2, 1, 0.25), (7, 7, 0.5)])
    other = pairs_of([(7, 7, 0.25), (1, 2, 0.5), (1, 7, 0.5)])
    agreement = pair_agreement(one, other)
    assert (agreement.jaccard, agreement.shared, agreement.mean_difference) == (0.5, 2, 0.125)
    narrow = replace(one, train_index=one.train_index.astype(np.int8), test_index=one.test_index.astype(np.uint16))
    assert pair_agreement(narrow, other) == agreement
    nothing = pair_agreement(one, pairs_of([]))
    assert nothing.jaccard == 0
    assert np.isnan(nothing.mean_difference)
    assert np.isnan(pair_agreement(pairs_of([]), pairs_of([])).jaccard)
    with pytest.raises(DataError, match="training example 1 and test example 2 are a pair twice"):
        pair_agreement(one, pairs_of([(1, 2, 0.5), (3, 1, 0.5), (1, 2, 0.25)]))
    with pytest.raises(DataError, match="in published and in original order cannot be compared"):
        pair_agreement(one, replace(other, order="original"))


def test_agreement_of_scores_equals_scipy():
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 20, (2, 200)) / 20  # ties
    one[3], other[5] = np.nan, np.nan
    both = ~np.isnan(one + other)
    agreement = score_agreement(one, other)
    assert agreement.rank_correlation == pytest.approx(scipy.stats.spearmanr(one[both], other[both]).statistic)
    assert agreement.mean_difference == pytest.approx(np.abs(one - other)[both].mean())
    assert agreement.examples == 198
    assert np.isnan(score_agreement(np.ones(5), np.arange(5.0)).rank_correlation)
    assert score_agreement(Scores(one, order="published"), Scores(other)) == agreement  # not every file says its order
    with pytest.raises(DataError, match="in original and in published order cannot be compared"):
        score_agreement(Scores(one, order="published"), Scores(other, order="original"))
    with pytest.raises(DataError, match="not for the same examples"):
        score_agreement(np.ones(4), np.ones(5))
    with pytest.raises(DataError, match="no example has both scores"):
        score_agreement(np.array([np.nan, 1]), np.array([1, np.nan]))


def test_accuracy_by_ratio_is_the_mean_over_a_band_of_scores():
    per_ratio = np.array([[0.1, 0.5, 1.0, 0.0, np.nan], [0.3, 0.7, 1.0, np.nan, np.nan]], np.float32)
    scores = np.array([0.2, 0.6, 1.0, 0.0, np.nan], np.float32)
    consistency = ConsistencyScores(scores, np.array([2, 2, 2, 1, 0]), np.array([0.1, 0.9]), per_ratio, scores)
    edges, accuracy = accuracy_by_ratio(consistency, bins=3)
    np.testing.assert_allclose(edges, [0, 1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(accuracy, [[0.05, 0.3], [0.5, 0.7], [1, 1]], rtol=1e-6)
    assert np.isnan(accuracy_by_ratio(consistency, bins=np.int64(10))[1][4]).all()
    with pytest.raises(DataError, match=r"bins is 2\.5, expected a number from 1"):
        accuracy_by_ratio(consistency, 2.5)


def test_a_score_on_the_edge_of_two_bands_is_in_the_upper_one():
    scores = np.linspace(0, 1, 11).astype(np.float32)
    one = ConsistencyScores(scores, np.ones(11, int), np.array([0.5]), scores[None], scores)
    expected = [*scores[:9], (scores[9] + scores[10]) / 2]
    np.testing.assert_allclose(accuracy_by_ratio(one, 10)[1][:, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint64, np.float16, bool])
def test_kept_examples_do_not_depend_on_the_kind_of_number(dtype):
    scores = np.random.default_rng(0).integers(0, 2 if dtype is bool else 100, 50).astype(dtype)
    for highest in (True, False):
        expected = keep_indices(scores.astype(np.float64), 0.3, highest)
        np.testing.assert_array_equal(keep_indices(scores, 0.3, highest), expected)


def test_scores_that_are_no_row_of_numbers_are_refused():
    for scores in (np.zeros((3, 2)), np.array(1.0), np.array(["a", "b"]), [[1.0, 2.0]]):
        with pytest.raises(DataError, match="expected a row of numbers"):
            keep_indices(scores, 0.5)
    assert keep_indices([1, 3, 2], 2 / 3).tolist() == [1, 2]


def test_scores_are_kept_by_as_they_are_returned():
    values = np.array([0.1, 0.9, 0.5, 0.7])
    assert keep_indices(Scores(values, order="original"), 0.5).tolist() == keep_indices(values, 0.5).tolist() == [1, 3]


def test_kept_examples_are_those_of_the_highest_or_lowest_scores():
    scores = np.array([0.5, 0.1, 0.5, 0.9, 0.0])
    assert keep_indices(scores, 0.4).tolist() == [2, 3]
    assert keep_indices(scores, 0.4, highest=False).tolist() == [1, 4]
    assert keep_indices(scores, 0.8, highest=False).tolist() == [0, 1, 2, 4]
    assert keep_indices(scores, 0).tolist() == []
    assert keep_indices(scores, 1).tolist() == [0, 1, 2, 3, 4]
    assert keep_indices(scores, 1).dtype == np.int64
    for fraction in (-0.1, 1.1, np.nan):
        with pytest.raises(DataError, match="expected 0"):
            keep_indices(scores, fraction)
    with pytest.raises(DataError, match="1 of 2 examples has no score"):
        keep_indices(np.array([np.nan, 1]), 0.5)


def test_the_highest_and_the_lowest_half_have_no_example_in_common_however_many_are_equal():
    scores = np.zeros(1437)
    scores[:108] = np.random.default_rng(0).random(108) - 0.2
    order = sorted(range(1437), key=lambda i: (scores[i], i))
    highest, lowest = keep_indices(scores, 0.5), keep_indices(scores, 0.5, highest=False)
    assert highest.tolist() == sorted(order[-718:])
    assert lowest.tolist() == sorted(order[:718])
    assert not np.intersect1d(highest, lowest).size


def test_examples_kept_by_their_index_alone_are_counted():
    scores = np.array([0.5, 0.1, 0.5, 0.9, 0.5, 0.1])
    for fraction, highest, ties in (
        (1 / 3, True, (1, 3)),
        (2 / 3, True, (0, 0)),
        (0.5, False, (1, 3)),
        (1, True, (0, 0)),
    ):
        assert kept_ties(scores, keep_indices(scores, fraction, highest)) == ties
    assert kept_ties(np.zeros(10, np.uint8), keep_indices(np.zeros(10), 0.7)) == (7, 10)
    assert kept_ties([], []) == (0, 0)
    with pytest.raises(DataError, match="kept: cannot select"):
        kept_ties(scores, [6])


def test_a_fraction_is_anything_like_a_float():
    scores = np.arange(10)
    for fraction in (0.5, "0.5", np.float32(0.5), torch.tensor(0.5)):
        assert keep_indices(scores, fraction).tolist() == [5, 6, 7, 8, 9]
    for fraction in (None, "half", [0.5, 0.6], 1.5, float("nan"), True, np.True_, torch.tensor(True)):
        with pytest.raises(DataError, match="fraction is"):
            keep_indices(scores, fraction)


def test_functions_of_scores_take_what_files_of_scores_are_read_as(tmp_path):
    values = np.linspace(0, 1, 20, dtype=np.float32)
    save_scores(tmp_path / "scores.npz", Scores(values, order="original"))
    scores, wrong = load_scores(tmp_path / "scores.npz"), np.arange(20) % 3 == 0
    np.testing.assert_array_equal(histogram(scores).counts, histogram(values).counts)
    assert mislabel_auc(scores, wrong) == mislabel_auc(values, wrong)
    np.testing.assert_array_equal(keep_indices(scores, 0.3), keep_indices(values, 0.3))
    assert score_agreement(scores, values).rank_correlation == pytest.approx(1)
    bars = [plot_memorization_histogram(given).axes[0].patches for given in (scores, values)]
    assert [bar.get_height() for bar in bars[0]] == [bar.get_height() for bar in bars[1]]
