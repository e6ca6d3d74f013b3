"""The index of a validation set that a benchmark makes."""

from pathlib import Path

import numpy as np


def write_index(folder: Path, count: int) -> None:
    """Write `imagenet_index.npz` of a folder with `val/00000.JPEG` to `val/<count - 1>.JPEG`, all of class 0."""
    names = np.array([f"{number:05d}.JPEG".encode() for number in range(count)])
    none = np.zeros(0, np.int64)
    np.savez(
        folder / "imagenet_index.npz",
        tr_filenames=names[:0], tr_labels=none, tr_mem=none, tt_filenames=names, tt_labels=np.zeros(count, np.int64),
    )  # fmt: skip
