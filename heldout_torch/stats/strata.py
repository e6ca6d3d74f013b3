"""Estimates over runs of several subset ratios; runs are compared only with runs of the same ratio.

Runs at a larger ratio are better on all examples, and more of them trained on a given example. Over all runs together,
this looks like influence where there is none. So each ratio is estimated separately. The estimates are averaged with
weights in * out / (in + out), where in and out are the numbers of runs at the ratio that trained on the example or held
it out. Source: N. Mantel and W. Haenszel (1959), for differences of risks as in S. Greenland and J. Robins (1985).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from heldout_torch.errors import DataError
from heldout_torch.stats.estimators import influence, memorization
from heldout_torch.stats.selection import Selection, selected
from heldout_torch.stats.shown import short_repr
from heldout_torch.stats.tables import AnyTable, by_ratio, check_table, trained_on
from heldout_torch.stats.uncertainty import influence_error, memorization_error

_PAIRS, _TRAIN = 2**22, 2**14  # pairs, and training examples, at once

Tables = AnyTable | Mapping[float, AnyTable]


@dataclass(frozen=True, eq=False, repr=False)
class StratifiedEstimate:
    """An estimate over several subset ratios.

    Attributes:
        estimate: float32; NaN where at no ratio some runs trained on the example and others did not.
        standard_error: float32 of the same shape; NaN also where at a ratio that counts one run stands alone.
    """

    estimate: np.ndarray
    standard_error: np.ndarray

    __repr__ = short_repr


def split_by_ratio(table: AnyTable) -> dict[float, AnyTable]:
    """Split a table that mixes subset ratios by the number of examples that runs trained on.

    Returns:
        Tables by subset ratio, in ascending order.

    Raises:
        DataError: If it is not a table.
    """
    check_table(table)
    sizes, n = table.subset_sizes, table.train_examples
    return {float(size / n): table.select_runs(np.flatnonzero(sizes == size)) for size in np.unique(sizes)}


def stratified_memorization(tables: Tables) -> StratifiedEstimate:
    """Estimate the memorization of each training example over runs of several subset ratios.

    Args:
        tables: A table for each ratio, over the same data set; or one that mixes them. Ratios of one run do not count.

    Returns:
        Of shape (n,), by published index.

    Raises:
        DataError: If tables are about data sets of different sizes, or none has two runs.
    """
    strata = _strata(tables)
    weights = _weights(strata, np.arange(strata[0].train_examples))  # (strata, n)
    parts = [(memorization(table), memorization_error(table)) for table in strata]
    return StratifiedEstimate(*_combine(parts, weights))


def stratified_influence(tables: Tables, train: Selection = None, test: Selection = None) -> StratifiedEstimate:
    """Estimate the influence of training on test examples over runs of several subset ratios.

    Args:
        tables: As in `stratified_memorization`.
        train: Training examples, as in `influence`.
        test: Test examples, as in `influence`.

    Returns:
        Of shape (test, train).

    Raises:
        DataError: As `stratified_memorization`, or if examples are selected that do not exist.
    """
    strata = _strata(tables)
    columns = selected(train, strata[0].train_examples, "train")
    rows = selected(test, strata[0].test_examples, "test")
    weights = _weights(strata, columns)  # (strata, train)
    estimate, error = (np.empty((len(rows), len(columns)), np.float32) for _ in range(2))
    step = max(1, _PAIRS // max(1, len(columns)))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        parts = [
            (influence(table, columns, rows[part]), influence_error(table, columns, rows[part])) for table in strata
        ]
        estimate[part], error[part] = _combine(parts, weights)
    return StratifiedEstimate(estimate, error)


def _strata(tables: Tables) -> list[AnyTable]:
    strata = by_ratio(tables if isinstance(tables, Mapping) else split_by_ratio(tables)).values()
    several = [table for table in strata if table.runs > 1]
    if not several:
        raise DataError("tables have fewer than two runs at each ratio, expected two or more at some ratio")
    return several


def _weights(strata: list[AnyTable], index: np.ndarray) -> np.ndarray:
    weights = np.empty((len(strata), len(index)))
    for row, table in zip(weights, strata, strict=True):
        for start in range(0, len(index), _TRAIN):
            part = slice(start, start + _TRAIN)
            inside = trained_on(table, index[part]).sum(0)
            row[part] = inside * (table.runs - inside) / table.runs
    return weights  # (strata, examples)


def _combine(parts: Sequence[tuple[np.ndarray, ...]], weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    total = weights.sum(0)
    total = np.where(total > 0, total, np.nan)
    estimate, variance = np.zeros(parts[0][0].shape), np.zeros(parts[0][0].shape)
    for (value, error), weight in zip(parts, weights, strict=True):
        share = weight / total
        estimate += np.where(weight == 0, 0, share * value)
        variance += np.where(weight == 0, 0, (share * error) ** 2)
    nothing = np.isnan(total)
    estimate, variance = np.where(nothing, np.nan, estimate), np.where(nothing, np.nan, variance)
    return estimate.astype(np.float32), np.sqrt(variance).astype(np.float32)
