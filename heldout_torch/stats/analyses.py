"""Analyses of the papers: histograms, agreement, accuracy by subset ratio, and data pruning."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from heldout_torch.errors import DataError
from heldout_torch.stats.arguments import as_fraction, as_kind, as_numbers, as_row_of_numbers
from heldout_torch.stats.estimators import ConsistencyScores
from heldout_torch.stats.pairs import InfluencePairs
from heldout_torch.stats.score_files import Scores, values_of
from heldout_torch.stats.selection import selected
from heldout_torch.stats.shown import short_repr
from heldout_torch.storage.counts import as_count

# Bins of the histograms on the project page of Feldman and Zhang, as arguments of `histogram`; read from its figures,
# and those of influence found again in the published pairs.
PUBLISHED_BINS: dict[str, dict[str, Any]] = {
    "cifar100-memorization": {"bins": 18, "range": (0.0, 1.0)},
    "cifar100-influence": {"bins": 17, "range": (0.15, 1.0)},
    "imagenet-memorization": {"bins": 18, "range": None},
    "imagenet-influence": {"bins": 18, "range": None},
}


@dataclass(frozen=True, eq=False, repr=False)
class Histogram:
    """Counts of values in bins of equal width.

    Attributes:
        edges: float64 of shape (bins + 1,).
        counts: int64 of shape (bins,).
        missing: Number of values that are NaN.
        outside: Number of values outside the range.
    """

    edges: np.ndarray
    counts: np.ndarray
    missing: int
    outside: int = 0

    __repr__ = short_repr


def histogram(values: np.ndarray | Scores, bins: int = 18, range: tuple[float, float] | None = (0.0, 1.0)) -> Histogram:
    """Count memorization values, influences or scores in bins of equal width; the last bin includes its upper edge.

    By default these are the 18 bins of Feldman and Zhang for CIFAR-100's memorization; the bins of their other
    histograms are `PUBLISHED_BINS`, such as `histogram(pairs.influence, **PUBLISHED_BINS["cifar100-influence"])`.

    Args:
        values: Float, -1 ... 1, or `Scores`.
        bins: Number of bins.
        range: Lowest and highest edge. Negative estimates count as 0, unless the lowest edge is negative, too. None for
            bins from the smallest to the largest value.

    Raises:
        DataError: If there is no bin, the range is none, or a value is not in -1 ... 1.
    """
    values, bins = as_numbers(values_of(values), "values"), as_count(bins, "bins")
    if values.dtype.kind != "f":
        values = values.astype(np.float64)
    known = values[~np.isnan(values)]
    if known.size and not -1 <= known.min() <= known.max() <= 1:
        raise DataError(f"values reach from {known.min()} to {known.max()}, expected -1 ... 1")
    if range is not None:
        range = _as_range(range)
        known = known if range[0] < 0 else np.maximum(known, 0)
    edges = np.histogram_bin_edges(known.astype(np.float64), bins, range)
    # Edges are rounded as the values are: 0.7 as float32 is less than 0.7, but belongs above that edge.
    counts, _ = np.histogram(known, edges.astype(known.dtype))
    return Histogram(edges, counts, values.size - known.size, known.size - int(counts.sum()))


@dataclass(frozen=True)
class PairAgreement:
    """Agreement of two sets of high-influence pairs.

    Attributes:
        jaccard: Pairs in both, divided by pairs in either; NaN if both sets are empty.
        shared: Number of pairs in both.
        mean_difference: Mean absolute difference of the influences of the pairs in both; NaN if there is none.
    """

    jaccard: float
    shared: int
    mean_difference: float


def pair_agreement(one: InfluencePairs, other: InfluencePairs) -> PairAgreement:
    """Compare pairs from two sets of runs, such as those of two architectures or two halves.

    Source: Feldman and Zhang (2020), comparison of architectures.

    Args:
        one: Pairs of the one set, such as `influence_pairs` returns or `load_pairs` reads.
        other: Pairs of the other set. Both must count examples in the same order. Another order is an error if both
            sets say theirs; it cannot be noticed if one does not (`order` is None).

    Returns:
        How many pairs are in both, as a share of those in either, and how much the influences of these differ.

    Raises:
        DataError: If a set has a pair twice, or they count examples in different orders.
    """
    one, other = (as_kind(pairs, InfluencePairs, "pairs") for pairs in (one, other))
    if None not in (one.order, other.order) and one.order != other.order:
        raise DataError(f"pairs in {one.order} and in {other.order} order cannot be compared; convert one of them")
    first, second = (_pair_numbers(pairs) for pairs in (one, other))
    _, place_one, place_other = np.intersect1d(first, second, assume_unique=True, return_indices=True)
    shared, either = len(place_one), len(one) + len(other) - len(place_one)
    difference = np.abs(one.influence[place_one] - other.influence[place_other])
    return PairAgreement(
        jaccard=shared / either if either else float("nan"),
        shared=shared,
        mean_difference=float(difference.mean()) if shared else float("nan"),
    )


@dataclass(frozen=True)
class ScoreAgreement:
    """Agreement of two arrays of scores, over the examples that have both.

    Attributes:
        rank_correlation: Spearman's, ties at their mean rank; NaN if either is constant.
        mean_difference: Mean absolute difference.
        examples: Number of those examples.
    """

    rank_correlation: float
    mean_difference: float
    examples: int


def score_agreement(one: np.ndarray | Scores, other: np.ndarray | Scores) -> ScoreAgreement:
    """Compare memorization values or consistency scores from two sets of runs.

    Args:
        one: The one set's scores, float of shape (n,), or `Scores`; NaN where an example has none.
        other: The other set's, of the same examples in the same order. Arrays do not say their order, so another order
            is not an error there: the rank correlation is then near 0. `to_published` and `to_original` convert.

    Returns:
        Rank correlation and mean absolute difference, over the examples that have both scores.

    Raises:
        DataError: If shapes differ, two `Scores` count examples differently, a score is infinite or no number at all,
            or no example has both scores.
    """
    orders = {scores.order for scores in (one, other) if isinstance(scores, Scores)} - {None}
    if len(orders) > 1:
        raise DataError(
            "scores in original and in published order cannot be compared; convert one of them with to_published or "
            "to_original"
        )
    one, other = (as_numbers(values_of(scores), "scores") for scores in (one, other))
    if np.isinf(one).any() or np.isinf(other).any():
        raise DataError("scores are infinite, expected finite numbers, or NaN where an example has none")
    if one.shape != other.shape:
        raise DataError(f"scores of shapes {one.shape} and {other.shape} are not for the same examples")
    both = ~(np.isnan(one) | np.isnan(other))
    if not both.any():
        raise DataError("no example has both scores, so there is nothing to compare")
    ranks = [_ranks(scores[both]) for scores in (one, other)]
    constant = any(rank.std() == 0 for rank in ranks)
    correlation = float("nan") if constant else float(np.corrcoef(ranks[0], ranks[1])[0, 1])
    difference = np.abs(one[both].astype(np.float64) - other[both])
    return ScoreAgreement(correlation, float(difference.mean()), int(both.sum()))


def accuracy_by_ratio(consistency: ConsistencyScores, bins: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Return the accuracy on held-out examples by subset ratio, for bands of consistency scores.

    Source: Jiang et al. (2021), accuracy against subset ratio by level of the score.

    Args:
        consistency: Of several ratios.
        bins: Number of bands of equal width over 0 ... 1.

    Returns:
        Edges of the bands, float64 of shape (bins + 1,), and mean accuracy, float64 of shape (bins, ratios), NaN for a
        band without examples.
    """
    as_kind(consistency, ConsistencyScores, "consistency")
    bins, scores = as_count(bins, "bins"), consistency.scores
    edges = np.linspace(0, 1, bins + 1)
    # Edges are rounded as the scores are, as in `histogram`.
    band = np.clip(np.searchsorted(edges.astype(scores.dtype), scores, side="right") - 1, 0, bins - 1)
    accuracy = np.full((bins, len(consistency.ratios)), np.nan)
    for b in range(bins):
        for k, score in enumerate(consistency.per_ratio):
            known = (band == b) & ~np.isnan(score) & ~np.isnan(scores)
            if known.any():
                accuracy[b, k] = score[known].mean(dtype=np.float64)
    return edges, accuracy  # (bins + 1,), (bins, ratios)


