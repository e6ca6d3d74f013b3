"""How the experiments preprocess images, as constants and as functions.

CIFAR and MNIST: pixel values are only divided by 255 (`unit_range`). ImageNet (`imagenet_transform`,
`load_imagenet_image`): the central square of 7/8 of the shorter side, scaled to [0, 1], resized to 224 x 224 bilinearly
without antialiasing, minus `MEAN`, divided by `STD`, all in float32 and without rounding to bytes after the resize.
"""

import os
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from heldout_torch.data.arrays import scaled
from heldout_torch.errors import DataError, os_errors
from heldout_torch.lazy import lazy_module
from heldout_torch.storage.files import read_bounded
from heldout_torch.storage.paths import Location, local_path

if TYPE_CHECKING:
    from PIL import Image as pil_image  # noqa: N813
else:
    pil_image = lazy_module("PIL.Image")

IMAGE_SIZE = 224
CROP_FRACTION = 0.875  # 224 / 256
MEAN = (0.485, 0.456, 0.406)  # red, green, blue
STD = (0.229, 0.224, 0.225)


def unit_range(image: "pil_image.Image | torch.Tensor") -> torch.Tensor:
    """Scale an image to [0, 1], the evaluation transform of CIFAR and MNIST.

    Args:
        image: PIL image, or uint8 tensor of shape (..., c, h, w) on any device.

    Returns:
        float32 of shape (..., c, h, w), on the image's device.

    Raises:
        DataError: If the image is of another kind.
    """
    return DividedBy(255)(image)


def transform_of(preprocessing: Mapping[str, Any]) -> "Callable[[pil_image.Image | torch.Tensor], torch.Tensor]":
    """Return the evaluation transform that an experiment declares, `unit_range` or `imagenet_transform`.

    Args:
        preprocessing: The `preprocessing` of an experiment or a run: `divide_by`, and more for ImageNet.

    Returns:
        A function of a PIL image or uint8 tensor of shape (..., c, h, w), which gives float32.

    Raises:
        DataError: If `divide_by` is not a number above 0.
    """
    if "image_size" in preprocessing:
        return imagenet_transform
    divisor = preprocessing.get("divide_by", 1)
    if type(divisor) not in (int, float) or not 0 < divisor < 2**63:
        raise DataError(f"divide_by of the preprocessing is {reprlib.repr(divisor)}, expected a number above 0")
    return DividedBy(float(divisor))


@dataclass(frozen=True)
class DividedBy:
    """The transform that divides pixel values; it can be pickled, for workers of a DataLoader.

    Attributes:
        divisor: What they are divided by.
    """

    divisor: float

    def __call__(self, image: "pil_image.Image | torch.Tensor") -> torch.Tensor:
        """Divide an image, as `unit_range` does by 255."""
        pixels = _to_tensor(image)
        if self.divisor != 1 and pixels.dtype != torch.uint8:  # floats may have been divided already
            raise DataError(
                f"image is {pixels.dtype} {tuple(pixels.shape)}, expected a PIL image or a tensor of torch.uint8; "
                "images of a data set's split are scaled already: give them to the network as they are"
            )
        return scaled(pixels, self.divisor)


def imagenet_transform(image: "pil_image.Image | torch.Tensor") -> torch.Tensor:
    """Crop, scale, resize and normalise an image, the evaluation transform of ImageNet after decoding.

    A JPEG decoded by PIL or torchvision differs a little from one decoded by the published pipeline.
    `load_imagenet_image` decodes exactly as that pipeline did.

    Args:
        image: PIL image of mode RGB, or uint8 tensor of shape (3, h, w).

    Returns:
        float32 of shape (3, 224, 224), on the CPU.

    Raises:
        DataError: If the image is of another shape, or too small to crop.
    """
    pixels = _to_tensor(image)
    if pixels.dtype != torch.uint8 or pixels.ndim != 3 or len(pixels) != 3 or min(pixels.shape[1:]) < 2:
        raise DataError(f"image is {pixels.dtype} {tuple(pixels.shape)}, expected torch.uint8 (3, h, w) from 2 x 2")
    top, left, rows, columns = center_box(*pixels.shape[1:])
    crop = pixels[:, top : top + rows, left : left + columns].permute(1, 2, 0)
    return preprocess_crop(crop.cpu().numpy())


def load_imagenet_image(data: bytes | Location, name: str | None = None) -> torch.Tensor:
    """Decode and preprocess an ImageNet file exactly as the published pipeline did.

    Args:
        data: Contents of the file, or its path.
        name: Name used in errors; by default that of the file. If it is a name of the published index, such as
            `n01739381_1309.JPEG`, the 23 files that the published pipeline re-encoded are recognised.

    Returns:
        float32 of shape (3, 224, 224).

    Raises:
        DataError: If the file cannot be read, or the image is damaged, cut off, too small or of another kind.
    """
    from heldout_torch.data.jpeg import MAX_IMAGE, decode_crop
    from heldout_torch.data.reencoded import is_reencoded, reencode

    if isinstance(data, str | os.PathLike):
        path = local_path(data)
        with os_errors(DataError, f"{path}: cannot be read"):
            data, name = read_bounded(path, MAX_IMAGE), name or path.name
    name = name or "image"
    data = reencode(data, name) if is_reencoded(name) else data
    return preprocess_crop(decode_crop(data, center_box, name))


def center_box(height: int, width: int) -> tuple[int, int, int, int]:
    """Return top, left, height and width of the central square that the network sees, in pixels."""
    size = int(np.float32(CROP_FRACTION) * np.float32(min(height, width)))
    return (height - size + 1) // 2, (width - size + 1) // 2, size, size


def preprocess_crop(crop: np.ndarray, out: np.ndarray | None = None) -> torch.Tensor:
    """Scale, resize and normalise a decoded crop.

    Args:
        crop: uint8 of shape (h, w, 3).
        out: float32 of shape (3, 224, 224) to write into, if given.

    Returns:
        float32 of shape (3, 224, 224); shares memory with `out`.
    """
    from heldout_torch.data.resize import resize_and_normalise

    out = np.empty((3, IMAGE_SIZE, IMAGE_SIZE), np.float32) if out is None else out
    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)
    resize_and_normalise(np.ascontiguousarray(crop), mean, std, out)
    return torch.from_numpy(out)


def _to_tensor(image: "pil_image.Image | torch.Tensor") -> torch.Tensor:
    if isinstance(image, torch.Tensor):
        return image[None] if image.ndim == 2 else image
    mode = getattr(image, "mode", None)  # of a PIL image it is text
    if isinstance(mode, str) and mode not in ("L", "RGB"):  # values of mode P are places in a palette
        raise DataError(f"image is of PIL's mode {mode!r:.20}, expected L or RGB: image.convert('RGB')")
    try:
        array = np.array(image)  # (h, w) or (h, w, c)
    except (TypeError, ValueError, RuntimeError):  # such as a list of tensors, or examples of a data set
        array = np.array(None)
    if array.dtype.kind not in "uf" or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] > 4):
        shape = f" {array.shape}" if array.ndim else ""
        raise DataError(f"image is {type(image).__name__}{shape}, expected a PIL image or a tensor (c, h, w)")
    pixels = torch.from_numpy(array)
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
