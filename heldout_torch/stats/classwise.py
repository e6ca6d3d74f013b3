"""Influences within classes, one matrix for each class, as the published files hold them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from heldout_torch.errors import DataError
from heldout_torch.lazy import lazy_module
from heldout_torch.stats.arguments import as_labels, as_share
from heldout_torch.stats.estimators import Empty, influence
from heldout_torch.stats.intervals import influence_interval
from heldout_torch.stats.outputs import OutputTable
from heldout_torch.stats.run_table import RunTable
from heldout_torch.stats.shown import short_repr
from heldout_torch.stats.tables import AnyTable, check_table

if TYPE_CHECKING:
    import torch
else:
    torch = lazy_module("torch")


@dataclass(frozen=True, eq=False, repr=False)
class ClassInfluence:
    """Influences within one class.

    Attributes:
        label: The class.
        train_index: Indices of its training examples, int64 of shape (train,): published ones, if not from a file.
        test_index: Those of its test examples, int64 of shape (test,).
        influence: float32 of shape (train, test), as in the published files (elsewhere influence is test x train).
        low: Lower ends of intervals around it (`influence_interval`), float32 of the same shape, and
        high: their upper ends; None if they were not asked for, or a file has none.
    """

    label: int
    train_index: np.ndarray
    test_index: np.ndarray
    influence: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None

    __repr__ = short_repr

    def renumbered(self, train_index: np.ndarray, test_index: np.ndarray) -> Self:
        """Return the same influences under other indices of the same examples, ascending in both axes.

        Args:
            train_index: Integers of shape (train,).
            test_index: Integers of shape (test,).
        """
        rows, columns = np.argsort(train_index), np.argsort(test_index)
        matrices = {name: getattr(self, name) for name in ("influence", "low", "high")}
        moved = {name: one[np.ix_(rows, columns)] for name, one in matrices.items() if one is not None}
        return replace(self, train_index=train_index[rows], test_index=test_index[columns], **moved)


def classwise_influence(
    table: AnyTable,
    labels_train: np.ndarray,
    labels_test: np.ndarray,
    *,
    level: float | None = None,
    empty: Empty = "nan",
    device: "str | torch.device" = "cpu",
) -> Iterator[ClassInfluence]:
    """Estimate all influences within each class, one class after the other, in order of label.

    Args:
        table: At least two runs.
        labels_train: Labels by published index, integers of shape (n,).
        labels_test: The same for the test set, (m,).
        level: Probability that an interval covers the truth, such as 0.95, for a run table. No intervals by default,
            because they take most of the time.
        empty: As in `memorization`.
        device: `cpu`, or a CUDA device; the result is the same.

    Raises:
        DataError: If there is only one run, labels are of another length, or intervals are asked for of outputs.
    """
    check_table(table)
    if level is not None and isinstance(table, OutputTable):
        raise DataError("intervals need counts of correct runs, which outputs do not have; leave out level")
    level = None if level is None else as_share(level, "level")
    labels_train = as_labels(labels_train, table.train_examples, "labels_train")
    labels_test = as_labels(labels_test, table.test_examples, "labels_test")
    return _classes(table, labels_train, labels_test, level, empty, device)


def _classes(
    table: AnyTable,
    labels_train: np.ndarray,
    labels_test: np.ndarray,
    level: float | None,
    empty: Empty,
    device: "str | torch.device",
) -> Iterator[ClassInfluence]:
    for label in np.union1d(labels_train, labels_test):
        train, test = np.flatnonzero(labels_train == label), np.flatnonzero(labels_test == label)
        matrix = influence(table, train, test, empty=empty, device=device)  # (test, train)
        one = ClassInfluence(int(label), train, test, np.ascontiguousarray(matrix.T))
        if level is not None and isinstance(table, RunTable):
            low, high = (np.ascontiguousarray(end.T) for end in influence_interval(table, train, test, level))
            one = replace(one, low=low, high=high)
        yield one
