"""The statistics that a report shows, and which examples it shows."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from heldout_torch.data import AnyDataset, as_dataset
from heldout_torch.errors import DataError, ZooError
from heldout_torch.stats import (
    Accuracies,
    ConsistencyScores,
    ExampleCounts,
    ExampleFacts,
    InfluencePairs,
    Reliability,
    RunTable,
    consistency,
    consistency_interval,
    example_counts,
    facts_of,
    influence_pairs,
    memorization,
    memorization_error,
    memorization_interval,
    reliability,
    run_accuracies,
)
from heldout_torch.stats.arguments import shortened
from heldout_torch.stats.summary import check_examples
from heldout_torch.zoo import RunKey

LEVELS = (0.0, 0.5, 1.0)
NEAR = 0.25  # examples farther from a level do not stand for it


@dataclass(frozen=True, eq=False, repr=False)
class ReportStatistics:
    """All that a report shows of an experiment's runs.

    Attributes:
        table: The runs from which memorization and influence are estimated.
        subset_ratio: Of these runs.
        train: What is known of the training examples.
        test: What is known of the test examples.
        counts: Of these runs.
        memorization: As `heldout_torch.stats.memorization`, float32 of shape (n,).
        memorization_error: Its standard error, float32 of shape (n,).
        memorization_interval: Ends of intervals that cover the truth 95 times in 100, float32 of shape (n,) each.
        reliability: Of memorization, between halves of the runs; None for fewer than four runs.
        pairs: High-influence pairs by the published selection; None if labels are not known.
        consistency: Over all ratios.
        consistency_interval: As `memorization_interval`.
        accuracies: Of the runs of each subset ratio, in ascending order.
    """

    table: RunTable
    subset_ratio: float
    train: ExampleFacts
    test: ExampleFacts
    counts: ExampleCounts
    memorization: np.ndarray
    memorization_error: np.ndarray
    memorization_interval: tuple[np.ndarray, np.ndarray]
    reliability: Reliability | None
    pairs: InfluencePairs | None
    consistency: ConsistencyScores
    consistency_interval: tuple[np.ndarray, np.ndarray]
    accuracies: dict[float, Accuracies]

    def __repr__(self) -> str:
        ratios = ", ".join(map(repr, self.accuracies))
        return f"ReportStatistics(of subset ratio {self.subset_ratio!r}, one of {ratios}; {self.table!r})"


def gather_statistics(
    tables: Mapping[float, RunTable] | RunTable,
    dataset: AnyDataset | None = None,
    examples: tuple[ExampleFacts, ExampleFacts] | None = None,
) -> ReportStatistics:
    """Compute what a report shows.

    Args:
        tables: A table for each subset ratio, or one table. Memorization and influence come from the one with the most
            runs.
        dataset: The data set that the runs are about, if it is there.
        examples: What is known of training and test set without images, if the data set is not there; without labels
            there are no pairs.

    Raises:
        DataError: If there is no table, a table is about another data set, or there are too few runs.
    """
    if isinstance(tables, RunTable):
        tables = {_filed_ratio(tables): tables}
    if not isinstance(tables, Mapping) or not tables:
        what = "no run tables" if isinstance(tables, Mapping) else shortened(tables)
        raise DataError(f"{what} given, expected a run table (RunTable.from_zoo), or several by subset ratio")
    ratio = max(tables, key=lambda ratio: (tables[ratio].runs, ratio))
    table = tables[ratio]
    if dataset is not None:
        dataset = as_dataset(dataset)
        examples = facts_of(dataset, "train"), facts_of(dataset, "test")
    train, test = examples or (ExampleFacts(table.train_examples), ExampleFacts(table.test_examples))
    for one in tables.values():
        check_examples(one, train, test, "the data set" if dataset is None else dataset.name)
    memorized = memorization(table)
    comparable = table.runs >= 4 and np.isfinite(memorized).any()
    pairs = None
    if train.labels is not None and test.labels is not None:
        pairs = influence_pairs(table, train.labels, test.labels)
    return ReportStatistics(
        table=table,
        subset_ratio=ratio,
        train=train,
        test=test,
        counts=example_counts(table),
        memorization=memorized,
        memorization_error=memorization_error(table),
        memorization_interval=memorization_interval(table),
        reliability=reliability(table, memorization) if comparable else None,
        pairs=pairs,
        consistency=consistency(tables),
        consistency_interval=consistency_interval(tables),
        accuracies={key: run_accuracies(tables[key]) for key in sorted(tables)},
    )


def _filed_ratio(table: RunTable) -> float:
    """Return the subset ratio that the keys of all runs have, else their share: 0.7, and not 1005 of 1437 examples."""
    try:
        ratios = {RunKey.parse(key).subset_ratio for key in table.keys}
    except ZooError:  # names of runs of the user's own
        return table.subset_ratio
    return ratios.pop() if len(ratios) == 1 else table.subset_ratio


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
        Positions in `values`, the most extreme first; of equal ones the lowest hold the first, the highest the last.
    """
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]  # one order for both, so that equal ones are not in both
    half = min(most, len(order) // 2)
    return order[::-1][:half], order[: min(most, len(order) - half)]
