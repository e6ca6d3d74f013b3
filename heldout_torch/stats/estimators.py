"""Memorization, influence and consistency scores of a run table.

Sources: memorization and influence, V. Feldman and C. Zhang, "What Neural Networks Memorize and Why" (2020), their
subsampled estimators; consistency scores, Z. Jiang, C. Zhang, K. Talwar and M. Mozer, "Characterizing Structural
Regularities of Labeled Data in Overparameterized Models" (2021).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from heldout_torch.errors import DataError
from heldout_torch.lazy import lazy_module
from heldout_torch.stats import mean_differences
from heldout_torch.stats.accuracies import warn_of_fit
from heldout_torch.stats.arguments import as_choice, as_output
from heldout_torch.stats.counting import kernels
from heldout_torch.stats.counting.axis import Axis
from heldout_torch.stats.mean_differences import Precision
from heldout_torch.stats.outputs import OutputTable
from heldout_torch.stats.run_table import RunTable
from heldout_torch.stats.selection import Selection, selected
from heldout_torch.stats.shown import short_repr
from heldout_torch.stats.tables import AnyTable, by_ratio, check_bits, check_several, check_table

if TYPE_CHECKING:
    import torch
else:
    torch = lazy_module("torch")

Empty = Literal["nan", "zero"]
_DIGITS = 53  # binary digits of a float64
_ENOUGH = 29  # of a factor, so that it is as good as exact in float32, which has 24


@dataclass(frozen=True, eq=False, repr=False)
class ExampleCounts:
    """Counts of runs for each training example: how many trained on it or held it out, and how many are correct.

    Attributes:
        trained_on: Number of runs that trained on the example, int32 of shape (n,).
        held_out: Number of runs that held it out, int32 of shape (n,).
        correct_trained_on: Number of runs that trained on it and classify it correctly, int32 of shape (n,).
        correct_held_out: Number of runs that held it out and classify it correctly, int32 of shape (n,).
    """

    trained_on: np.ndarray
    held_out: np.ndarray
    correct_trained_on: np.ndarray
    correct_held_out: np.ndarray

    __repr__ = short_repr


def example_counts(table: RunTable) -> ExampleCounts:
    """Count the runs of a table for each training example.

    Raises:
        DataError: If it is not a run table.
    """
    check_bits(table)
    trained, correct, both = kernels.count_examples(table.packed_trained_on, table.packed_correct_train).T
    return ExampleCounts(trained.copy(), table.runs - trained, both.copy(), correct - both)


def memorization(table: AnyTable, empty: Empty = "nan") -> np.ndarray:
    """Estimate memorization: accuracy on an example of the runs that trained on it, minus of those that held it out.

    Args:
        table: At least two runs. With an output table, the mean margin takes the place of the accuracy.
        empty: Estimate for an example that no run trained on, or that no run held out. `nan`, or `zero` as in the
            published demo, where a mean over no runs is 0. For an output table only `nan`.

    Returns:
        float32 of shape (n,), by published index; -1 ... 1, or any number for an output table.

    Warns:
        UserWarning: Once for a run table, with the figure, if its runs are right on less than 95 % of what they trained
            on; so do the functions of influence.

    Raises:
        DataError: If there is only one run, or an output table lacks margins on the training set.
    """
    check_table(table)
    if isinstance(table, OutputTable):
        _refuse_zero(empty)
        return mean_differences.memorization(table)
    check_several(table)
    counts = example_counts(table)
    warn_of_fit(table, (counts.trained_on, counts.correct_trained_on))
    return (
        _over(counts.correct_trained_on, counts.trained_on, empty)
        - _over(counts.correct_held_out, counts.held_out, empty)
    ).astype(np.float32)  # (n,)


def influence(
    table: AnyTable,
    train: Selection = None,
    test: Selection = None,
    *,
    out: np.ndarray | None = None,
    empty: Empty = "nan",
    device: "str | torch.device" = "cpu",
    dtype: Precision = "float32",
) -> np.ndarray:
    """Estimate the influence of training examples on test examples.

    That is the accuracy on a test example of the runs that trained on the training example, minus that of the others.

    Args:
        table: At least two runs. With an output table, the mean margin takes the place of the accuracy.
        train: Training examples: published indices, a slice or a mask; all by default.
        test: Test examples, in the same way.
        out: Where to write, float32 of shape (test, train), C-contiguous; may be a memory map.
        empty: As in `memorization`.
        device: `cpu`, or a CUDA device; the result is the same, for an output table up to rounding.
        dtype: Type in which products of margins and masks are computed; counts over a run table are always exact.

    Returns:
        float32 of shape (test, train); -1 ... 1, or any number for an output table.

    Raises:
        DataError: If there is only one run, an example does not exist, `empty` or `dtype` is not as above, or `out`
            does not fit.
    """
    check_table(table)
    as_choice(dtype, get_args(Precision), "dtype")
    columns, rows = selected(train, table.train_examples, "train"), selected(test, table.test_examples, "test")
    out = as_output(out, (len(rows), len(columns)))
    if isinstance(table, OutputTable):
        _refuse_zero(empty)
        mean_differences.fill(table, columns, rows, out, device, dtype)
    else:
        kernels.fill(test_axis(table, rows), train_axis(table, columns, empty), out, device)
    return out  # (test, train)


@dataclass(frozen=True, eq=False, repr=False)
class ConsistencyScores:
    """Consistency scores (C-scores) of training examples: the accuracy on them of the runs that held them out.

    Attributes:
        scores: Unweighted mean of the per-ratio scores, over the ratios at which an example was held out at least
            once, float32 of shape (n,), 0 ... 1; NaN if there is none. With `empty="zero"` over all ratios, as in
            `consistency`.
        ratios_counted: Number of those ratios, int64 of shape (n,).
        ratios: The subset ratios in ascending order, float64 of shape (ratios,).
        per_ratio: float32 of shape (ratios, n), NaN where an example was never held out.
        standard_error: Of `scores`, float32 of shape (n,); NaN where any counted ratio has fewer than two runs that
            held the example out.
    """

    scores: np.ndarray
    ratios_counted: np.ndarray
    ratios: np.ndarray
    per_ratio: np.ndarray
    standard_error: np.ndarray

    __repr__ = short_repr


def consistency(tables_by_ratio: Mapping[float, RunTable] | RunTable, empty: Empty = "nan") -> ConsistencyScores:
    """Estimate the consistency scores of the training examples.

    Args:
        tables_by_ratio: A table for each subset ratio, over the same data set; or one table.
        empty: How to treat a ratio at which no run held an example out. `nan` leaves the ratio out of the mean; the
            mean is NaN if there is no other ratio. `zero` counts it as 0, as in the published demo.

    Raises:
        DataError: If there is no table, one is not of its ratio or given twice, or their training sets differ in size.
    """
    tables = by_ratio(tables_by_ratio)
    ratios = list(tables)
    first = tables[ratios[0]]
    per_ratio = np.empty((len(ratios), first.train_examples), np.float32)
    total, variance = np.zeros(first.train_examples), np.zeros(first.train_examples)
    counted = np.zeros(first.train_examples, np.int64)
    for score, ratio in zip(per_ratio, ratios, strict=True):
        counts = example_counts(tables[ratio])
        mean = _over(counts.correct_held_out, counts.held_out, "nan")  # (n,)
        score[:] = mean
        held_out = counts.held_out > 0
        counted += held_out
        total[held_out] += mean[held_out]
        variance[held_out] += squared_error(counts.correct_held_out, counts.held_out)[held_out]
    taken = np.full_like(counted, len(ratios)) if _is_zero(empty) else counted  # ratios in each mean
    scores = _over(total, taken, empty).astype(np.float32)
    error = _over(np.sqrt(variance), taken, empty).astype(np.float32)
    return ConsistencyScores(scores, counted, np.array(ratios, np.float64), per_ratio, error)


def squared_error(correct: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Estimate the variance of a share: `s (1 - s) / (runs - 1)`, unbiased.

    Args:
        correct: Number of correct runs.
        runs: Number of runs, of the same shape.

    Returns:
        float64 of that shape; NaN for fewer than two runs.
    """
    share = _over(correct, runs, "nan")
    return _over(share * (1 - share), np.maximum(runs - 1, 0), "nan")


