"""The protocol of data sets: two splits of labelled images, by published index, in batches on a device."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard

import numpy as np
import torch
from torch import Tensor

from heldout_torch.data.checks import SPLITS, SplitName, as_index, check_split
from heldout_torch.errors import DataError, counted
from heldout_torch.storage.notebook import as_code

Step = tuple[int, Tensor]  # its number, and the indices (runs, b) of the examples that each run sees in it
# (numbers of the runs, steps) -> for each step images float32 (runs, b, c, h, w) and labels (runs, b)
BatchesOf = Callable[[Sequence[int], Iterable[Step]], Generator[tuple[Tensor, Tensor]]]


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch of examples as a network sees them.

    Attributes:
        index: int64 of shape (b,), published indices, on the CPU.
        images: float32 of shape (b, c, h, w), preprocessed, on the device.
        labels: int64 of shape (b,), on the device.
    """

    index: Tensor
    images: Tensor
    labels: Tensor

    def __repr__(self) -> str:
        return f"<Batch of {counted(len(self.index), 'image')} {tuple(self.images.shape[1:])} on {self.images.device}>"


class Dataset(Protocol):
    """What evaluation, training, statistics and reports need from a data set.

    `ArrayDataset` implements it for arrays in memory, `ImageNet` for image files. Every method that takes a split
    raises DataError if the name is not `train` or `test`.
    """

    @property
    def name(self) -> str:
        """Name, such as `cifar10`."""
        ...

    @property
    def num_classes(self) -> int:
        """Number of labels."""
        ...

    @property
    def preprocessing(self) -> Mapping[str, Any]:
        """How stored pixels are preprocessed for a network, as experiments declare it, such as `divide_by` 255."""
        ...

    @property
    def in_memory(self) -> bool:
        """Whether images are held in memory, so that another pass over them needs no decoding."""
        ...

    def labels(self, split: SplitName) -> Tensor:
        """Return the labels of a split, int64 of shape (n,), by published index, on the CPU."""
        ...

    def original_index(self, split: SplitName) -> Tensor:
        """Return the position in the data set's own files of each published index, int64 of shape (n,), on the CPU."""
        ...

    def file_names(self, split: SplitName) -> list[str] | None:
        """Return the base names of a split's files by published index; None if examples are not separate files."""
        ...

    def to(self, device: str | torch.device) -> "Dataset":
        """Return the data set with its images on a device, for many passes; itself if images are not in memory.

        Raises:
            DeviceError: If there is no such device; so do `batches` and `training_batches`.
        """
        ...

    def batches(self, split: SplitName, batch_size: int, device: str | torch.device = "cpu") -> Iterator[Batch]:
        """Iterate over a split once, in order of published index; examples without an image are left out.

        Raises:
            DataError: If there is no such split or device, or the batch size is not an integer from 1.
        """
        ...

    def training_batches(self, augmentation: str, device: str | torch.device) -> BatchesOf:
        """Return the function that gives training its batches.

        Args:
            augmentation: The recipe's: `none`, `crop-flip` or `resized-crop-flip`.
            device: Where the batches go.

        Raises:
            DataError: If the data set cannot be augmented in this way.
        """
        ...

    def image(self, split: SplitName, index: int) -> Tensor:
        """Return the image of one published index as a network sees it, float32 of shape (c, h, w), on the CPU.

        Raises:
            DataError: If there is no such image, or it cannot be decoded.
        """
        ...

    def picture(self, split: SplitName, index: int) -> np.ndarray:
        """Return the image of one published index for people, uint8 of shape (c, h, w) with one or three channels.

        Raises:
            DataError: As `image`.
        """
        ...

    def split(self, name: SplitName) -> "Examples":
        """Return a split as a map-style data set for `torch.utils.data`."""
        ...

    def digest(self) -> str:
        """Return a SHA-256 of the data set, in hexadecimal digits.

        It is over images and labels in published order, or for image files over their sorted names, sizes and labels.
        """
        ...


def is_dataset(data: object) -> TypeGuard[Dataset]:
    """Return whether something has what is used of every data set."""
    return all(hasattr(data, name) for name in ("name", "labels", "batches", "num_classes"))


