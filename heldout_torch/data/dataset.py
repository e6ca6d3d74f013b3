"""What a data set is: two splits of labelled images, by published index, in batches on a device."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch

SplitName = Literal["train", "test"]


@dataclass(frozen=True)
class Batch:
    """Some examples as a network sees them.

    Attributes:
        index: int64 of shape (b,), published indices, on the CPU.
        images: float32 of shape (b, c, h, w), preprocessed, on the device.
        labels: int64 of shape (b,), on the device.
    """

    index: torch.Tensor
    images: torch.Tensor
    labels: torch.Tensor


class Dataset(Protocol):
    """What evaluation and training need of a data set."""

    @property
    def name(self) -> str:
        """Such as `cifar10`."""
        ...

    @property
    def num_classes(self) -> int:
        """Number of labels."""
        ...

    def labels(self, split: SplitName) -> torch.Tensor:
        """Labels of a split, int64 of shape (n,), by published index, on the CPU."""
        ...

    def batches(self, split: SplitName, batch_size: int, device: str | torch.device = "cpu") -> Iterator[Batch]:
        """Go through a split once, in order of published index."""
        ...


@dataclass(frozen=True)
class Split:
    """Images of one split, held whole in memory or on a device; row i has published index i unless `index` differs.

    Attributes:
        images: uint8 of shape (n, c, h, w), as stored in the data set's files.
        labels: int64 of shape (n,), from 0.
        index: int64 of shape (n,), the published index of each row.
        original_index: int64 of shape (n,), the position of each row in the data set's own files.
    """

    images: torch.Tensor
    labels: torch.Tensor
    index: torch.Tensor
    original_index: torch.Tensor

    def to(self, device: str | torch.device) -> "Split":
        """Move images and labels to a device; the indices stay on the CPU."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))


@dataclass(frozen=True)
class ArrayDataset:
    """A small data set, held whole as uint8.

    Attributes:
        name: Such as `cifar10`.
        train: The whole training set.
        test: The test set.
        num_classes: Number of labels.
        divide_by: What pixel values are divided by before a network sees them.
    """

    name: str
    train: Split
    test: Split
    num_classes: int
    divide_by: float

    def split(self, name: SplitName) -> Split:
        """Give a split by name."""
        return self.train if name == "train" else self.test

    def labels(self, split: SplitName) -> torch.Tensor:
        """Labels of a split, int64 of shape (n,), by published index, on the CPU."""
        return self.split(split).labels.cpu()

    def batches(self, split: SplitName, batch_size: int, device: str | torch.device = "cpu") -> Iterator[Batch]:
        """Go through a split once; the uint8 images are moved as a whole and normalised on the device."""
        rows = self.split(split).to(device)
        for start in range(0, len(rows.labels), batch_size):
            part = slice(start, start + batch_size)
            yield Batch(rows.index[part], scaled(rows.images[part], self.divide_by), rows.labels[part])


def scaled(images: torch.Tensor, divide_by: float) -> torch.Tensor:
    """Divide uint8 images; float32 of the same shape, on the same device, the same numbers on every device."""
    # By a plain number, a GPU would multiply with its reciprocal, which rounds otherwise.
    return images.float().div_(torch.tensor(divide_by, device=images.device))
