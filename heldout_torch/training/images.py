"""Batches of training images by published index, on a device."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from heldout_torch.data import ArrayDataset, Dataset
from heldout_torch.errors import HeldoutError
from heldout_torch.training.augment import crop_flip

# (indices (runs, b), numbers of the runs, number of the step) -> images float32 (runs, b, c, h, w), labels (runs, b)
ImagesOf = Callable[[Tensor, Sequence[int], int], tuple[Tensor, Tensor]]


def training_images(dataset: Dataset, augmentation: str, device: str | torch.device) -> ImagesOf:
    """Give the function that training asks for its batches; a small data set moves to the device whole, as uint8.

    Raises:
        HeldoutError: If the data set cannot be augmented in this way.
    """
    if not isinstance(dataset, ArrayDataset) or augmentation == "resized-crop-flip":
        raise HeldoutError(f"data set {dataset.name!r} cannot be trained on with augmentation {augmentation!r}")
    rows = dataset.train.to(device)

    def images_of(index: Tensor, runs: Sequence[int], step: int) -> tuple[Tensor, Tensor]:
        index = index.to(device)
        images = rows.images[index]  # (runs, b, c, h, w)
        if augmentation == "crop-flip":
            images = torch.stack([crop_flip(part, run, step) for part, run in zip(images, runs, strict=True)])
        return images.float().div_(dataset.divide_by), rows.labels[index]

    return images_of
