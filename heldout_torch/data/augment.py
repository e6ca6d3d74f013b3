"""Random changes of training images, the same for a run and a step on every device."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_PAD = 4


def draw_crop_flip(count: int, run: int, step: int) -> np.ndarray:
    """Draw what `crop_flip` does to each image of a run's batch.

    Args:
        count: Number of images, b.
        run: Number of the run.
        step: Number of the step; with the run it seeds the draws.

    Returns:
        int64 of shape (3, b): top and left of the crop in the padded image, 0 ... 7, and 1 for a flipped image.
    """
    random = np.random.default_rng([run, step])
    return np.concatenate([random.integers(0, 2 * _PAD, (2, count)), random.integers(0, 2, (1, count))])


def crop_flip(images: Tensor, draws: Tensor) -> Tensor:
    """Pad with 4 zeros, crop, flip half of the images from left to right: CIFAR's augmentation.

    Args:
        images: Of shape (b, c, h, w).
        draws: What `draw_crop_flip` drew, int64 of shape (3, b), on the device of the images.

    Returns:
        Changed images of the same shape and dtype.
    """
    count, _, height, width = images.shape
    top, left, flip = draws[:, :, None].unbind()  # each (b, 1)
    across = torch.arange(width, device=images.device)
    rows = top + torch.arange(height, device=images.device)  # (b, h)
    columns = left + torch.where(flip.bool(), width - 1 - across, across)  # (b, w)
    padded = F.pad(images, (_PAD, _PAD, _PAD, _PAD)).permute(0, 2, 3, 1)  # (b, h + 8, w + 8, c)
    example = torch.arange(count, device=images.device)[:, None, None]
    return padded[example, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)  # (b, c, h, w)


def random_box(height: int, width: int, random: np.random.Generator) -> tuple[int, int, int, int]:
    """Draw a part of an image, 0.08 ... 1 of its area and of aspect 3/4 ... 4/3: ImageNet's augmentation.

    After Szegedy et al., "Going Deeper with Convolutions" (CVPR 2015).

    Returns:
        Top, left, height and width in pixels; the whole image if ten draws do not fit into it.
    """
    for _ in range(10):
        area = height * width * random.uniform(0.08, 1)
        aspect = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        rows, columns = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 2 <= rows <= height and 2 <= columns <= width:
            return int(random.integers(height - rows + 1)), int(random.integers(width - columns + 1)), rows, columns
    return 0, 0, height, width