def keep_indices(scores: np.ndarray | Scores, fraction: float, highest: bool = True) -> np.ndarray:
    """Select the examples to keep when a training set is pruned by a score.

    Examples are ordered by score, and those of equal scores by index. The lowest are the first of this order, and the
    highest are the last, so that the lowest and the highest half have no example in common.

    Args:
        scores: Float of shape (n,), or `Scores`.
        fraction: Share of the examples to keep, 0 ... 1; the number of examples is rounded to the nearest integer.
        highest: Keep those of the highest scores, else those of the lowest.

    Returns:
        Their positions in ascending order, as the scores count examples, int64, fit for `torch.utils.data.Subset`.

    Raises:
        DataError: If the fraction is not in 0 ... 1, scores are missing, or they are not a row of numbers.
    """
    scores = as_row_of_numbers(values_of(scores), "scores")
    fraction = as_fraction(fraction, "fraction")
    if missing := int(np.isnan(scores).sum()):
        have = "has" if missing == 1 else "have"
        raise DataError(
            f"{missing} of {len(scores)} examples {have} no score (NaN); estimate scores from more runs, or with "
            "empty='zero', or fill what is missing, as np.nan_to_num does"
        )
    order, kept = np.argsort(scores, kind="stable"), round(fraction * len(scores))
    return np.sort(order[len(scores) - kept :] if highest else order[:kept])


def kept_ties(scores: np.ndarray, kept: np.ndarray) -> tuple[int, int]:
    """Count the examples that were kept by their index alone, since others of the same score were not kept.

    Args:
        scores: As in `keep_indices`.
        kept: What it returned.

    Returns:
        Their number, and the number of all examples of their score; both 0 if no such score was divided.

    Raises:
        DataError: If scores are not a row of numbers, or `kept` does not select from them.
    """
    scores = as_row_of_numbers(scores, "scores")
    mine = np.zeros(len(scores), bool)
    mine[selected(kept, len(scores), "kept")] = True
    divided = np.isin(scores, np.intersect1d(scores[mine], scores[~mine]))
    return int((divided & mine).sum()), int(divided.sum())


def _as_range(range: Any) -> tuple[float, float]:
    try:
        low, high = map(float, range)
    except (TypeError, ValueError):
        low = high = np.nan
    if not -np.inf < low < high < np.inf:
        raise DataError(f"range is {range!r}, expected the lowest and the highest edge")
    return low, high


def _pair_numbers(pairs: InfluencePairs) -> np.ndarray:
    numbers = pairs.train_index.astype(np.int64) << 32 | pairs.test_index.astype(np.int64)
    unique, times = np.unique(numbers, return_counts=True)
    if (times > 1).any():
        twice = int(unique[times > 1][0])
        raise DataError(f"training example {twice >> 32} and test example {twice & 0xFFFFFFFF} are a pair twice")
    return numbers


def _ranks(values: np.ndarray) -> np.ndarray:
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    return (last - (sizes - 1) / 2)[group]
