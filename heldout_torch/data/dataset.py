"""What a data set is: two splits of images and labels, by published index."""

from dataclasses import dataclass
from typing import Literal

import torch

SplitName = Literal["train", "test"]


@dataclass(frozen=True)
class Split:
    """Images of one split, held whole in memory or on a device.

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


@dataclass(frozen=True)
class Dataset:
    """A data set in published index order.

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
