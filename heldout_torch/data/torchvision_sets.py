"""Conversion of torchvision's data set objects to data sets of this package.

The images and labels that they hold are read in their order, and mapped to published indices. Their transform is not
applied, because experiments declare the preprocessing.
"""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from heldout_torch.data.arrays import ArrayDataset, Split
from heldout_torch.data.checks import SPLITS, SplitName, check_labels
from heldout_torch.data.dataset import Dataset, Examples, is_dataset
from heldout_torch.data.imagenet import INDEX_FILE, INDEX_HINT, ImageNet
from heldout_torch.data.imagenet_index import read_imagenet_index
from heldout_torch.data.originals import NUM_CLASSES, publish, read_cifar, read_mnist_labels
from heldout_torch.errors import DataError, warn

# A data set of this package or a user's own, an object of torchvision, or two of these, for training and for test.
AnyDataset: TypeAlias = Dataset | torch.utils.data.Dataset[Any] | tuple[Any, Any]

_IN_MEMORY = {"CIFAR10": "cifar10", "CIFAR100": "cifar100", "MNIST": "mnist"}
_IN_FOLDERS = ("ImageFolder", "ImageNet")


def as_dataset(data: AnyDataset, splits: Collection[SplitName] = ()) -> Dataset:
    """Convert a data set that a user passes to a `Dataset`.

    Args:
        data: A `Dataset`, which is returned as it is, or what its `split` gives; torchvision's `CIFAR10`, `CIFAR100`
            or `MNIST`, or an `ImageFolder` of ImageNet with `imagenet_index.npz` in its root or up to two folders
            above; or a pair of torchvision's, `(train, test)`. One alone has only its own split.
        splits: The splits that it must have; an object that `split` returned has only that one.

    Raises:
        DataError: If it is something else, or does not have the splits, both of a pair are the same split, its labels
            are not those of its files, or as `ImageNet`.
    """
    if is_dataset(data):
        return data
    parts: list[Any] = list(data) if isinstance(data, tuple | list) else [data]
    if parts and all(isinstance(part, Examples) and part.dataset is parts[0].dataset for part in parts):
        given = sorted({part.name for part in parts})
        if lacking := [split for split in splits if split not in given]:
            raise DataError(f"given is the split {given[0]} of {parts[0].dataset.name}, but {lacking[0]} is asked for")
        return parts[0].dataset  # type: ignore[no-any-return]
    kinds = [_kind(part) for part in parts]
    if len(parts) not in (1, 2) or len({kind in _IN_FOLDERS for kind in kinds}) > 1 or None in kinds:
        names = ", ".join(type(part).__name__ for part in parts) or "nothing"
        raise DataError(
            f"{names}: expected a data set of heldout_torch.data.load_dataset, or torchvision's "
            f"{', '.join([*_IN_MEMORY, *_IN_FOLDERS])}, or a pair of torchvision's, (train, test){_hint(parts)}"
        )
    for part in parts:
        ignored = [] if getattr(part, "transforms", None) is None else ["transform"]
        if not type(part).__getitem__.__module__.startswith("torchvision."):
            ignored.append("__getitem__")
        for what in ignored:
            line = f"the {what} of {type(part).__name__} is not applied; the experiment declares the preprocessing"
            warn(line, stacklevel=3)
    return _from_folders(parts) if kinds[0] in _IN_FOLDERS else _from_arrays(parts, [_IN_MEMORY[str(k)] for k in kinds])


def _hint(parts: list[Any]) -> str:
    """Return what to do instead, for what people try."""
    if any(isinstance(part, torch.utils.data.Subset | torch.utils.data.ConcatDataset) for part in parts):
        return "; pass the whole data set, and select results by published index"
    if any(isinstance(part, str | os.PathLike) for part in parts):
        return "; load it first with load_dataset(name, path)"
    if any(isinstance(part, torch.utils.data.Dataset) and not isinstance(part, Examples) for part in parts):
        return "; make one of your own images with heldout_torch.data.ArrayDataset"
    return ""


