"""Labels without images: from published score and influence files, imagenet-index and npz data sets."""

from pathlib import Path

import numpy as np

from heldout_torch.data.checks import MAX_CLASSES, SplitName, check_labels, check_split
from heldout_torch.data.imagenet_index import read_imagenet_index
from heldout_torch.data.npz import row_order
from heldout_torch.data.order import original_index
from heldout_torch.errors import DataError
from heldout_torch.storage.npz import read_npz
from heldout_torch.storage.paths import Location, local_path

_OF_SPLIT = {"train": "tr_labels", "test": "tt_labels"}  # in files of class-wise influence, and ImageNet's index


def read_labels(path: Location, dataset: str, split: SplitName = "train") -> np.ndarray:
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
        DataError: If the file is missing or damaged, has no labels of the split, or does not say their order.
    """
    path, split = local_path(path), check_split(split)
    parts = ["labels", *_OF_SPLIT.values(), f"{split}__label", f"{split}__index", "order", "filenames", "tr_filenames"]
    # Of names it matters only that they are there.
    arrays = read_npz(
        path, wanted=[], optional=parts, objects=lambda pickled, shape: np.broadcast_to(np.array(None), shape)
    )
    if "tr_filenames" in arrays:
        return read_imagenet_index(path)[split].labels
    if f"{split}__label" in arrays:
        labels = _row(arrays, f"{split}__label", path, split)
        return labels[row_order(arrays.get(f"{split}__index"), len(labels), f"{path}: {split}__index")]
    key = "labels" if split == "train" and "labels" in arrays else _OF_SPLIT[split]
    if key not in arrays:
        raise DataError(f"{path}: has no labels of the {split} set (labels, {_OF_SPLIT[split]} or {split}__label)")
    labels = _row(arrays, key, path, split)
    order = _order(arrays, dataset, path)
    if order == "published":
        return labels
    places = original_index(dataset, split, len(labels))
    if places is None:
        raise DataError(f"{path}: is in original order, which for {dataset} is known only from the data set itself")
    return labels[places]


def _order(arrays: dict[str, np.ndarray], dataset: str, path: Path) -> str:
    if "order" in arrays:
        order = str(arrays["order"]) if arrays["order"].ndim == 0 else ""
        if order not in ("original", "published"):
            raise DataError(f"{path}: order is {order[:40]!r}, expected 'original' or 'published'")
        return order
    if "filenames" in arrays:
        raise DataError(f"{path}: is ordered by file names; read the labels from imagenet_index.npz")
    if dataset in ("cifar10", "cifar100"):
        return "original"
    raise DataError(f"{path}: does not say the order of the examples of {dataset}, so no label can be assigned")


def _row(arrays: dict[str, np.ndarray], key: str, path: Path, split: str) -> np.ndarray:
    array = arrays[key]
    if array.ndim != 1 or not array.size or array.dtype.kind not in "iu":
        raise DataError(f"{path}: {key} is {array.dtype} {array.shape}, expected a row of integers")
    check_labels(array, MAX_CLASSES, f"{path}: {split}")
    return array.astype(np.int64)
