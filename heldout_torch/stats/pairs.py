"""High-influence pairs and top influences, found without ever holding the whole matrix of influences.

Pairs are selected by the float32 estimate that `influence` returns, so the result is the same as with a threshold on
the full matrix. NaN is never selected.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from heldout_torch.errors import DataError, counted
from heldout_torch.lazy import lazy_module
from heldout_torch.stats import mean_differences
from heldout_torch.stats.arguments import as_choice, as_labels, as_number, hold_arrays
from heldout_torch.stats.counting import kernels
from heldout_torch.stats.estimators import Empty, memorization, test_axis, train_axis
from heldout_torch.stats.intervals import pair_interval
from heldout_torch.stats.orders import Order, check_order
from heldout_torch.stats.outputs import OutputTable
from heldout_torch.stats.selection import Selection, selected
from heldout_torch.stats.shown import short_repr
from heldout_torch.stats.significance import false_discovery_rate, pair_p_values
from heldout_torch.stats.tables import AnyTable, check_table
from heldout_torch.stats.uncertainty import pair_error
from heldout_torch.storage.counts import as_count
from heldout_torch.storage.notebook import as_table, data_frame

if TYPE_CHECKING:
    import torch
else:
    torch = lazy_module("torch")


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
        low: Lower ends of intervals around the influence that cover the truth 95 times in 100 for a pair chosen
            beforehand (`pair_interval`), float32 of shape (pairs,). This and the following are None for pairs of
            outputs, and if a file has none.
        high: Upper ends of these intervals, float32 of shape (pairs,).
        p_value: Probability of at least this influence if the example has no effect (`pair_p_values`), float64 of shape
            (pairs,).
        false_discovery_rate: Bound on the share of false pairs among those that are at least as significant, float64 of
            shape (pairs,). Computed by `false_discovery_rate` over all pairs of equal class (or all pairs), of any
            memorization.
    """

    train_index: np.ndarray
    test_index: np.ndarray
    influence: np.ndarray
    memorization: np.ndarray
    standard_error: np.ndarray
    order: Order | None = "published"
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    p_value: np.ndarray | None = None
    false_discovery_rate: np.ndarray | None = None

    def __post_init__(self) -> None:
        hold_arrays(self, vars(self).keys() - {"order"})
        if self.order is not None:
            check_order(self.order, "order")

    def __len__(self) -> int:
        return len(self.train_index)

    def __repr__(self) -> str:
        return f"InfluencePairs({counted(len(self), 'pair')}, order {self.order})"

    def __getitem__(self, part: Selection) -> Self:
        """Return some of the pairs, selected by a slice, a list of positions or a mask.

        Raises:
            DataError: If it is none of these, or there is no such pair.
        """
        if isinstance(part, int | np.integer):  # or a loop over pairs would not know where to end
            raise DataError(f"pairs: expected a list of places, a slice or a mask, such as pairs[[{part}]]")
        places = selected(part, len(self), "pairs")
        return replace(self, **{name: row[places] for name, row in self._rows().items()})

    def _repr_html_(self) -> str:
        return as_table(repr(self), self.columns())

    def columns(self) -> dict[str, np.ndarray]:
        """Return a column for each array that is known; those of indices are named by their order."""
        prefix = "" if self.order is None else f"{self.order}_"
        return {name.replace("_index", f"_{prefix}index"): row for name, row in self._rows().items()}

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame` of the columns.

        Raises:
            HeldoutError: If pandas is not installed.
        """
        return data_frame(self.columns())

    def _rows(self) -> dict[str, Any]:
        return {name: row for name, row in vars(self).items() if isinstance(row, np.ndarray)}


def influence_pairs(
    table: AnyTable,
    labels_train: np.ndarray | None = None,
    labels_test: np.ndarray | None = None,
    min_influence: float = 0.15,
    min_memorization: float | None = 0.25,
    same_class: bool = True,
    *,
    empty: Empty = "nan",
    device: "str | torch.device" = "cpu",
) -> InfluencePairs:
    """Find the pairs of high influence, by default with the thresholds of Feldman and Zhang.

    Args:
        table: At least two runs. With an output table both bounds are in units of the margin.
        labels_train: Labels by published index, integers of shape (n,); needed for `same_class`.
        labels_test: The same for the test set, (m,).
        min_influence: Least influence, compared as float32; a pair with exactly this influence is included.
        min_memorization: Least memorization of the training example, compared as float32; None for no bound.
        same_class: Whether both examples must have the same label.
        empty: As in `memorization`.
        device: `cpu`, or a CUDA device; the result is the same.

    Raises:
        DataError: If there is only one run, labels are missing or of another length, or a bound is not a number.
    """
    min_influence = as_number(min_influence, "min_influence")
    memorized = memorization(table, empty)
    candidates = np.arange(table.train_examples)
    if min_memorization is not None:
        candidates = np.flatnonzero(memorized >= np.float32(as_number(min_memorization, "min_memorization")))
    if same_class:
        train_classes = as_labels(labels_train, table.train_examples, "labels_train")
        test_classes = as_labels(labels_test, table.test_examples, "labels_test")
    else:  # all are of one class
        train_classes, test_classes = np.zeros(table.train_examples, np.int64), np.zeros(table.test_examples, np.int64)
    labels, sizes = np.unique(train_classes, return_counts=True)
    members = [np.flatnonzero(test_classes == label) for label in labels]
    sought = sum(size * len(test) for size, test in zip(sizes.tolist(), members, strict=True))  # of any memorization
    train_classes = train_classes[candidates]
    # Test examples, and places among the candidates, of each class.
    problems = [(test, np.flatnonzero(train_classes == label)) for label, test in zip(labels, members, strict=True)]
    if isinstance(table, OutputTable):
        parts = ((test, candidates[train]) for test, train in problems)
        test_index, train_index, value = mean_differences.select(table, parts, min_influence, device)
    else:
        rows, columns = test_axis(table, None), train_axis(table, candidates, empty)
        axes = ((rows.part(test), columns.part(train)) for test, train in problems)
        test_index, train_index, value = kernels.select(axes, min_influence, device)
    order = np.lexsort((test_index, train_index, -value))
    train_index, test_index = train_index[order], test_index[order]
    error = pair_error(table, train_index, test_index)
    pairs = InfluencePairs(train_index, test_index, value[order], memorized[train_index], error)
    if isinstance(table, OutputTable):
        return pairs
    low, high = pair_interval(table, train_index, test_index)
    p_values = pair_p_values(table, train_index, test_index)
    rates = false_discovery_rate(p_values, sought)
    return replace(pairs, low=low, high=high, p_value=p_values, false_discovery_rate=rates)


@dataclass(frozen=True, eq=False, repr=False)
class TopInfluences:
    """The most influential examples: for each example of one split, those of the other split, in descending order.

    Attributes:
        index: Published indices in the other split, int64 of shape (examples, k); -1 where fewer than k have an
            estimate. Leave these out, as by `index[index >= 0]`: NumPy takes -1 for the last example.
        influence: float32 of shape (examples, k); NaN where the index is -1.
        standard_error: float32 of shape (examples, k); NaN where the index is -1, and as in
            `uncertainty.influence_error`.
    """

    index: np.ndarray
    influence: np.ndarray
    standard_error: np.ndarray

    __repr__ = short_repr


def top_influences(
    table: AnyTable,
    k: int,
    per: Literal["test", "train"] = "test",
    *,
    empty: Empty = "nan",
    device: "str | torch.device" = "cpu",
) -> TopInfluences:
    """Find the k most influential training examples of each test example, or the other way round.

    Args:
        table: At least two runs.
        k: How many, at least 1, and at most as many as there are to choose from.
        per: `test` gives k training examples for each test example, `train` k test examples for each training example.
        empty: As in `memorization`.
        device: `cpu`, or a CUDA device; the result is the same.

    Returns:
        The top influences; among equal influences the lower index comes first.

    Raises:
        DataError: If there is only one run, or `k` or `per` is not as above.
    """
    check_table(table)
    k = as_count(k, "k")
    as_choice(per, ("test", "train"), "per")
    others = (table.train_examples, "training") if per == "test" else (table.test_examples, "test")
    if k > others[0]:
        raise DataError(f"k is {k}, expected at most {others[0]}, the number of {others[1]} examples")
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