class Examples(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """One split as a map-style data set of PyTorch: item i, by published index, is an image and its label.

    The image is float32 of shape (c, h, w), preprocessed as for evaluation, on the CPU. The label is an int. The object
    can be pickled, so it works in a `torch.utils.data.DataLoader` with workers, and in a `torch.utils.data.Subset` of
    published indices.
    """

    def __init__(self, dataset: Dataset, split: SplitName) -> None:
        self.dataset, self.name = dataset, check_split(split)
        self.labels = dataset.labels(split)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return an example; a negative index counts from the end.

        Raises:
            IndexError: If there is none of this index.
            DataError: If the index is not an integer, or the image is missing.
        """
        place = as_index(index)
        if not -len(self) <= place < len(self):
            raise IndexError(
                f"{self.dataset.name} has {counted(len(self), 'example')} in {self.name}, no index {place}"
            )
        place %= len(self)
        return self.dataset.image(self.name, place), int(self.labels[place])

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        return (self[index] for index in range(len(self)))

    _repr_html_ = as_code

    def __repr__(self) -> str:
        return f"<{self.name} of {self.dataset.name}: {counted(f'{len(self):,}', 'example')} (image, label)>"


def check_preprocessing(
    dataset: Dataset, declared: Mapping[str, Any], name: str, splits: Sequence[SplitName] = SPLITS
) -> None:
    """Check that a data set does to its pixels what an experiment declares.

    Args:
        dataset: The data set.
        declared: The experiment's `preprocessing`; what it does not mention is not compared.
        name: The experiment or run, for errors.
        splits: Those that are needed; some images of one of them are looked at.

    Raises:
        DataError: If a value differs, or images are too bright to have been divided, or so dark that they were twice.
    """
    for key, value in dataset.preprocessing.items():
        if key in declared and declared[key] != value:
            hint = "; in an npz file, __data_scale is what pixel values are divided by, 255 for bytes"
            raise DataError(
                f"data set {dataset.name} has {key} {_short(value)}, {name} {_short(declared[key])}"
                f"{hint if key == 'divide_by' else ''}"
            )
    divisor = declared.get("divide_by")
    said = "divide_by" in dataset.preprocessing
    if not isinstance(divisor, int | float) or divisor <= 0 or (said and not dataset.in_memory):
        return
    some = next(iter(dataset.batches("test" if "test" in splits else "train", 1000)), None)
    largest = 0.0 if some is None else float(some.images.max())
    by = f"those of {name} are divided by {_short(divisor)}; in an npz file, __data_scale"
    # Of floats nobody knows whether they were divided before they were stored; bytes may have been divided and cut off.
    if not said and largest > 255 / divisor:
        raise DataError(f"images of data set {dataset.name} reach {largest:.4g}, {by} sets the divisor of floats")
    if divisor > 1 and 0 < largest * divisor < 1.5:  # 1, but for rounding
        raise DataError(
            f"images of data set {dataset.name} reach only {largest:.4g}, {by} sets the divisor: 1 if they are divided"
        )


def check_complete(dataset: Dataset, what: str) -> None:
    """Check that no image of a data set is missing, for work that needs all of them, before it is begun.

    Args:
        dataset: The data set; only one of files, as `ImageNet`, says what it lacks (`missing`).
        what: What needs them, in the plural.

    Raises:
        DataError: If images are missing.
    """
    for split in SPLITS:
        missing: list[str] = getattr(dataset, "missing", lambda split: [])(split)
        if missing:
            raise DataError(
                f"{dataset.name}: {len(missing)} images of {split} are missing, such as {missing[0]}, and {what} need "
                "all of them; verify, and evaluate in Python, take what is there"
            )


def check_same_data(dataset: Dataset, digest: str | None, run: object) -> None:
    """Check that a data set is the one that a run was trained on, where that is known.

    Args:
        dataset: The data set; one that lacks a split or images cannot be compared.
        digest: Of what the run was trained on, its metadata's `data_sha256`; None if they do not say.
        run: The run, for errors.

    Raises:
        DataError: If it is another one.
    """
    if digest is not None and _is_whole(dataset) and dataset.digest() != digest:
        raise DataError(
            f"data set {dataset.name} is not the one that run {run} was trained on: other images, labels or scale"
        )


def _is_whole(dataset: Dataset) -> bool:
    """Return whether a data set has both splits, and all of their images."""
    try:
        check_complete(dataset, "digests")
        return all(len(dataset.labels(split)) for split in SPLITS)
    except DataError:
        return False


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else f"{value!r}"
