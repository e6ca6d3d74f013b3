"""Data sets in one npz file, in the convention of the original code. Use this for a data set of your own."""

import math
from pathlib import Path

import numpy as np
import torch

from heldout_torch.data.arrays import ArrayDataset, Split
from heldout_torch.data.checks import MAX_CLASSES, SPLITS, check_labels
from heldout_torch.errors import DataError, warn
from heldout_torch.storage.npz import read_names, read_npz
from heldout_torch.storage.paths import Location, local_path

_BRIGHTEST = 10  # images of mean 0 and variance 1 hardly have a larger value
_NEEDED = [f"{split}__{part}" for split in SPLITS for part in ("image", "label")]
_OPTIONAL = ["train__index", "test__index", "__num_classes", "__data_scale"]


def load_npz(path: Location, name: str) -> ArrayDataset:
    """Load a data set from an npz file; nothing in it is ever unpickled.

    The file holds, for `train` and `test`: `<split>__image` of shape (n, h, w) or (n, h, w, c), uint8 or floats;
    `<split>__label`, integers of shape (n,); optionally `<split>__index`, the published index of each row, 0 ... n-1 in
    any order (default: as stored). Optionally `__num_classes` (default: one more than the largest label) and
    `__data_scale`, what pixel values are *divided* by before a network sees them (default: 255 for uint8, 1 for floats,
    which are scaled already). Other splits and arrays are not read.

    Args:
        path: The file.
        name: Name of the data set.

    Raises:
        DataError: If the file cannot be read, or arrays are missing or not as above.

    Warns:
        UserWarning: If floats that no `__data_scale` is given for are too large to have been scaled.
    """
    where = str(local_path(path))
    try:
        arrays = read_npz(where, wanted=_NEEDED, optional=_OPTIONAL)
    except DataError as error:
        if ", x_train, " in str(error):  # among the names that are there, as Keras writes them
            raise DataError(f"{error}; name x_train train__image, y_train train__label, and so on") from None
        raise
    _tell_misspelt(where)
    train, test = (_split(arrays, split, where) for split in SPLITS)
    shape, other = (tuple(rows.images.shape[1:]) for rows in (train, test))
    if shape != other or train.images.dtype != test.images.dtype:
        raise DataError(
            f"{where}: train__image are {train.images.dtype} {shape}, test__image {test.images.dtype} {other}"
        )
    return ArrayDataset(name, train, test, _num_classes(arrays, where), _divisor(arrays, where))


def _tell_misspelt(where: str) -> None:
    """Warn of arrays that are left unread though they seem to be meant, such as `data_scale`."""
    there = read_names(Path(where))
    meant = {name.replace("_", "").lower(): name for name in _OPTIONAL if name not in there}
    for name in there:
        if name not in (*_NEEDED, *_OPTIONAL) and (known := meant.get(name.replace("_", "").lower())):
            warn(f"{where}: {name} is left unread; its name in the convention is {known}", stacklevel=4)


def _split(arrays: dict[str, np.ndarray], split: str, where: str) -> Split:
    images, labels = arrays[f"{split}__image"], arrays[f"{split}__label"]
    if not (images.dtype == np.uint8 or images.dtype.kind == "f") or images.ndim not in (3, 4) or not images.size:
        hint = ""
        if images.ndim == 2:
            hint = f"; rows of {images.shape[1]} features: [:, None], {(len(images), 1, images.shape[1])}"
        elif images.dtype.kind in "iu":
            hint = "; pixels: .astype('uint8'), other numbers such as token ids: .astype('float32')"
        raise DataError(
            f"{where}: {split}__image is {images.dtype} {images.shape}, expected uint8 or floats (n, h, w[, c]){hint}"
        )
    if images.ndim == 4 and images.shape[1] <= 4 < images.shape[3]:
        n, c, h, w = images.shape
        raise DataError(f"{where}: {split}__image is {images.shape}, channels first; expected {(n, h, w, c)}")
    if labels.dtype.kind not in "iu" or labels.shape != (len(images),):
        raise DataError(
            f"{where}: {split}__label is {labels.dtype} {labels.shape}, expected {len(images)} integers, the class of "
            "each example"
        )
    order = row_order(arrays.get(f"{split}__index"), len(images), f"{where}: {split}__index")
    images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)  # (n, c, h, w)
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite then
        pixels = np.ascontiguousarray(images[order], np.uint8 if images.dtype == np.uint8 else np.float32)
    if pixels.dtype == np.float32 and not np.isfinite(pixels).all():
        raise DataError(f"{where}: {split}__image has values that are not finite numbers of float32")
    return Split(
        images=torch.from_numpy(pixels),
        labels=torch.from_numpy(labels[order].astype(np.int64)),
        index=torch.arange(len(order), device="cpu"),
        original_index=torch.from_numpy(order),
    )


def row_order(index: np.ndarray | None, n: int, name: str) -> np.ndarray:
    """Return the row of each published index, int64 of shape (n,), given the published index of each row.

    Args:
        index: Integers of shape (n,), 0 ... n-1 in some order; None for rows that are in published order.
        n: Number of rows.
        name: What errors call the index.

    Raises:
        DataError: If it is not such an index.
    """
    if index is None:
        return np.arange(n)
    if index.dtype.kind not in "iu" or index.ndim != 1 or not np.array_equal(np.sort(index), np.arange(n)):
        raise DataError(f"{name} is not 0 ... {n - 1} in some order")
    return np.argsort(index)


def _num_classes(arrays: dict[str, np.ndarray], where: str) -> int:
    largest = max(int(arrays[f"{split}__label"].max()) for split in SPLITS)
    number = _number(arrays, "__num_classes", min(largest + 1, MAX_CLASSES), where)
    if number != int(number) or number > MAX_CLASSES:
        raise DataError(f"{where}: __num_classes is {number:g}, expected a whole number up to {MAX_CLASSES}")
    for split in SPLITS:
        check_labels(arrays[f"{split}__label"], int(number), f"{where}: {split}__label")
    return int(number)


def _divisor(arrays: dict[str, np.ndarray], where: str) -> float:
    images = arrays["train__image"]
    bytes_stored = images.dtype == np.uint8
    divide_by = _number(arrays, "__data_scale", 255 if bytes_stored else 1, where)
    if divide_by < 1 and (bytes_stored or images.max() > divide_by):
        give = "255 for bytes, not 1/255" if bytes_stored else "1 for floats that are scaled already"
        raise DataError(f"{where}: __data_scale is {divide_by:.3g}, but pixel values are divided by it; give {give}")
    if not bytes_stored and "__data_scale" not in arrays and (largest := float(images.max())) > _BRIGHTEST:
        warn(
            f"{where}: train__image are floats up to {largest:.4g}, and are not divided, since the file has no array "
            "__data_scale, which says by what (255 for pixels of bytes; 1 if the values are meant so)",
            stacklevel=0,
        )
    return divide_by


def _number(arrays: dict[str, np.ndarray], key: str, default: float, where: str) -> float:
    array = arrays.get(key, np.array(default))
    if array.size != 1 or array.dtype.kind not in "iuf" or not 0 < array.item() < math.inf:
        found = f"{array.item()!r}" if array.size == 1 else f"{array.dtype} {array.shape}"
        raise DataError(f"{where}: {key} is {found}, expected one number above 0")
    return float(array.item())