def train_axis(table: RunTable, selection: Selection, empty: Empty) -> Axis:
    """Return training examples as rows or columns of a matrix of influences.

    With `common` runs that trained on i and are correct on j, and `correct` runs that are correct on j,
    influence = common / in - (correct - common) / out = (common runs - correct in) / (in out).

    The last factor is rounded to so few digits that all products of up to 4,095 runs are exact: what is 0 is not 1e-16.
    """
    check_several(table)
    warn_of_fit(table)
    index = selected(selection, table.train_examples, "train")
    trained = kernels.count_runs(table.packed_trained_on, index).astype(np.int64)  # or products of two overflow
    factor = _rounded(_over(1, trained * (table.runs - trained), "nan"), _DIGITS - 2 * table.runs.bit_length())
    scale, shift = table.runs * factor, trained * factor
    if _is_zero(empty):
        none = np.isnan(factor)
        held_out = _over(1, table.runs - trained[none], empty)
        scale[none], shift[none] = _over(1, trained[none], empty) + held_out, held_out
    return Axis(table.packed_trained_on, index, scale, shift)


def test_axis(table: RunTable, selection: Selection) -> Axis:
    """Return test examples as rows or columns of a matrix of influences."""
    index = selected(selection, table.test_examples, "test")
    correct = kernels.count_runs(table.packed_correct_test, index)
    return Axis(table.packed_correct_test, index, np.ones(len(index)), correct.astype(np.float64))


def _is_zero(empty: Empty) -> bool:
    return as_choice(empty, get_args(Empty), "empty") == "zero"


def _refuse_zero(empty: Empty) -> None:
    if _is_zero(empty):
        raise DataError(f"empty is {empty!r}, but outputs allow only 'nan'")


def _rounded(values: np.ndarray, digits: int) -> np.ndarray:
    """Round to so many binary digits; leave values as they are where float32 could tell the difference."""
    if digits < _ENOUGH:
        return values
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.rint(np.ldexp(mantissa, digits)), exponent - digits)


def _over(values: np.ndarray | int, counts: np.ndarray, empty: Empty) -> np.ndarray:
    """Divide by counts, also to equal results where shares are equal, as a product with an inverse would not."""
    nothing = 0.0 if _is_zero(empty) else np.nan
    out = np.full(np.broadcast_shapes(np.shape(values), counts.shape), nothing)
    return np.divide(values, counts, out=out, where=counts > 0)
