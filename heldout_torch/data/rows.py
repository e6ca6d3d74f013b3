"""Checks of the images, labels and sizes that a data set is made of."""

import math
from typing import Any

import numpy as np
import torch

from heldout_torch.errors import DataError


def check_images(images: Any, kinds: str = "uint8 or floats") -> None:
    """Check that images are a tensor (n, c, h, w) of numbers that lie in memory; `kinds` is what errors expect of them.

    Raises:
        DataError: If they are something else, or have their channels last.
    """
    if not isinstance(images, torch.Tensor) or images.ndim != 4 or images.dtype == torch.bool or (
        images.is_complex() or images.layout != torch.strided or images.is_meta
    ):  # fmt: skip
        hints = {3: "; one image: images[None]", 2: "; rows of features: [:, None, None]"}
        one = hints.get(images.ndim, "") if isinstance(images, torch.Tensor) else ""
        raise DataError(f"images are {_described(images)}, expected a tensor of {kinds} (n, c, h, w){one}")
    n, *shape = images.shape
    if shape[0] > 4 and shape[1] > 4 >= shape[2] > 0:
        raise DataError(f"images are {tuple(images.shape)}, channels last; expected {(n, shape[2], *shape[:2])}")


def check_rows(images: Any, labels: Any, *indices: Any) -> None:
    """Check that images (n, c, h, w) and labels (n,) are tensors of each other, and so are indices (n,).

    Raises:
        DataError: If they are something else, or the images have their channels last.
    """
    check_images(images)
    n = len(images)
    for rows in (labels, *indices):
        if not isinstance(rows, torch.Tensor) or rows.dtype.is_floating_point or rows.dtype == torch.bool or (
            rows.shape != (n,)
        ):  # fmt: skip
            what, each = ("labels", "the class of") if rows is labels else ("indices", "one for")
            raise DataError(f"{what} are {_described(rows)}, expected a tensor of {n} integers, {each} each image")


def as_divisor(number: Any) -> float:
    """Return what pixel values are divided by.

    Raises:
        DataError: If it is not a finite number above 0.
    """
    try:
        divisor = math.nan if isinstance(number, bool | str) else float(number)
    except (TypeError, ValueError):
        divisor = math.nan
    if not 0 < divisor < math.inf:
        raise DataError(f"divide_by is {number!r}, expected a number above 0, such as 255 for bytes")
    return divisor


def _described(rows: Any) -> str:
    if not isinstance(rows, torch.Tensor):
        return type(rows).__name__
    kind = "tensor without data" if rows.is_meta else "sparse tensor" if rows.layout != torch.strided else "tensor"
    return f"a {kind} of {str(rows.dtype).removeprefix('torch.')} {tuple(rows.shape)}"


def as_tensor(rows: Any) -> Any:
    """Return an array, or a list of numbers or tensors, as a tensor of its own memory; anything else as it is.

    Arrays that hide values are left as they are, too: what is hidden would be taken for pixels or labels.
    """
    if not isinstance(rows, np.ndarray | list | tuple) or np.ma.is_masked(rows):
        return rows
    try:
        array = np.array(rows)
        # Not torch.as_tensor, which would take them to a default device, and PyTorch knows one byte order.
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
    except (TypeError, ValueError, RuntimeError):
        return rows
