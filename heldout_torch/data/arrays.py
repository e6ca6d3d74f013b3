"""Data sets that are held in memory or on a device as a whole."""

import hashlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from heldout_torch.data.augment import crop_flip, draw_crop_flip
from heldout_torch.data.checks import SplitName, as_batch_size, as_index, check_split
from heldout_torch.data.dataset import Batch, BatchesOf, Examples, Step
from heldout_torch.data.rows import as_divisor, as_tensor, check_rows
from heldout_torch.devices import any_device
from heldout_torch.errors import DataError, counted
from heldout_torch.storage.counts import as_count
from heldout_torch.storage.notebook import as_code

DRAWS_AT_ONCE = 2**17  # indices of examples that are sent to the device together: a step's own would wait each time


@dataclass(frozen=True, eq=False)
class Split:
    """Images and labels of one split. Row i has published index i, unless `index` says otherwise.

    Attributes:
        images: uint8, as stored in the data set's files, or float32, of shape (n, c, h, w).
        labels: int64 of shape (n,), from 0.
        index: int64 of shape (n,), the published index of each row.
        original_index: int64 of shape (n,), the position of each row in the data set's own files.

    Raises:
        DataError: If they are not tensors of these shapes.
    """

    images: Tensor
    labels: Tensor
    index: Tensor
    original_index: Tensor

    def __post_init__(self) -> None:
        check_rows(self.images, self.labels, self.index, self.original_index)

    def to(self, device: str | torch.device) -> "Split":
        """Return the split with images and labels on a device; the indices stay on the CPU."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    @cached_property
    def labels_on_cpu(self) -> Tensor:
        """Labels on the CPU, where the indices are."""
        return self.labels.cpu()

    @cached_property
    def row_of(self) -> dict[int, int]:
        """Row of each published index that is there."""
        return {index: row for row, index in enumerate(self.index.tolist())}

    def __repr__(self) -> str:
        images = counted(f"{len(self.labels):,}", "image")
        return f"<Split of {images} {tuple(self.images.shape[1:])} {self.images.dtype}>"


@dataclass(frozen=True, eq=False)
class ArrayDataset:
    """A data set that is held in memory as a whole; implements `heldout_torch.data.Dataset`.

    Rows of a split are brought into the order of their published index.

    Attributes:
        name: Such as `cifar10`.
        train: The whole training set, such as `as_stored(images, labels)`; may be empty if only the test set is there.
        test: The test set; may be empty.
        num_classes: Number of labels.
        divide_by: Pixel values are divided by this before a network sees them; 1 for images that are scaled already.

    Raises:
        DataError: If images of the two splits differ in shape, or a number is not as above.
    """

    name: str
    train: Split
    test: Split
    num_classes: int
    divide_by: float
    in_memory = True

    def __post_init__(self) -> None:
        # By plain numbers the digest is the same, whatever kind they were given as.
        object.__setattr__(self, "num_classes", as_count(self.num_classes, "num_classes"))
        object.__setattr__(self, "divide_by", as_divisor(self.divide_by))
        for name, rows in (("train", self.train), ("test", self.test)):
            if not isinstance(rows, Split):
                kind = type(rows).__name__
                raise DataError(f"{self.name}: {name} is {kind}, expected a Split, such as as_stored(images, labels)")
            object.__setattr__(self, name, _by_index(rows))
        shapes = [tuple(rows.images.shape[1:]) for rows in (self.train, self.test)]
        if shapes[0] != shapes[1]:
            raise DataError(f"{self.name}: images of train are {shapes[0]}, those of test {shapes[1]}")
        if self.divide_by < 1 and torch.uint8 in (self.train.images.dtype, self.test.images.dtype):
            raise DataError(
                f"{self.name}: divide_by is {self.divide_by:.3g}, but pixel values are divided by it; give 255 for "
                "bytes, not 1/255"
            )

    @property
    def preprocessing(self) -> Mapping[str, Any]:
        """As in `Dataset`; floats say nothing, for they may have been divided before they were stored."""
        return {} if self.train.images.is_floating_point() else {"divide_by": self.divide_by}

    def labels(self, split: SplitName) -> Tensor:
        """As in `Dataset`."""
        return self._rows(split).labels_on_cpu

    def original_index(self, split: SplitName) -> Tensor:
        """As in `Dataset`."""
        return self._rows(split).original_index

    def file_names(self, split: SplitName) -> None:
        """As in `Dataset`: None."""
        check_split(split)

    def to(self, device: str | torch.device) -> "ArrayDataset":
        """As in `Dataset`."""
        device = any_device(device)
        moved = replace(self, train=self.train.to(device), test=self.test.to(device))
        vars(moved).update({name: value for name, value in vars(self).items() if name == "_digest"})
        return moved

    def batches(self, split: SplitName, batch_size: int, device: str | torch.device = "cpu") -> Iterator[Batch]:
        """As in `Dataset`; the images are moved as they are stored, as a whole, and divided on the device."""
        return _batches(self._rows(split).to(any_device(device)), as_batch_size(batch_size), self.divide_by)

    def training_batches(self, augmentation: str, device: str | torch.device) -> BatchesOf:
        """As in `Dataset`, for `none` and `crop-flip`; the images move to the device as a whole."""
        if augmentation not in ("none", "crop-flip"):
            raise DataError(f"data set {self.name!r} cannot be trained on with augmentation {augmentation!r}")
        device = any_device(device)
        rows, whole = self.train.to(device), torch.arange(len(self.train.index), device="cpu")
        if not torch.equal(rows.index.cpu(), whole):
            raise DataError(f"{self.name}: some of the training images are missing, and new runs need all of them")

        def batches_of(runs: Sequence[int], steps: Iterable[Step]) -> Generator[tuple[Tensor, Tensor]]:
            for index, draws in _uploaded(runs, steps, augmentation == "crop-flip", device):
                images = rows.images[index]  # (runs, b, c, h, w)
                if draws is not None:
                    images = crop_flip(images.flatten(0, 1), draws.flatten(1)).reshape(images.shape)
                yield scaled(images, self.divide_by), rows.labels[index]

        return batches_of

    def image(self, split: SplitName, index: int) -> Tensor:
        """As in `Dataset`."""
        return scaled(self._pixels(split, index), self.divide_by)

    def picture(self, split: SplitName, index: int) -> np.ndarray:
        """As in `Dataset`; what is divided to 0 becomes black, what is divided to 1 white."""
        bright = self._pixels(split, index).numpy() * (255 / self.divide_by)
        return np.rint(bright).clip(0, 255).astype(np.uint8)

    def split(self, name: SplitName) -> Examples:
        """As in `Dataset`."""
        return Examples(self, name)

    def digest(self) -> str:
        """As in `Dataset`."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        found = hashlib.sha256(f"{self.num_classes} {self.divide_by!r}".encode())
        for rows in (self.train, self.test):
            found.update(f" {rows.images.dtype} {tuple(rows.images.shape)}".encode())
            for tensor in (rows.images, rows.labels, rows.index):
                found.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)  # bfloat16, too
        return found.hexdigest()

    def _rows(self, split: SplitName) -> Split:
        rows = self.train if check_split(split) == "train" else self.test
        if not len(rows.labels):
            raise DataError(f"{self.name}: has no images of {split}; give both splits, as (train, test)")
        return rows

    def _pixels(self, split: SplitName, index: int) -> Tensor:
        rows, index = self._rows(split), as_index(index)
        if (row := rows.row_of.get(index)) is None:
            raise DataError(f"{self.name}: has no image of example {index} of {split}")
        return rows.images[row].detach().cpu()

    _repr_html_ = as_code

    def __repr__(self) -> str:
        sizes = f"{len(self.train.labels):,} training and {len(self.test.labels):,} test images"
        return f"<{self.name}: {sizes} {tuple(self.train.images.shape[1:])}, {counted(self.num_classes, 'class')}>"