def _kind(data: object) -> str | None:
    """Return the name of torchvision's class that an object is of; of its subclasses only the user's own count."""
    names = [one.__name__ for one in type(data).__mro__ if one.__module__.partition(".")[0] == "torchvision"]
    return names[0] if names and names[0] in (*_IN_MEMORY, *_IN_FOLDERS) else None


def _from_arrays(parts: list[Any], names: list[str]) -> ArrayDataset:
    splits: dict[SplitName, Split] = {}
    for part, name in zip(parts, names, strict=True):
        split: SplitName = "train" if part.train else "test"
        if split in splits or name != names[0]:
            raise DataError(f"{name}: two of {split}, or of different data sets; expected a pair (train, test)")
        splits[split] = publish(*_read_arrays(part, name, split), split)
    rows = next(iter(splits.values()))
    nothing = Split(rows.images[:0], rows.labels[:0], rows.index[:0], rows.original_index[:0])
    train, test = (splits.get(split, nothing) for split in SPLITS)
    return ArrayDataset(names[0], train, test, NUM_CLASSES[names[0]], divide_by=255.0)


def _read_arrays(part: Any, name: str, split: SplitName) -> tuple[np.ndarray, np.ndarray]:
    images, labels = np.asarray(part.data), np.asarray(part.targets)
    shape = (28, 28) if name == "mnist" else (32, 32, 3)
    if images.dtype != np.uint8 or images.shape[1:] != shape or labels.shape != images.shape[:1] or (
        labels.dtype.kind not in "iu"
    ):  # fmt: skip
        raise DataError(
            f"{name}: has {images.dtype} images {images.shape} and {labels.dtype} labels {labels.shape} of {split}, "
            f"expected uint8 (n, {', '.join(map(str, shape))}) and integers (n,)"
        )
    channels = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)  # (n, c, h, w)
    labels = labels.astype(np.int64)
    check_labels(labels, NUM_CLASSES[name], f"{name}: targets of {split}")
    if name == "mnist":
        expected = read_mnist_labels(Path(part.raw_folder), split)
    else:
        files = [(file, None) for file, _ in (part.train_list if part.train else part.test_list)]
        expected = read_cifar(name, Path(part.root) / part.base_folder, files)[1]
    if not np.array_equal(labels, expected):
        raise DataError(
            f"{name}: the targets of {split} are not those of its files in {part.root}, so examples cannot be "
            "identified; pass changed data as an npz file"
        )
    return np.ascontiguousarray(channels), labels


def _from_folders(parts: list[Any]) -> ImageNet:
    above = [folder for part in parts for folder in (Path(part.root), *Path(part.root).absolute().parents[:2])]
    index_file = next((folder / INDEX_FILE for folder in above if (folder / INDEX_FILE).is_file()), None)
    if index_file is None:
        raise DataError(f"{os.path.abspath(parts[0].root)}: has no {INDEX_FILE} near, {INDEX_HINT}")
    index = read_imagenet_index(index_file)
    of_test = {os.path.splitext(name)[0] for name in index["test"].names}
    folder = os.path.commonpath([os.path.abspath(part.root) for part in parts])
    images: dict[SplitName, list[str]] = {}
    for part in parts:
        _check_folders(part)
        paths = [os.path.relpath(path, folder) for path, _ in part.samples]
        in_test = sum(os.path.basename(path).startswith(tuple(of_test)) for path in paths[:10])
        split: SplitName = "test" if in_test else "train"
        if split in images:
            raise DataError(f"{part.root}: both folders are of {split}; expected a pair (train, test)")
        images[split] = paths
    return ImageNet(folder, index_file, images=images)


def _check_folders(part: Any) -> None:
    """Check that labels are those of the folders in which the images lie, as torchvision numbers them."""
    number_of = getattr(part, "wnid_to_idx", part.class_to_idx)
    said: dict[str, int | None] = {}  # by folder
    for path, label in part.samples:
        below = os.path.dirname(path)
        if below not in said:
            folders = [folder for folder in below.split(os.sep) if folder in number_of]
            said[below] = number_of[folders[-1]] if folders else None
        if said[below] not in (None, label):
            raise DataError(
                f"{path}: has label {label}, its folder says {said[below]}, so the example cannot be identified; "
                "labels must be those of imagenet_index.npz"
            )
