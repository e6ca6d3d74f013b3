"""Batches of training images by published index, on a device."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from heldout_torch.data import ArrayDataset, Dataset
from heldout_torch.errors import HeldoutError
from heldout_torch.training.augment import crop_flip, random_box

# (indices (runs, b), numbers of the runs, number of the step) -> images float32 (runs, b, c, h, w), labels (runs, b)
ImagesOf = Callable[[Tensor, Sequence[int], int], tuple[Tensor, Tensor]]


def training_images(dataset: Dataset, augmentation: str, device: str | torch.device) -> ImagesOf:
    """Give the function that training asks for its batches.

    A small data set moves to the device whole, as uint8; ImageNet is read and decoded batch by batch.

    Raises:
        HeldoutError: If the data set cannot be augmented in this way.
    """
    if isinstance(dataset, ArrayDataset) and augmentation in ("none", "crop-flip"):
        return _resident(dataset, augmentation, device)
    if dataset.name == "imagenet" and augmentation == "resized-crop-flip":
        return _streamed(dataset, device)
    raise HeldoutError(f"data set {dataset.name!r} cannot be trained on with augmentation {augmentation!r}")


def _resident(dataset: ArrayDataset, augmentation: str, device: str | torch.device) -> ImagesOf:
    rows = dataset.train.to(device)

    def images_of(index: Tensor, runs: Sequence[int], step: int) -> tuple[Tensor, Tensor]:
        index = index.to(device)
        images = rows.images[index]  # (runs, b, c, h, w)
        if augmentation == "crop-flip":
            images = torch.stack([crop_flip(part, run, step) for part, run in zip(images, runs, strict=True)])
        return images.float().div_(dataset.divide_by), rows.labels[index]

    return images_of


def _streamed(dataset: Dataset, device: str | torch.device) -> ImagesOf:
    from heldout_torch.data.imagenet import ImageNet
    from heldout_torch.data.jpeg import decode_crop
    from heldout_torch.data.transforms import preprocess_crop

    assert isinstance(dataset, ImageNet)
    labels, paths = dataset.labels("train"), dataset.paths("train")

    def load(place: int, index: int, run: int, step: int) -> Tensor:
        random = np.random.default_rng([run, step, place])
        crop = decode_crop(Path(paths[index]).read_bytes(), lambda h, w: random_box(h, w, random), paths[index])
        return preprocess_crop(crop[:, ::-1] if random.integers(2) else crop)  # (3, 224, 224)

    def images_of(index: Tensor, runs: Sequence[int], step: int) -> tuple[Tensor, Tensor]:
        with ThreadPoolExecutor(dataset.workers, "decode") as pool:
            parts = [
                torch.stack(list(pool.map(lambda item: load(item[0], item[1], run, step), enumerate(row.tolist()))))  # noqa: B023
                for row, run in zip(index, runs, strict=True)
            ]
        return torch.stack(parts).to(device), labels[index].to(device)

    return images_of
