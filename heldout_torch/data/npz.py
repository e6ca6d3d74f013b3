"""Data sets in one npz file, in the convention of the original code; the way in for a data set of one's own."""

import zipfile
from pathlib import Path

import numpy as np
import torch

from heldout_torch.data.dataset import ArrayDataset, Split
from heldout_torch.data.originals import check_labels
from heldout_torch.errors import DataError


def load_npz(path: Path, name: str) -> ArrayDataset:
    """Load a data set from an npz file; nothing in it is ever unpickled.

    The file holds, for `train` and `test`: `<split>__image`, uint8 of shape (n, h, w) or (n, h, w, c);
    `<split>__label`, integers of shape (n,); optionally `<split>__index`, the published index of each row, 0 ... n-1 in
    any order (default: as stored). Optionally `__num_classes` (default: one more than the largest label) and
    `__data_scale`, what pixel values are multiplied by before a network sees them (default: 1/255).

    Args:
        path: The file.
        name: Name of the data set.

    Raises:
        DataError: If arrays are missing or not as above.
    """
    _, arrays = read_arrays(path)
    missing = {f"{split}__{part}" for split in ("train", "test") for part in ("image", "label")} - set(arrays)
    if missing:
        raise DataError(
            f"{path}: has no {', '.join(sorted(missing))}; the convention is <split>__image, <split>__label"
        )
    train, test = (_split(arrays, split, str(path)) for split in ("train", "test"))
    largest = max(int(labels.max()) if len(labels) else 0 for labels in (train.labels, test.labels))
    num_classes = int(_number(arrays, "__num_classes", largest + 1, str(path)))
    for split in ("train", "test"):
        check_labels(arrays[f"{split}__label"], num_classes, f"{path}: {split}__label")
    return ArrayDataset(
        name, train, test, num_classes, divide_by=_divisor(_number(arrays, "__data_scale", 1 / 255, str(path)))
    )


def read_arrays(path: Path, wanted: set[str] | None = None) -> tuple[list[str], dict[str, np.ndarray]]:
    """Read the names of all arrays in an npz file, and the arrays wanted; nothing is ever unpickled.

    Raises:
        DataError: If the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as npz:
            return npz.files, {key: npz[key] for key in npz.files if wanted is None or key in wanted}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: is no readable npz file ({' '.join(str(error).split())})") from None


def _number(arrays: dict[str, np.ndarray], key: str, default: float, name: str) -> float:
    array = arrays.get(key, np.array(default))
    if array.size != 1 or array.dtype.kind not in "iuf" or not array.item() > 0:
        raise DataError(f"{name}: {key} is {array.dtype} {array.shape}, expected one number above 0")
    return float(array.item())


def _split(arrays: dict[str, np.ndarray], split: str, name: str) -> Split:
    images, labels = arrays[f"{split}__image"], arrays[f"{split}__label"]
    index = arrays.get(f"{split}__index", np.arange(len(labels)))
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise DataError(f"{name}: {split}__image is {images.dtype} {images.shape}, expected uint8 (n, h, w[, c])")
    if labels.dtype.kind not in "iu" or labels.shape != (len(images),):
        raise DataError(f"{name}: {split}__label is {labels.dtype} {labels.shape}, expected {len(images)} integers")
    if index.dtype.kind not in "iu" or not np.array_equal(np.sort(index), np.arange(len(images))):
        raise DataError(f"{name}: {split}__index is not 0 ... {len(images) - 1} in some order")
    order = np.argsort(index)  # published index -> row of the file
    images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)  # (n, c, h, w)
    return Split(
        images=torch.from_numpy(np.ascontiguousarray(images[order])),
        labels=torch.from_numpy(labels[order].astype(np.int64)),
        index=torch.arange(len(order)),
        original_index=torch.from_numpy(order),
    )


def _divisor(scale: float) -> float:
    # The scale is a float32 such as 1/255, whose inverse is not quite the 255 that was meant.
    divide_by = 1 / scale
    return float(round(divide_by)) if abs(divide_by - round(divide_by)) < 1e-6 * divide_by else divide_by
