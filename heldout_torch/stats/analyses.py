"""What the papers show of the statistics: histograms, agreement, accuracy by subset ratio, and data pruning."""

from dataclasses import dataclass

import numpy as np

from heldout_torch.errors import DataError
from heldout_torch.stats.estimators import ConsistencyScores
from heldout_torch.stats.pairs import InfluencePairs

BINS = 18  # as on the project page of Feldman and Zhang


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts of values in bins of equal width.

    Attributes:
        edges: float64 of shape (bins + 1,).
        counts: int64 of shape (bins,).
        missing: Number of values that are NaN.
    """

    edges: np.ndarray
    counts: np.ndarray
    missing: int


def histogram(values: np.ndarray, bins: int = BINS) -> Histogram:
    """Count memorization values, influences or scores in bins over 0 ... 1.

    Estimates below 0, which the truth hardly ever is, are counted in the first bin.

    Raises:
        DataError: If there is no bin, or a value is not in -1 ... 1.
    """
    values = np.asarray(values)
    known = values[~np.isnan(values)]
    if bins < 1 or (known.size and np.abs(known).max() > 1):
        raise DataError(
            f"expected at least one bin and values in -1 ... 1, got {bins} and {np.abs(known).max(initial=0)}"
        )
    counts, edges = np.histogram(np.maximum(known, 0), bins, (0.0, 1.0))
    return Histogram(edges, counts, values.size - known.size)


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

    Both must count examples in the same way. Source: Feldman and Zhang (2020), comparison of architectures.
    """
    first, second = (pairs.train_index.astype(np.int64) << 32 | pairs.test_index for pairs in (one, other))
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


def score_agreement(one: np.ndarray, other: np.ndarray) -> ScoreAgreement:
    """Compare memorization values or consistency scores from two sets of runs.

    Raises:
        DataError: If shapes differ, or no example has both scores.
    """
    if one.shape != other.shape:
        raise DataError(f"scores of shapes {one.shape} and {other.shape} are not about the same examples")
    both = ~(np.isnan(one) | np.isnan(other))
    if not both.any():
        raise DataError("no example has both scores, so there is nothing to compare")
    ranks = [_ranks(scores[both]) for scores in (one, other)]
    constant = any(rank.std() == 0 for rank in ranks)
    correlation = float("nan") if constant else float(np.corrcoef(ranks[0], ranks[1])[0, 1])
    difference = np.abs(one[both].astype(np.float64) - other[both])
    return ScoreAgreement(correlation, float(difference.mean()), int(both.sum()))


def accuracy_by_ratio(consistency: ConsistencyScores, bins: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Give the accuracy on held-out examples by subset ratio, for bands of consistency scores.

    Source: Jiang et al. (2021), accuracy against subset ratio by level of the score.

    Args:
        consistency: Of several ratios.
        bins: Number of bands of equal width over 0 ... 1.

    Returns:
        Edges of the bands, float64 of shape (bins + 1,), and mean accuracy, float64 of shape (bins, ratios), NaN for a
        band without examples.
    """
    edges = np.linspace(0, 1, bins + 1)
    band = np.clip(np.searchsorted(edges, consistency.scores, side="right") - 1, 0, bins - 1)
    accuracy = np.full((bins, len(consistency.ratios)), np.nan)
    for b in range(bins):
        for k, score in enumerate(consistency.per_ratio):
            known = (band == b) & ~np.isnan(score) & ~np.isnan(consistency.scores)
            if known.any():
                accuracy[b, k] = score[known].mean(dtype=np.float64)
    return edges, accuracy  # (bins + 1,), (bins, ratios)


def keep_indices(scores: np.ndarray, fraction: float, highest: bool = True) -> np.ndarray:
    """Choose the examples to keep when a training set is pruned by a score.

    Args:
        scores: Float of shape (n,).
        fraction: Share of the examples to keep, 0 ... 1; the number is rounded to the nearest.
        highest: Keep those of the highest scores, else of the lowest; of equal scores those of lower index.

    Returns:
        Their positions in ascending order, int64, fit for `torch.utils.data.Subset`.

    Raises:
        DataError: If the fraction is not in 0 ... 1, or scores are missing.
    """
    if not 0 <= fraction <= 1:
        raise DataError(f"fraction is {fraction}, expected 0 ... 1")
    if missing := int(np.isnan(scores).sum()):
        raise DataError(
            f"{missing} of {len(scores)} examples have no score; use more runs, or empty='zero' (--empty-zero)"
        )
    order = np.argsort(-scores if highest else scores, kind="stable")
    return np.sort(order[: round(fraction * len(scores))])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    return (last - (sizes - 1) / 2)[group]
