"""The statistics that a report shows, and which examples it shows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from heldout_torch.errors import DataError
from heldout_torch.stats import (
    ConsistencyScores,
    ExampleCounts,
    InfluencePairs,
    Reliability,
    RunTable,
    consistency,
    example_counts,
    influence_pairs,
    memorization,
    memorization_error,
    reliability,
)
from heldout_torch.stats.counting.bits import unpack

if TYPE_CHECKING:
    from heldout_torch.data import Dataset

LEVELS = (0.0, 0.5, 1.0)
NEAR = 0.25  # examples farther from a level do not stand for it
_CHUNK_BITS = 2**27


@dataclass(frozen=True, eq=False)
class Accuracies:
    """Accuracy of each run of one table.

    Attributes:
        train: On the examples that the run trained on, float64 of shape (runs,); NaN if there is none.
        removed: On those that it held out, float64 of shape (runs,); NaN if there is none.
        test: On the test set, float64 of shape (runs,).
    """

    train: np.ndarray
    removed: np.ndarray
    test: np.ndarray


@dataclass(frozen=True, eq=False)
class ReportStatistics:
    """All that a report shows of an experiment's runs.

    Attributes:
        table: The runs from which memorization and influence are estimated.
        subset_ratio: Theirs.
        counts: Of these runs.
        memorization: As `heldout_torch.stats.memorization`, float32 of shape (n,).
        memorization_error: Its standard error, float32 of shape (n,).
        reliability: Of memorization, between halves of the runs; None for fewer than four runs.
        pairs: High-influence pairs by the published selection.
        consistency: Over all ratios.
        accuracies: Of the runs of each subset ratio, in ascending order.
    """

    table: RunTable
    subset_ratio: float
    counts: ExampleCounts
    memorization: np.ndarray
    memorization_error: np.ndarray
    reliability: Reliability | None
    pairs: InfluencePairs
    consistency: ConsistencyScores
    accuracies: dict[float, Accuracies]


def gather_statistics(tables: Mapping[float, RunTable], dataset: "Dataset") -> ReportStatistics:
    """Compute what a report shows.

    Args:
        tables: A table for each subset ratio. Memorization and influence come from the one with the most runs.
        dataset: The data set that the runs are about.

    Raises:
        DataError: If there is no table, a table is about another data set, or there are too few runs.
    """
    if not tables:
        raise DataError("no run tables given, a report needs at least one")
    labels_train, labels_test = dataset.labels("train").numpy(), dataset.labels("test").numpy()
    for table in tables.values():
        check_sizes(table, len(labels_train), len(labels_test), dataset.name)
    ratio = max(tables, key=lambda ratio: (tables[ratio].runs, ratio))
    table = tables[ratio]
    estimate = memorization(table)
    comparable = table.runs >= 4 and np.isfinite(estimate).any()
    return ReportStatistics(
        table=table,
        subset_ratio=ratio,
        counts=example_counts(table),
        memorization=estimate,
        memorization_error=memorization_error(table),
        reliability=reliability(table, memorization) if comparable else None,
        pairs=influence_pairs(table, labels_train, labels_test),
        consistency=consistency(tables),
        accuracies={key: run_accuracies(tables[key]) for key in sorted(tables)},
    )


def check_sizes(table: RunTable, train_examples: int, test_examples: int, name: str) -> None:
    """Refuse a table that cannot be about a data set.

    Raises:
        DataError: If sizes differ.
    """
    if (table.train_examples, table.test_examples) != (train_examples, test_examples):
        raise DataError(
            f"statistics of run {table.keys[0]} are about {table.train_examples} training and {table.test_examples} "
            f"test examples, {name} has {train_examples} and {test_examples}: they are of another experiment"
        )


def run_accuracies(table: RunTable) -> Accuracies:
    """Give the accuracies of each run."""
    trained, both, correct = (np.zeros(table.runs, np.int64) for _ in range(3))
    step = max(1, _CHUNK_BITS // table.runs)
    for start in range(0, table.train_examples, step):
        rows = slice(start, start + step)
        in_subset, right = (
            unpack(table.packed_trained_on[rows], table.runs),
            unpack(table.packed_correct_train[rows], table.runs),
        )
        trained += np.count_nonzero(in_subset, axis=0)
        correct += np.count_nonzero(right, axis=0)
        both += np.count_nonzero(in_subset & right, axis=0)
    held_out = table.train_examples - trained
    test = np.count_nonzero(unpack(table.packed_correct_test, table.runs), axis=0)
    with np.errstate(invalid="ignore"):
        return Accuracies(both / trained, (correct - both) / held_out, test / max(1, table.test_examples))


def near_level(values: np.ndarray, level: float, most: int) -> np.ndarray:
    """Choose examples that stand for a level of memorization.

    Args:
        values: Memorization of some examples, float of shape (k,); NaN stands for nothing.
        level: Such as 0.5.
        most: How many at most.

    Returns:
        Positions in `values`, nearest to the level first, of equal ones the lower; none farther from it than 0.25.
    """
    distance = np.abs(values - level)
    order = np.argsort(distance, kind="stable")[:most]  # NaN comes last
    return order[distance[order] <= NEAR]


def extremes(values: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose the examples of the highest and of the lowest scores; NaN is never chosen, nor one twice.

    Returns:
        Positions in `values`, the most extreme first, of equal ones the lower.
    """
    known = np.flatnonzero(~np.isnan(values))
    half = min(most, len(known) // 2)
    highest = known[np.argsort(-values[known], kind="stable")][:half]
    return highest, known[np.argsort(values[known], kind="stable")][: min(most, len(known) - half)]
