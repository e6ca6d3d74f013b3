"""What functions of statistics are given: numbers, shares, rows of numbers, labels, arrays to write into; checked."""

import operator
from typing import Any

import numpy as np

from heldout_torch.errors import DataError, one_line


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
        raise DataError(f"{name} is {shortened(value)}, expected a number from 1")
    return number


def as_number(value: Any, name: str, expected: str = "a number") -> float:
    """Return a number that is not NaN.

    Raises:
        DataError: If it is none; `name` is what the error calls it, and `expected` what should have been there.
    """
    try:
        number = float("nan") if np.ndim(value) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if np.isnan(number):
        raise DataError(f"{name} is {shortened(value)}, expected {expected}")
    return number


def as_share(value: Any, name: str) -> float:
    """Return a number above 0 and below 1, such as a subset ratio or the level of an interval.

    Raises:
        DataError: If it is none; `name` is what the error calls it.
    """
    expected = "a share between 0 and 1 such as 0.95"
    if not 0 < (share := as_number(value, name, expected)) < 1:
        raise DataError(f"{name} is {shortened(value)}, expected {expected}")
    return share


def as_numbers(values: Any, name: str) -> np.ndarray:
    """Return an array of numbers, of any shape and real type; NaN and infinities are numbers here.

    Raises:
        DataError: If it holds anything else; `name` is what the error calls it.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise DataError(f"{name} are {array.dtype} {array.shape}, expected numbers")
    return array


def as_row_of_numbers(values: Any, name: str) -> np.ndarray:
    """Return an array of numbers of one dimension, as `as_numbers` does."""
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "biuf":
        raise DataError(f"{name} are {array.dtype} {array.shape}, expected a row of numbers")
    return array


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


def as_output(out: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return an array to write results into, a new one if none is given.

    Args:
        out: float32, C-contiguous and writeable; may be a memory map. None for a new one.
        shape: The shape that it must have.

    Raises:
        DataError: If it is not so.
    """
    if out is None:
        return np.empty(shape, np.float32)
    fits = isinstance(out, np.ndarray) and out.shape == shape and out.dtype == np.float32
    if not fits or not out.flags.c_contiguous or not out.flags.writeable:
        found = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else shortened(out)
        raise DataError(f"out is {found}, expected writeable C-contiguous float32 {shape}")
    return out


def shortened(value: Any) -> str:
    """Return the `repr` of what a user gave, in one line of at most 60 characters."""
    text = one_line(repr(value))
    return text if len(text) <= 60 else text[:57] + "..."
