"""The resize of `heldout_torch.data.resize` as PyTorch operations, for a GPU: many crops of any sizes at once.

Each operation rounds by itself, as TensorFlow's do, so the float32 numbers are the very same. Divisors are tensors on
the device: by a plain number a GPU would multiply with its reciprocal, which rounds otherwise.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from heldout_torch.data.transforms import IMAGE_SIZE, MEAN, STD

_TO_UNIT = float(np.float32(1 / 255))
_AT_ONCE = 32  # crops; for each, places of samples take 1.2 MB, four times


def resize_crops(crops: Sequence[np.ndarray], device: torch.device) -> Tensor:
    """Scale, resize and normalise decoded crops on a device.

    Args:
        crops: uint8 of shapes (h, w, 3).
        device: Where to.

    Returns:
        float32 of shape (b, 3, 224, 224), equal to `heldout_torch.data.resize.resize_and_normalise` of each crop.
    """
    pinned = device.type == "cuda"
    sizes = torch.tensor([crop.shape[:2] for crop in crops], device="cpu")  # (b, 2)
    ends = sizes.prod(1).mul(3).cumsum(0)  # (b,)
    # All crops, one after the other.
    pixels = torch.empty(int(ends[-1]), dtype=torch.uint8, device="cpu", pin_memory=pinned)
    for crop, end in zip(crops, ends.tolist(), strict=True):
        np.copyto(pixels[end - crop.size : end].numpy().reshape(crop.shape), crop)
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    normal = torch.tensor([MEAN, STD], dtype=torch.float32, device="cpu")[:, :, None, None]  # (2, 3, 1, 1)
    pixels, starts, sizes, normal = (one.to(device, non_blocking=True) for one in (pixels, starts, sizes, normal))
    parts = zip(torch.split(starts, _AT_ONCE), torch.split(sizes, _AT_ONCE), strict=True)
    return torch.cat([_resize(pixels, start, *size.unbind(1), *normal) for start, size in parts])


def _resize(pixels: Tensor, start: Tensor, height: Tensor, width: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Resize crops that begin at `start` (b,) in `pixels`, of `height` (b,) and `width` (b,), in pixels.

    They are normalised by `mean` and `std`, each (3, 1, 1).
    """
    top, bottom, down = _positions(height)  # each (b, 224)
    left, right, across = _positions(width)
    channel = torch.arange(3, device=pixels.device)[:, None, None]

    def sample(row: Tensor, column: Tensor) -> Tensor:
        first = start[:, None] + 3 * width[:, None] * row  # (b, 224)
        place = first[:, None, :, None] + (3 * column)[:, None, None, :] + channel  # (b, 3, 224, 224)
        return torch.take(pixels, place).float() * _TO_UNIT

    def blend(before: Tensor, after: Tensor, weight: Tensor) -> Tensor:
        return before + (after - before) * weight

    across, down = across[:, None, None, :], down[:, None, :, None]
    above = blend(sample(top, left), sample(top, right), across)
    below = blend(sample(bottom, left), sample(bottom, right), across)
    return (blend(above, below, down) - mean) / std


def _positions(source: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return between which two of `source` (b,) samples each of 224 lies, and where: half-pixel centres, (b, 224)."""
    scale = source.float() / torch.full_like(source, IMAGE_SIZE).float()  # (b,)
    place = torch.arange(IMAGE_SIZE, dtype=torch.float32, device=source.device)
    position = (place + 0.5) * scale[:, None] - 0.5
    below = position.floor()
    lower, upper = below.long().clamp(min=0), position.ceil().long().minimum(source[:, None] - 1)
    return lower, upper, position - below
