"""Intervals around estimates from run tables, which are valid also where all runs of a group agree.

Where every run is right, the standard error is 0, and an interval of two standard errors would have no width. So these
intervals add a few pseudo-counts: with m groups of runs, each group gets 2 / m correct and 2 / m wrong runs, before
shares and variances are computed. For one group this is the interval of A. Agresti and B. Coull ("Approximate Is Better
than 'Exact'", The American Statistician, 1998), for a difference that of A. Agresti and B. Caffo ("Simple and Effective
Confidence Intervals for Proportions and Differences of Proportions", The American Statistician, 2000), for a mean over
several that of R. Price and D. Bonett ("An Improved Confidence Interval for a Linear Function of Binomial Proportions",
2004).
"""

from collections.abc import Mapping, Sequence
from statistics import NormalDist

import numpy as np

from heldout_torch.stats.arguments import as_share
from heldout_torch.stats.counting import kernels
from heldout_torch.stats.estimators import example_counts
from heldout_torch.stats.run_table import RunTable
from heldout_torch.stats.selection import Selection, selected
from heldout_torch.stats.tables import by_ratio, check_bits
from heldout_torch.stats.uncertainty import influence_counts, pair_counts

_PAIRS = 2**22  # at once

# Runs that are right, and all runs, of a group; both of one shape.
Group = tuple[np.ndarray, np.ndarray]


def memorization_interval(table: RunTable, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Compute an interval around the memorization of each training example (Agresti and Caffo, 2000).

    The interval need not be symmetric around `memorization(table)`: its middle is shifted a little towards 0.

    Args:
        table: The runs.
        level: Probability that the interval covers the truth, above 0 and below 1.

    Returns:
        Lower and upper ends, float32 of shape (n,), -1 ... 1, by published index; NaN where no run trained on the
        example, or none held it out.

    Raises:
        DataError: If the level is not as above.
    """
    counts = example_counts(table)
    groups = (counts.correct_trained_on, counts.trained_on), (counts.correct_held_out, counts.held_out)
    return _interval(groups, (1.0, -1.0), level)


def influence_interval(
    table: RunTable, train: Selection = None, test: Selection = None, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Compute an interval around the influence of training examples on test examples (Agresti and Caffo, 2000).

    Args:
        table: The runs.
        train: Training examples, as in `influence`.
        test: Test examples, as in `influence`.
        level: As in `memorization_interval`.

    Returns:
        Lower and upper ends, float32 of shape (test, train), -1 ... 1; NaN where no run trained on the training
        example, or none held it out.

    Raises:
        DataError: If the level is not as above, or examples are selected that do not exist.
    """
    check_bits(table)
    train = selected(train, table.train_examples, "train")
    test = selected(test, table.test_examples, "test")
    trained = kernels.count_runs(table.packed_trained_on, train)  # (train,)
    correct = kernels.count_runs(table.packed_correct_test, test)  # (test,)
    low, high = (np.empty((len(test), len(train)), np.float32) for _ in range(2))
    step = max(1, _PAIRS // max(1, len(train)))
    for start in range(0, len(test), step):
        rows = slice(start, start + step)
        both = influence_counts(table, train, test[rows])  # (rows, train)
        groups = (both, trained), (correct[rows, None] - both, table.runs - trained)
        low[rows], high[rows] = _interval(groups, (1.0, -1.0), level)
    return low, high  # (test, train)


def pair_interval(
    table: RunTable, train_index: np.ndarray, test_index: np.ndarray, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Compute an interval around the influence of single pairs (Agresti and Caffo, 2000).

    Args:
        table: The runs.
        train_index: Published indices, integers of shape (pairs,).
        test_index: The same of the test examples.
        level: As in `memorization_interval`, for a pair that was chosen beforehand. Among pairs chosen because their
            estimate is large, more intervals are above the truth.

    Returns:
        Lower and upper ends, float32 of shape (pairs,), -1 ... 1; NaN as in `influence_interval`.

    Raises:
        DataError: If the level is not as above, examples are named that do not exist, or the two are not of one length.
    """
    both, trained, correct = pair_counts(table, train_index, test_index)
    return _interval(((both, trained), (correct - both, table.runs - trained)), (1.0, -1.0), level)  # (pairs,)


def consistency_interval(
    tables_by_ratio: Mapping[float, RunTable] | RunTable, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Compute an interval around the consistency score of each training example (Price and Bonett, 2004).

    Args:
        tables_by_ratio: As in `consistency`.
        level: As in `memorization_interval`.

    Returns:
        Lower and upper ends, float32 of shape (n,), 0 ... 1, around the mean over the ratios at which an example was
        held out at least once; NaN if there is none.

    Raises:
        DataError: If the level is not as above, or as `consistency`.
    """
    counts = [example_counts(table) for table in by_ratio(tables_by_ratio).values()]
    held_out = np.stack([count.held_out for count in counts])  # (ratios, n)
    correct = np.stack([count.correct_held_out for count in counts])
    low, high = (np.full(held_out.shape[1], np.nan, np.float32) for _ in range(2))
    ratios = (held_out > 0).sum(0)  # (n,), at which an example counts
    for number in np.unique(ratios[ratios > 0]):
        chosen = ratios == number
        # The ratios that count come first, so that all examples of one number have their groups in the same rows.
        order = np.argsort(held_out[:, chosen] == 0, axis=0, kind="stable")[:number]
        groups = [np.take_along_axis(array[:, chosen], order, axis=0) for array in (correct, held_out)]
        ends = _interval(list(zip(*groups, strict=True)), [1 / number] * int(number), level)
        low[chosen], high[chosen] = np.maximum(ends[0], 0), ends[1]
    return low, high  # (n,)


def _interval(groups: Sequence[Group], coefficients: Sequence[float], level: float) -> tuple[np.ndarray, np.ndarray]:
    """Compute the ends of the interval around a linear combination of the groups' shares, float32, in -1 ... 1."""
    level = as_share(level, "level")
    middle, variance = np.zeros(()), np.zeros(())
    added = 2 / len(groups)
    for (correct, runs), coefficient in zip(groups, coefficients, strict=True):
        counted = np.where(runs > 0, runs + 2 * added, np.nan)
        share = (correct + added) / counted
        middle = middle + coefficient * share
        variance = variance + coefficient**2 * share * (1 - share) / counted
    half = NormalDist().inv_cdf((1 + level) / 2) * np.sqrt(variance)
    return np.maximum(middle - half, -1).astype(np.float32), np.minimum(middle + half, 1).astype(np.float32)
