"""Checks of what users pass and files hold: splits, subsets and labels."""

import operator
import reprlib
from collections.abc import Sized
from typing import Any, Literal

import numpy as np

from heldout_torch.errors import DataError, nearest
from heldout_torch.storage.counts import as_count

SplitName = Literal["train", "test"]
MAX_CLASSES = 1_000_000  # a larger label is a mistake, and networks for it would fill the memory
SPLITS: tuple[SplitName, ...] = ("train", "test")


def check_split(split: str) -> SplitName:
    """Return the name of a split.

    Raises:
        DataError: If it is neither `train` nor `test`.
    """
    for known in SPLITS:
        if isinstance(split, str) and split == known:
            return known
    raise DataError(f"split {split!r} is not known, expected 'train' or 'test'{nearest(str(split), SPLITS)}")


def as_index(index: Any) -> int:
    """Return a published index, given as anything like an integer.

    Raises:
        DataError: If it is none.
    """
    try:
        if not isinstance(index, bool):
            return operator.index(index)
    except TypeError:
        pass
    several = "; several: torch.utils.data.Subset(split, indices)" if isinstance(index, slice | Sized) else ""
    raise DataError(f"example {reprlib.repr(index)}: expected a published index, an integer{several}")


def as_batch_size(size: Any) -> int:
    """Return a number of examples from 1, given as anything like an integer.

    Raises:
        DataError: If it is none.
    """
    return as_count(size, "batch_size")


def as_subset(subset: np.ndarray, examples: int) -> np.ndarray:
    """Return the published indices of some of so many training examples, as int64.

    Raises:
        DataError: If they are not a row of integers, each once and of such an example, or there are none.
    """
    if subset.ndim != 1 or subset.dtype.kind not in "iu" or not len(subset):
        raise DataError(f"the subset is {subset.dtype} {subset.shape}, expected a row of published indices")
    found = subset.astype(np.int64, copy=False)
    if found.min() < 0 or found.max() >= examples or np.bincount(found).max() > 1:
        raise DataError(f"the subset names examples twice, or outside 0 ... {examples - 1}")
    return found


def check_labels(labels: np.ndarray, num_classes: int, name: str) -> None:
    """Check that labels (n,) are classes.

    Raises:
        DataError: Naming the first that is not.
    """
    bad = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if bad.size:
        raise DataError(f"{name}: label {labels[bad[0]]} at position {bad[0]}, expected 0 ... {num_classes - 1}")
