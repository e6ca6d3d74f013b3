"""Uncertainty of estimates: standard errors, the published bound, and split halves.

Standard errors treat runs as independent draws; each mean s has the variance `s (1 - s) / (runs - 1)`. A standard error
is 0 where all runs of a group agree, and NaN where a group has fewer than two runs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from heldout_torch.errors import DataError, counted
from heldout_torch.stats import mean_differences
from heldout_torch.stats.arguments import as_array, as_share, shortened
from heldout_torch.stats.counting import kernels
from heldout_torch.stats.counting.axis import Axis
from heldout_torch.stats.estimators import example_counts, squared_error
from heldout_torch.stats.outputs import OutputTable
from heldout_torch.stats.run_table import RunTable
from heldout_torch.stats.selection import Selection, selected, selected_pairs
from heldout_torch.stats.tables import AnyTable, check_bits, check_table
from heldout_torch.storage.counts import as_count


def memorization_error(table: AnyTable) -> np.ndarray:
    """Estimate the standard error of `memorization`, float32 of shape (n,)."""
    if isinstance(table, OutputTable):
        return mean_differences.memorization_error(table)
    counts = example_counts(table)
    variance = squared_error(counts.correct_trained_on, counts.trained_on)
    variance += squared_error(counts.correct_held_out, counts.held_out)
    return np.sqrt(variance).astype(np.float32)  # (n,)


def influence_counts(table: RunTable, train: Selection = None, test: Selection = None) -> np.ndarray:
    """Count the runs that trained on a training example and are correct on a test example, exactly.

    Args:
        table: Any number of runs.
        train: Training examples, as in `influence`.
        test: Test examples, as in `influence`.

    Returns:
        int32 of shape (test, train).

    Raises:
        DataError: If examples are selected that do not exist, or it is not a run table.
    """
    check_bits(table)
    columns, rows = (
        Axis(words, index, np.ones(len(index)), np.zeros(len(index)))
        for words, index in (
            (table.packed_trained_on, selected(train, table.train_examples, "train")),
            (table.packed_correct_test, selected(test, table.test_examples, "test")),
        )
    )
    counts = np.empty((len(rows), len(columns)), np.float32)
    kernels.fill(rows, columns, counts)  # exact: float32 holds every integer up to 2**24
    return counts.astype(np.int32)  # (test, train)


def influence_error(table: AnyTable, train: Selection = None, test: Selection = None) -> np.ndarray:
    """Estimate the standard error of `influence`, float32 of shape (test, train), with the same arguments."""
    if isinstance(table, OutputTable):
        return mean_differences.influence_error(table, train, test)
    check_bits(table)
    train = selected(train, table.train_examples, "train")
    test = selected(test, table.test_examples, "test")
    both = influence_counts(table, train, test)
    trained = kernels.count_runs(table.packed_trained_on, train)
    correct = kernels.count_runs(table.packed_correct_test, test)
    error = np.empty(both.shape, np.float32)
    for row, common, right in zip(error, both, correct, strict=True):
        row[:] = _error(common, trained, right, table.runs)
    return error  # (test, train)


def pair_counts(
    table: RunTable, train_index: np.ndarray, test_index: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count the runs of single pairs, exactly.

    Args:
        table: The runs.
        train_index: Published indices, integers of shape (pairs,).
        test_index: The same of the test examples.

    Returns:
        Runs that trained on the training example and are correct on the test example, runs that trained on it, and
        runs that are correct, int64 of shape (pairs,).

    Raises:
        DataError: If examples are named that do not exist, or the two are not of one length.
    """
    check_bits(table)
    train, test = selected_pairs(train_index, test_index, table)
    both = kernels.count_pairs(table.packed_trained_on, train, table.packed_correct_test, test)
    trained = kernels.count_runs(table.packed_trained_on, train)
    correct = kernels.count_runs(table.packed_correct_test, test)
    return both.astype(np.int64), trained.astype(np.int64), correct.astype(np.int64)


