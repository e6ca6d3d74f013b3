"""Checks of what users pass and files hold: splits, labels, preprocessing."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from heldout_torch.errors import DataError, nearest

if TYPE_CHECKING:
    from heldout_torch.data.dataset import Dataset

SplitName = Literal["train", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "test")


def check_split(split: str) -> SplitName:
    """Return the name of a split.

    Raises:
        DataError: If it is neither `train` nor `test`.
    """
    for known in SPLITS:
        if split == known:
            return known
    raise DataError(f"split {split!r} is not known, expected 'train' or 'test'{nearest(str(split), SPLITS)}")


def check_labels(labels: np.ndarray, num_classes: int, name: str) -> None:
    """Check that labels (n,) are classes.

    Raises:
        DataError: Naming the first that is not.
    """
    bad = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if bad.size:
        raise DataError(f"{name}: label {labels[bad[0]]} at position {bad[0]}, expected 0 ... {num_classes - 1}")


def check_preprocessing(dataset: "Dataset", declared: Mapping[str, Any], name: str) -> None:
    """Check that a data set does to its pixels what an experiment declares.

    Args:
        dataset: The data set.
        declared: The experiment's `preprocessing`; what it does not mention is not compared.
        name: The experiment or run, for errors.

    Raises:
        DataError: If a value differs.
    """
    for key, value in dataset.preprocessing.items():
        if key in declared and declared[key] != value:
            hint = "; the __data_scale of an npz file is what pixel values are divided by, 255 for bytes"
            raise DataError(
                f"data set {dataset.name} has {key} {_short(value)}, {name} {_short(declared[key])}"
                f"{hint if key == 'divide_by' else ''}"
            )


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else f"{value!r}"
