"""Counting over pairs of examples: one interface, on the CPU or a CUDA device.

All of it rests on one count, exact on every device: `common[r, c]`, the runs whose bit is 1 both in row r and in
column c. An estimate is linear in it,

    float32(common[r, c] * (row.scale[r] * column.scale[c]) - row.shift[r] * column.shift[c]),

computed in float64 and rounded once, so that every function and device gives the same float32 for a pair.
"""

from collections.abc import Iterable
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from heldout_torch.devices import find_device, float64_device
from heldout_torch.stats.counting.axis import Axis

if TYPE_CHECKING:
    import torch


def fill(rows: Axis, columns: Axis, out: np.ndarray, device: "str | torch.device" = "cpu") -> None:
    """Write all estimates to `out`, float32 of shape (rows, columns), C-contiguous."""
    _sweep(device).fill(rows, columns, out, device)


def select(
    problems: Iterable[tuple[Axis, Axis]], threshold: float, device: "str | torch.device" = "cpu"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the estimates of at least `float32(threshold)` in several matrices; none is held.

    Args:
        problems: Rows and columns of each matrix.
        threshold: Compared with the estimates as float32.
        device: Where to count.

    Returns:
        Indices of the row's and of the column's example, int64, and estimates, float32; in no order that matters.
    """
    found = list(_sweep(device).select(problems, np.float32(threshold), device))
    empty = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    row, column, value = (np.concatenate(parts) for parts in zip(empty, *found, strict=True))
    return row, column, value


def keep_best(rows: Axis, columns: Axis, k: int, device: "str | torch.device" = "cpu") -> tuple[np.ndarray, np.ndarray]:
    """Find for each column the k rows of the largest estimates; of equal ones the earlier row comes first.

    Returns:
        Indices of the rows' examples, int64 of shape (columns, k), and estimates, float32 of shape (columns, k), in
        descending order; index -1 and NaN where fewer than k estimates are numbers.
    """
    position, value = _sweep(device).keep_best(rows, columns, k, device)  # (columns, k)
    missing = position < 0
    index = rows.index[np.where(missing, 0, position)] if len(rows) else position
    return np.where(missing, -1, index), np.where(missing, np.float32(np.nan), value)


def count_examples(trained_on: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """Count for each example the runs that trained on it, that are correct, and that are both.

    Args:
        trained_on: uint64 of shape (examples, words).
        correct: uint64 of shape (examples, words).

    Returns:
        int32 of shape (examples, 3).
    """
    return _sweep("cpu").count_examples(trained_on, correct)  # it is bound by memory: no device would help


def count_pairs(one: np.ndarray, one_index: np.ndarray, other: np.ndarray, other_index: np.ndarray) -> np.ndarray:
    """Count the runs common to single pairs of examples.

    Args:
        one: uint64 of shape (examples, words).
        one_index: int64 of shape (pairs,), rows of `one`.
        other: uint64 of shape (examples, words).
        other_index: int64 of shape (pairs,), rows of `other`.

    Returns:
        int32 of shape (pairs,).
    """
    return _sweep("cpu").count_pairs(one, one_index, other, other_index)


def count_runs(words: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Count the runs whose bit is 1 in some rows of words, int32 of the shape of `index`."""
    return count_pairs(words, index, words, index)


def _sweep(device: "str | torch.device") -> ModuleType:
    if str(device) == "cpu" or float64_device(find_device(device)).type == "cpu":
        from heldout_torch.stats.counting import sweep_cpu

        return sweep_cpu
    from heldout_torch.stats.counting import sweep_torch

    return sweep_torch
