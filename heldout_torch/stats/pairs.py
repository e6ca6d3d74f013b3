"""High-influence pairs and top influences, found without ever holding the whole matrix of influences.

A pair is kept by its float32 estimate, as `influence` returns it, so these functions select exactly what a threshold
on the full matrix would. NaN is never kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from heldout_torch.errors import DataError
from heldout_torch.stats import mean_differences
from heldout_torch.stats.columns import data_frame
from heldout_torch.stats.counting import kernels
from heldout_torch.stats.estimators import Empty, influence, memorization, test_axis, train_axis
from heldout_torch.stats.orders import Order
from heldout_torch.stats.outputs import OutputTable
from heldout_torch.stats.run_table import RunTable
from heldout_torch.stats.selection import as_count
from heldout_torch.stats.shown import short_repr
from heldout_torch.stats.uncertainty import pair_error

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False, repr=False)
class InfluencePairs:
    """Pairs of a training and a test example, the most influential first; of equal ones the lower indices.

    Attributes:
        train_index: Published index of the training example, int64 of shape (pairs,).
        test_index: Published index of the test example, int64 of shape (pairs,).
        influence: float32 of shape (pairs,).
        memorization: Of the training example, float32 of shape (pairs,).
        standard_error: Of the influence, float32 of shape (pairs,); NaN as in `uncertainty.influence_error`.
        order: What the indices count: examples by published index, or as the data set's original files do; None if a
            file does not say.
    """

    train_index: np.ndarray
    test_index: np.ndarray
    influence: np.ndarray
    memorization: np.ndarray
    standard_error: np.ndarray
    order: Order | None = "published"

    def __len__(self) -> int:
        return len(self.train_index)

    def __repr__(self) -> str:
        return f"InfluencePairs({len(self)} pairs, order {self.order})"

    def __getitem__(self, part: slice) -> Self:
        """Return some of the pairs."""
        rows = {name: row[part] for name, row in vars(self).items() if name != "order"}
        return replace(self, **rows)

    def columns(self) -> dict[str, np.ndarray]:
        """Return a column for each array; those of indices are named by their order."""
        prefix = "" if self.order is None else f"{self.order}_"
        return {
            f"train_{prefix}index": self.train_index,
            f"test_{prefix}index": self.test_index,
            "influence": self.influence,
            "memorization": self.memorization,
            "standard_error": self.standard_error,
        }

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame` of the columns.

        Raises:
            HeldoutError: If pandas is not installed.
        """
        return data_frame(self.columns())


def influence_pairs(
    table: RunTable | OutputTable,
    labels_train: np.ndarray | None = None,
    labels_test: np.ndarray | None = None,
    min_influence: float = 0.15,
    min_memorization: float | None = 0.25,
    same_class: bool = True,
    *,
    empty: Empty = "nan",
    device: "str | torch.device" = "cpu",
) -> InfluencePairs:
    """Find the pairs of high influence, by default as published by Feldman and Zhang.

    Args:
        table: At least two runs; of an output table both bounds are in units of the margin.
        labels_train: Labels by published index, integers of shape (n,); needed for `same_class`.
        labels_test: The same for the test set, (m,).
        min_influence: Least influence, compared as float32; a pair of exactly this influence is kept (0.15 is that of
            1,400 runs in and 600 out with shares such as 0.65 and 0.5).
        min_memorization: Least memorization of the training example, compared as float32; None for no bound.
        same_class: Whether both examples must have the same label.
        empty: As in `memorization`.
        device: `cpu`, or a CUDA device; the result is the same.

    Raises:
        DataError: If there is only one run, or labels are missing or of another length.
    """
    memorized = memorization(table, empty)
    candidates = np.arange(table.train_examples)
    if min_memorization is not None:
        candidates = np.flatnonzero(memorized >= np.float32(min_memorization))
    problems: list[tuple[Any, Any]] = [(slice(None), slice(None))]  # test examples, places among the candidates
    if same_class:
        train_classes = _labels(labels_train, table.train_examples, "labels_train")[candidates]
        test_classes = _labels(labels_test, table.test_examples, "labels_test")
        problems = [
            (np.flatnonzero(test_classes == label), np.flatnonzero(train_classes == label))
            for label in np.intersect1d(train_classes, test_classes)
        ]
    if isinstance(table, OutputTable):
        every = np.arange(table.test_examples)
        parts = ((every[test], candidates[train]) for test, train in problems)
        test_index, train_index, value = mean_differences.select(table, parts, min_influence, device)
    else:
        rows, columns = test_axis(table, None), train_axis(table, candidates, empty)
        axes = ((rows.part(test), columns.part(train)) for test, train in problems)
        test_index, train_index, value = kernels.select(axes, min_influence, device)
    order = np.lexsort((test_index, train_index, -value))
    train_index, test_index = train_index[order], test_index[order]
    error = pair_error(table, train_index, test_index)
    return InfluencePairs(train_index, test_index, value[order], memorized[train_index], error)


