"""Batches of training images by published index, on a device."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from heldout_torch.data import ArrayDataset, Dataset
from heldout_torch.data.dataset import scaled
from heldout_torch.errors import HeldoutError
from heldout_torch.training.augment import crop_flip, random_box

Step = tuple[int, Tensor]  # its number, and the indices (runs, b) of the examples that each run sees in it
# (numbers of the runs, steps) -> for each step images float32 (runs, b, c, h, w) and labels (runs, b)
BatchesOf = Callable[[Sequence[int], Iterable[Step]], Generator[tuple[Tensor, Tensor]]]


def training_batches(dataset: Dataset, augmentation: str, device: str | torch.device) -> BatchesOf:
    """Give the function that training asks for its batches.

    A small data set moves to the device whole, as uint8. ImageNet is read and decoded by threads, some steps ahead.

    Raises:
        HeldoutError: If the data set cannot be augmented in this way.
    """
    if isinstance(dataset, ArrayDataset) and augmentation in ("none", "crop-flip"):
        return _resident(dataset, augmentation, device)
    if dataset.name == "imagenet" and augmentation == "resized-crop-flip":
        return _streamed(dataset, device)
    raise HeldoutError(f"data set {dataset.name!r} cannot be trained on with augmentation {augmentation!r}")


def _resident(dataset: ArrayDataset, augmentation: str, device: str | torch.device) -> BatchesOf:
    rows = dataset.train.to(device)

    def batches_of(runs: Sequence[int], steps: Iterable[Step]) -> Generator[tuple[Tensor, Tensor]]:
        for step, index in steps:
            there = index.to(device)
            images = rows.images[there]  # (runs, b, c, h, w)
            if augmentation == "crop-flip":
                images = torch.stack([crop_flip(part, run, step) for part, run in zip(images, runs, strict=True)])
            yield scaled(images, dataset.divide_by), rows.labels[there]

    return batches_of


def _streamed(dataset: Dataset, device: str | torch.device) -> BatchesOf:
    from heldout_torch.data.imagenet import ImageNet
    from heldout_torch.data.views import View, load_views

    assert isinstance(dataset, ImageNet)
    labels, paths = dataset.labels("train").to(device), dataset.paths("train")

    def view(index: int, run: int, step: int, place: int) -> View:
        random = np.random.default_rng([run, step, place])
        flip = bool(random.integers(2))
        return View(paths[index], lambda height, width: random_box(height, width, random), flip)

    def batches_of(runs: Sequence[int], steps: Iterable[Step]) -> Generator[tuple[Tensor, Tensor]]:
        asked: list[Tensor] = []  # indices of the steps whose images are on their way

        def views() -> Iterator[list[View]]:
            for step, index in steps:
                asked.append(index)
                yield [
                    view(example, run, step, place)
                    for row, run in zip(index.tolist(), runs, strict=True)
                    for place, example in enumerate(row)
                ]

        for images in load_views(views(), device, dataset.workers):
            index = asked.pop(0)
            yield images.reshape(*index.shape, *images.shape[1:]), labels[index.to(device)]

    return batches_of
