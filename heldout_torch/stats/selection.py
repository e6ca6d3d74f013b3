"""Choosing some of many by position: examples by published index, runs by their place in a table."""

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from heldout_torch.errors import DataError

if TYPE_CHECKING:
    from heldout_torch.stats.outputs import OutputTable
    from heldout_torch.stats.run_table import RunTable

Selection = np.ndarray | slice | list[int] | range | None


def selected(selection: Any, length: int, name: str) -> np.ndarray:
    """Return the positions, int64 of shape (k,), that a selection means.

    Args:
        selection: Positions 0 ... length-1 in any order (negative ones count from the end), a slice, a bool mask of
            shape (length,), or None for all.
        length: How many there are.
        name: What errors call them.

    Raises:
        DataError: If it is no selection of one dimension, or names one that does not exist.
    """
    try:
        index = np.arange(length)[_as_index(selection)]
    except (IndexError, ValueError, TypeError) as error:
        raise DataError(f"{name}: cannot select {_short(selection)} from 0 ... {length - 1} ({error})") from None
    if index.ndim != 1:
        raise DataError(f"{name}: expected a list of positions, a slice or a mask, got {_short(selection)}")
    return index


def selected_pairs(train: Any, test: Any, table: "RunTable | OutputTable") -> tuple[np.ndarray, np.ndarray]:
    """Return the published indices of pairs of a training and a test example, both int64 of shape (pairs,).

    Raises:
        DataError: If examples are named that do not exist (-1, which stands for none in `TopInfluences`, is one of
            them), or there are not as many of the one as of the other.
    """
    found = []
    for some, length, name in ((train, table.train_examples, "train_index"), (test, table.test_examples, "test_index")):
        index = np.asarray(some)
        if index.ndim != 1 or (index.size and index.dtype.kind not in "iu"):
            raise DataError(f"{name} is {index.dtype} {index.shape}, expected a row of published indices")
        if index.size and not 0 <= index.min() <= index.max() < length:
            outside = index[(index < 0) | (index >= length)][0]
            raise DataError(f"{name} names example {outside}, expected 0 ... {length - 1}")
        found.append(index.astype(np.int64))
    if len(found[0]) != len(found[1]):
        raise DataError(f"{len(found[0])} training and {len(found[1])} test examples given, expected pairs")
    return found[0], found[1]


def as_count(value: Any, name: str) -> int:
    """Return a number from 1, given as anything like an integer, such as a NumPy one.

    Raises:
        DataError: If it is none; `name` is what the error calls it.
    """
    try:
        number = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise DataError(f"{name} is {_short(value)}, expected a number from 1")
    return number


def as_labels(labels: Any, examples: int, name: str) -> np.ndarray:
    """Return labels by published index as an array.

    Raises:
        DataError: If there are none, or they are no integers of shape (examples,); `name` is what the error calls them.
    """
    if labels is None:
        raise DataError(f"{name} is missing, pairs of the same class need it")
    labels = np.asarray(labels)
    if labels.shape != (examples,) or labels.dtype.kind not in "iu":
        raise DataError(f"{name} is {labels.dtype} {labels.shape}, expected integers of shape {(examples,)}")
    return labels


def _as_index(selection: Any) -> Any:
    if selection is None or isinstance(selection, slice):
        return slice(None) if selection is None else selection
    index = np.asarray(selection)
    return index.astype(np.int64) if index.size == 0 else index


def _short(selection: Any) -> str:
    text = " ".join(repr(selection).split())
    return text if len(text) <= 60 else text[:57] + "..."