@dataclass(frozen=True, eq=False, repr=False)
class TopInfluences:
    """For each example of one split, those of the other with the largest influence, in descending order.

    Attributes:
        index: Published indices in the other split, int64 of shape (examples, k); -1 where there are fewer than k.
        influence: float32 of shape (examples, k); NaN there.
        standard_error: float32 of shape (examples, k); NaN there, and as in `uncertainty.influence_error`.
    """

    index: np.ndarray
    influence: np.ndarray
    standard_error: np.ndarray

    __repr__ = short_repr


def top_influences(
    table: RunTable | OutputTable,
    k: int,
    per: Literal["test", "train"] = "test",
    *,
    empty: Empty = "nan",
    device: "str | torch.device" = "cpu",
) -> TopInfluences:
    """Find the k most influential training examples of each test example, or the other way round.

    Args:
        table: At least two runs.
        k: How many, at least 1.
        per: `test` gives k training examples for each test example, `train` k test examples for each training example.
        empty: As in `memorization`.
        device: `cpu`, or a CUDA device; the result is the same.

    Returns:
        Of equal influences the lower index comes first.

    Raises:
        DataError: If there is only one run, or `k` or `per` is not as above.
    """
    k = as_count(k, "k")
    if per not in ("test", "train"):
        raise DataError(f"per is {per!r}, expected 'test' or 'train'")
    if isinstance(table, OutputTable):
        index, value = mean_differences.keep_best(table, k, per, device)
    else:
        train, test = train_axis(table, None, empty), test_axis(table, None)
        index, value = kernels.keep_best(*((train, test) if per == "test" else (test, train)), k, device)
    error = np.full(index.shape, np.nan, np.float32)
    example, place = np.nonzero(index >= 0)
    other = index[example, place]
    error[example, place] = pair_error(table, *((other, example) if per == "test" else (example, other)))
    return TopInfluences(index, value, error)


@dataclass(frozen=True, eq=False, repr=False)
class ClassInfluence:
    """Influences within one class.

    Attributes:
        label: The class.
        train_index: Published indices of its training examples, int64 of shape (train,).
        test_index: Published indices of its test examples, int64 of shape (test,).
        influence: float32 of shape (train, test), in this order as in the published files.
    """

    label: int
    train_index: np.ndarray
    test_index: np.ndarray
    influence: np.ndarray

    __repr__ = short_repr


def classwise_influence(
    table: RunTable | OutputTable,
    labels_train: np.ndarray,
    labels_test: np.ndarray,
    *,
    empty: Empty = "nan",
    device: "str | torch.device" = "cpu",
) -> Iterator[ClassInfluence]:
    """Estimate all influences within each class, one class after the other, in order of label.

    Args:
        table: At least two runs.
        labels_train: Labels by published index, integers of shape (n,).
        labels_test: The same for the test set, (m,).
        empty: As in `memorization`.
        device: `cpu`, or a CUDA device; the result is the same.

    Raises:
        DataError: If there is only one run, or labels are of another length.
    """
    labels_train = _labels(labels_train, table.train_examples, "labels_train")
    labels_test = _labels(labels_test, table.test_examples, "labels_test")
    for label in np.union1d(labels_train, labels_test):
        train, test = np.flatnonzero(labels_train == label), np.flatnonzero(labels_test == label)
        matrix = influence(table, train, test, empty=empty, device=device)  # (test, train)
        yield ClassInfluence(int(label), train, test, np.ascontiguousarray(matrix.T))


def _labels(labels: np.ndarray | None, examples: int, name: str) -> np.ndarray:
    if labels is None:
        raise DataError(f"{name} is missing, pairs of the same class need it")
    labels = np.asarray(labels)
    if labels.shape != (examples,) or labels.dtype.kind not in "iu":
        raise DataError(f"{name} is {labels.dtype} {labels.shape}, expected integers of shape {(examples,)}")
    return labels
