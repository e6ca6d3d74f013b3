"""Checks of what statistics are given: numbers, shares, rows of numbers, labels, arrays to write into."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import numpy as np

from heldout_torch.errors import DataError, ZooError, nearest, one_line
from heldout_torch.zoo.keys import as_ratio

T = TypeVar("T")


def as_number(value: Any, name: str, expected: str = "a number") -> float:
    """Return a number other than NaN; a bool is refused, as it was meant for another argument.

    Raises:
        DataError: If it is not one; `name` is what the error calls it, and `expected` what should have been there.
    """
    refused = isinstance(value, str | bytes | bool) or str(getattr(value, "dtype", "")) in ("bool", "torch.bool")
    try:
        number = float("nan") if refused or np.ndim(value) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if np.isnan(number):
        raise DataError(f"{name} is {shortened(value)}, expected {expected}")
    return number


def as_subset_ratio(value: Any) -> float:
    """Return a subset ratio as `heldout_torch.load_run` takes it, or any other number, as tables from arrays can have.

    Raises:
        DataError: If it is not a number.
    """
    try:
        return as_ratio(value)
    except ZooError:
        return as_number(value, "subset ratio", "a share such as 0.7, and a run table by it")


def as_fraction(value: Any, name: str) -> float:
    """Return a number from 0 to 1, both included, also from text, as subset ratios are taken.

    Raises:
        DataError: If it is not one; `name` is what the error calls it.
    """
    if isinstance(value, str):
        with suppress(ValueError):
            value = float(value)
    if not 0 <= (fraction := as_number(value, name, "0 ... 1")) <= 1:
        raise DataError(f"{name} is {fraction}, expected 0 ... 1")
    return fraction


def as_share(value: Any, name: str) -> float:
    """Return a number above 0 and below 1, such as a subset ratio or the level of an interval.

    Raises:
        DataError: If it is not one; `name` is what the error calls it.
    """
    expected = "a share between 0 and 1 such as 0.95"
    if not 0 < (share := as_number(value, name, expected)) < 1:
        raise DataError(f"{name} is {shortened(value)}, expected {expected}")
    return share


def as_choice(value: Any, choices: Sequence[str], name: str) -> str:
    """Return a word after checking that it is one of several.

    Raises:
        DataError: If it is none of them; `name` is what the error calls it.
    """
    if not isinstance(value, str) or value not in choices:
        *first, last = map(repr, choices)
        expected = f"{', '.join(first)} or {last}{nearest(str(value), choices)}"
        raise DataError(f"{name} is {shortened(value)}, expected {expected}")
    return value


def as_kind(value: Any, kind: type[T], name: str, maker: str = "") -> T:
    """Return a value, such as the result of another function, after checking its class.

    Raises:
        DataError: If it is of another class; `name` is what the error calls it, and `maker` the function to call.
    """
    if not isinstance(value, kind):
        how = maker and f", as {maker} returns one"
        raise DataError(f"{name}: given {type(value).__name__}, expected {kind.__name__}{how}")
    return value


def as_array(values: Any, name: str) -> np.ndarray:
    """Return a list, a tensor in memory or the like as an array; memory maps stay memory maps.

    Raises:
        DataError: If it is not like an array, such as a tensor on a GPU, or has masked values; `name` is what the error
            calls it.
    """
    if np.ma.is_masked(values):
        raise DataError(f"{name}: masked values are not supported; select the others, or fill with NaN")
    try:
        return values if isinstance(values, np.memmap) else np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{name}: {type(values).__name__} is not an array ({one_line(error)})") from None


def hold_arrays(record: Any, names: Iterable[str]) -> None:
    """Replace what a frozen record was given under some names, such as lists, by arrays in place; None stays.

    Raises:
        DataError: As `as_array`.
    """
    for name in names:
        if (values := getattr(record, name)) is not None:
            object.__setattr__(record, name, as_array(values, name))


def as_numbers(values: Any, name: str) -> np.ndarray:
    """Return an array of numbers, of any shape and real type; NaN and infinities are numbers here.

    Raises:
        DataError: If it holds anything else; `name` is what the error calls it.
    """
    array = as_array(values, name)
    if array.dtype.kind not in "biuf":
        raise DataError(f"{name} are {array.dtype} {array.shape}, expected numbers")
    return array


def as_row_of_numbers(values: Any, name: str) -> np.ndarray:
    """Return an array of numbers of one dimension, as `as_numbers` does."""
    array = as_array(values, name)
    if array.ndim != 1 or array.dtype.kind not in "biuf":
        raise DataError(f"{name} are {array.dtype} {array.shape}, expected a row of numbers")
    return array


def as_labels(labels: Any, examples: int, name: str) -> np.ndarray:
    """Return labels by published index as int64, so that those of two splits can be compared.

    Raises:
        DataError: If there are none, or they are not integers of shape (examples,) below 2**63. The error calls them
            `name`.
    """
    if labels is None:
        raise DataError(f"{name} is missing, pairs of the same class need it")
    labels = as_array(labels, name)
    if labels.shape != (examples,) or labels.dtype.kind not in "iu":
        raise DataError(f"{name} is {labels.dtype} {labels.shape}, expected integers of shape {(examples,)}")
    if labels.dtype.kind == "u" and labels.max(initial=0) >= 2**63:
        raise DataError(f"{name} has a label {labels.max()}, expected numbers below 2**63")
    return labels.astype(np.int64, copy=False)


def as_output(out: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return an array to write results into, a new one if none is given.

    Args:
        out: float32, C-contiguous and writeable; may be a memory map. None for a new one.
        shape: The shape that it must have.

    Raises:
        DataError: If `out` is not as above.
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
