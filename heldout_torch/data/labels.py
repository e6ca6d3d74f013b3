"""Labels of a data set without its images: from published score and influence files, indices and npz data sets."""

import os
from pathlib import Path

import numpy as np

from heldout_torch.data.dataset import SplitName
from heldout_torch.data.imagenet_index import read_imagenet_index
from heldout_torch.data.npz import read_arrays
from heldout_torch.data.order import original_index
from heldout_torch.errors import DataError

_OF_SPLIT = {"train": "tr_labels", "test": "tt_labels"}  # in files of class-wise influence, and ImageNet's index


def read_labels(path: str | os.PathLike[str], dataset: str, split: SplitName = "train") -> np.ndarray:
    """Read the labels of a split from a file without images, for statistics that need no pixels.

    Such files are ImageNet's `imagenet_index.npz` (by published index); published scores, with `labels` of the
    training set, and class-wise influence, with `tr_labels` and `tt_labels`; and npz data sets (`<split>__label` and
    `<split>__index`), of which the images are not read. Scores and influence are in the order that an array `order` in
    them says, `original` or `published`; CIFAR's published files have none and are in original order.

    Args:
        path: The npz file.
        dataset: Name of the data set, such as `cifar10`.
        split: `train` or `test`.

    Returns:
        int64 of shape (n,), by published index.

    Raises:
        DataError: If the file is missing, damaged, has no labels of the split, or their order cannot be told.
    """
    path = Path(path)
    names, arrays = read_arrays(path, {"labels", *_OF_SPLIT.values(), f"{split}__label", f"{split}__index", "order"})
    if "tr_filenames" in names:
        return read_imagenet_index(path)[split].labels
    if f"{split}__label" in arrays:
        return _of_dataset(arrays, split, path)
    key = "labels" if split == "train" and "labels" in arrays else _OF_SPLIT[split]
    if key not in arrays:
        raise DataError(f"{path}: has no labels of the {split} set, only {', '.join(names[:10])}")
    labels = _row(arrays[key], f"{path}: {key}")
    order = _order(arrays, names, dataset, path)
    if order == "published":
        return labels
    places = original_index(dataset, split, len(labels))
    if places is None:
        raise DataError(f"{path}: is in original order, which for {dataset} only the data set itself tells")
    return labels[places]


def _of_dataset(arrays: dict[str, np.ndarray], split: str, path: Path) -> np.ndarray:
    labels = _row(arrays[f"{split}__label"], f"{path}: {split}__label")
    index = _row(arrays.get(f"{split}__index", np.arange(len(labels))), f"{path}: {split}__index")
    if not np.array_equal(np.sort(index), np.arange(len(labels))):
        raise DataError(f"{path}: {split}__index is not 0 ... {len(labels) - 1} in some order")
    return labels[np.argsort(index)]


def _order(arrays: dict[str, np.ndarray], names: list[str], dataset: str, path: Path) -> str:
    if "order" in arrays:
        order = str(arrays["order"])
        if order not in ("original", "published"):
            raise DataError(f"{path}: order is {order[:40]!r}, expected 'original' or 'published'")
        return order
    if "filenames" in names:
        raise DataError(f"{path}: goes by file names; take the labels from imagenet_index.npz")
    if dataset in ("cifar10", "cifar100"):
        return "original"
    raise DataError(f"{path}: does not say in which order it counts the examples of {dataset}, so no label is sure")


def _row(array: np.ndarray, name: str) -> np.ndarray:
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DataError(f"{name} is {array.dtype} {array.shape}, expected a row of integers")
    return array.astype(np.int64)