def scaled(images: Tensor, divide_by: float) -> Tensor:
    """Divide images; return float32 of the same shape on the same device, equal on every device."""
    # By a plain number, a GPU would multiply with its reciprocal, which rounds otherwise. `full` writes the divisor
    # on the device itself: a copy from the host would wait for all that the device has still to do.
    divisor = torch.full((), divide_by, dtype=torch.float32, device=images.device)
    return images / divisor if images.dtype == torch.float32 else images.float().div_(divisor)


def as_stored(images: Tensor | np.ndarray, labels: Tensor | np.ndarray | Sequence[int]) -> Split:
    """Make a split of a data set with published indices that equal the positions in its own files.

    Args:
        images: As in `Split`.
        labels: As in `Split`.

    Raises:
        DataError: If they are not images and labels of each other.
    """
    rows, classes = as_tensor(images), as_tensor(labels)
    check_rows(rows, classes)
    places = torch.arange(len(classes), device="cpu")
    return Split(rows, classes.long(), index=places, original_index=places)


def _by_index(rows: Split) -> Split:
    """Return a split with its rows in ascending order of published index; itself if they are."""
    order = rows.index.cpu().argsort(stable=True)
    if torch.equal(order, torch.arange(len(order), device="cpu")):
        return rows
    return Split(*(part[order] for part in (rows.images, rows.labels, rows.index, rows.original_index)))


def _batches(rows: Split, batch_size: int, divide_by: float) -> Iterator[Batch]:
    for start in range(0, len(rows.labels), batch_size):
        part = slice(start, start + batch_size)
        yield Batch(rows.index[part], scaled(rows.images[part], divide_by), rows.labels[part])


def _uploaded(
    runs: Sequence[int], steps: Iterable[Step], crop: bool, device: str | torch.device
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield each step's indices (runs, b) and draws (3, runs, b) on the device, sent there for many steps at once."""
    on_cuda = torch.device(device).type == "cuda"
    for group in _groups(steps):
        sizes = [index.shape[1] for _, index in group]
        wanted = [torch.cat([index for _, index in group], dim=1)[None]]  # (1, runs, b of all steps)
        if crop:
            draws = [np.stack([draw_crop_flip(index.shape[1], run, step) for run in runs], 1) for step, index in group]
            wanted.append(torch.from_numpy(np.concatenate(draws, 2)))  # (3, runs, b of all steps)
        here = torch.cat(wanted)
        # From pinned memory, or the host would wait for all steps before.
        there = here.pin_memory().to(device, non_blocking=True) if on_cuda else here.to(device)
        for part in torch.split(there, sizes, dim=2):  # (1 or 4, runs, b)
            yield part[0], part[1:] if crop else None


def _groups(steps: Iterable[Step]) -> Iterator[list[Step]]:
    group: list[Step] = []
    for step in steps:
        group.append(step)
        if sum(index.numel() for _, index in group) >= DRAWS_AT_ONCE:
            yield group
            group = []
    if group:
        yield group
