"""The two orders of examples, original and published, and the conversion between them.

CIFAR's published files are in the order of the data set's original files, MNIST's C-scores in the order of
tensorflow-datasets, and run tables in the order of published indices. Files that are written here have a string
`order`.
"""

from typing import Any, Literal, get_args

import numpy as np

from heldout_torch.errors import DataError, counted
from heldout_torch.stats.arguments import as_array

Order = Literal["original", "published"]


def check_order(order: Any, name: str) -> Order:
    """Return an order after checking that it is one of the two.

    Raises:
        DataError: If it is not; `name` is what the error calls it.
    """
    text = order[:40] if isinstance(order, str) else str(order)[:40]
    if text not in get_args(Order):
        raise DataError(f"{name} is {text!r}, expected 'original' or 'published'")
    return "original" if text == "original" else "published"


def to_original(values: np.ndarray, original_index: np.ndarray) -> np.ndarray:
    """Bring values by published index into the order of the original files.

    Args:
        values: Of shape (n, ...), also `Scores`, of which the scores are returned.
        original_index: Position in the original files of each published index, int64 of shape (n,).

    Raises:
        DataError: If lengths differ, the positions are not 0 ... n-1 in some order, or scores say that they are in
            original order already.
    """
    values, original_index = _checked(values, original_index, "original")
    result = np.empty_like(values)
    result[original_index] = values
    return result


def to_published(values: np.ndarray, original_index: np.ndarray) -> np.ndarray:
    """Bring values in the order of the original files to published index, the inverse of `to_original`.

    Raises:
        DataError: If lengths differ, the positions are not 0 ... n-1 in some order, or scores say that they are in
            published order already.
    """
    values, original_index = _checked(values, original_index, "published")
    return values[original_index]


def _checked(values: Any, original_index: np.ndarray, wanted: Order) -> tuple[np.ndarray, np.ndarray]:
    if getattr(values, "order", None) == wanted:
        raise DataError(f"the scores are in {wanted} order already")
    values, original_index = as_array(values, "values"), as_array(original_index, "original_index")
    if not values.ndim or original_index.ndim != 1:
        raise DataError(f"values {values.shape} and an order {original_index.shape}, expected rows of one length")
    n = len(original_index)
    if len(values) != n:
        raise DataError(f"{counted(len(values), 'value')} and an order of {counted(n, 'example')} differ in number")
    there = np.zeros(n, bool)
    if n and original_index.dtype.kind in "iu" and 0 <= original_index.min() <= original_index.max() < n:
        there[original_index] = True
    if not there.all():
        raise DataError(f"the order of {counted(n, 'example')} is not 0 ... {n - 1} in some order")
    return values, original_index.astype(np.int64)
