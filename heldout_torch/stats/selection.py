"""Choosing some of many by position: examples by published index, runs by their place in a table."""

from typing import Any

import numpy as np

from heldout_torch.errors import DataError

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


def _as_index(selection: Any) -> Any:
    if selection is None or isinstance(selection, slice):
        return slice(None) if selection is None else selection
    index = np.asarray(selection)
    return index.astype(np.int64) if index.size == 0 else index


def _short(selection: Any) -> str:
    text = " ".join(repr(selection).split())
    return text if len(text) <= 60 else text[:57] + "..."