def pair_error(table: AnyTable, train_index: np.ndarray, test_index: np.ndarray) -> np.ndarray:
    """Estimate the standard error of the influence of single pairs.

    Args:
        table: The runs.
        train_index: Published indices, integers of shape (pairs,).
        test_index: Published indices, integers of shape (pairs,).

    Returns:
        float32 of shape (pairs,).

    Raises:
        DataError: If examples are named that do not exist, or the two are not of one length.
    """
    if isinstance(table, OutputTable):
        return mean_differences.pair_error(table, train_index, test_index)
    both, trained, correct = pair_counts(table, train_index, test_index)
    return _error(both, trained, correct, table.runs).astype(np.float32)  # (pairs,)


def error_bound(runs: int, subset_ratio: float) -> float:
    """Bound the mean squared error of an estimate of memorization or influence, whatever the example.

    Source: Feldman and Zhang (2020), Lemma 2.1: `1/(pt) + 1/((1-p)t) + exp(-pt/16)/2` for t runs, where p is the
    smaller of subset ratio and 1 - subset ratio.

    Raises:
        DataError: If there is no run, or the ratio is not between 0 and 1.
    """
    runs, subset_ratio = as_count(runs, "runs"), as_share(subset_ratio, "subset_ratio")
    p = min(subset_ratio, 1 - subset_ratio)
    return float(1 / (p * runs) + 1 / ((1 - p) * runs) + np.exp(-p * runs / 16) / 2)


@dataclass(frozen=True)
class Reliability:
    """Agreement of a statistic between two halves of the runs.

    Attributes:
        correlation: Pearson's, over the values that are numbers in both halves; NaN if either half is constant.
        mean_absolute_difference: Over the same values.
        values: Number of those.
        runs: Number of runs in each half.
    """

    correlation: float
    mean_absolute_difference: float
    values: int
    runs: tuple[int, int]

    @property
    def full_correlation(self) -> float:
        """What the correlation would be between this table and another of as many runs.

        Source: C. Spearman and W. Brown (1910), `2 r / (1 + r)`: as if each half's errors were independent. At least
        -1, which the formula is at a correlation of -1/3; NaN if the correlation is.
        """
        correlation = np.maximum(self.correlation, -1 / 3)
        return float(2 * correlation / (1 + correlation))


def reliability(table: RunTable, statistic: Callable[[RunTable], np.ndarray]) -> Reliability:
    """Compute a statistic on two halves of the runs, even and odd positions, and compare.

    Args:
        table: At least four runs.
        statistic: Such as `memorization`, or a function that calls `influence` for chosen examples.

    Raises:
        DataError: If there are fewer than four runs, the statistic gives other than numbers, or not as many for both
            halves, or no value is a number in both.
    """
    check_table(table)
    if not callable(statistic):
        raise DataError(
            f"the statistic is {shortened(statistic)}, expected a function of a table, such as memorization"
        )
    if table.runs < 4:
        raise DataError(
            f"{counted(table.runs, 'run')} ({', '.join(table.keys)}) cannot be halved, expected at least four"
        )
    halves = [table.select_runs(slice(start, None, 2)) for start in (0, 1)]
    found = [as_array(statistic(half), "the statistic") for half in halves]
    if found[0].shape != found[1].shape or any(values.dtype.kind not in "biuf" for values in found):
        given = " and ".join(f"{values.dtype} {values.shape}" for values in found)
        raise DataError(f"the statistic gives {given} for the halves, expected numbers of one shape")
    one, other = (values.astype(np.float64).ravel() for values in found)
    both = np.isfinite(one) & np.isfinite(other)
    if not both.any():
        raise DataError(f"no value of the statistic is a number in both halves of {table.runs} runs; use more runs")
    one, other = one[both], other[both]
    constant = any(half.min() == half.max() for half in (one, other))  # a standard deviation can be 1e-17
    correlation = float("nan") if constant else float(np.corrcoef(one, other)[0, 1])
    return Reliability(correlation, float(np.abs(one - other).mean()), len(one), (halves[0].runs, halves[1].runs))


def _error(both: np.ndarray, trained: np.ndarray, correct: np.ndarray | int, runs: int) -> np.ndarray:
    variance = squared_error(both, trained) + squared_error(correct - both, runs - trained)
    return np.sqrt(variance)
