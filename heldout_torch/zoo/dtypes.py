"""Models stored in 16 bits: which weights are rounded, and the names of the dtypes."""

from collections.abc import Mapping

import torch
from torch import Tensor

from heldout_torch.errors import ZooError

DTYPES = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}  # what a model may be stored in; float32 is without name
_WIDE = torch.float32


def halved(state: Mapping[str, Tensor], dtype: str) -> dict[str, Tensor]:
    """Return a network's tensors with its weights rounded to 16 bits.

    Batch norm stays as it is, and so does a tensor of which a value overflows or becomes 0 in the dtype.

    Args:
        state: State dict, float32.
        dtype: A name of `DTYPES`.
    """
    # A batch norm is a module with a running mean; its other tensors have the same prefix.
    norms = {name.removesuffix("running_mean") for name in state if name.endswith("running_mean")}
    rounded = {}
    for name, tensor in state.items():
        half = tensor.to(DTYPES[dtype])
        is_norm = name[: name.rfind(".") + 1] in norms
        rounded[name] = tensor if tensor.dtype != _WIDE or is_norm or _is_lost(tensor, half) else half
    return rounded


def widened(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a network's tensors as float32, where they are stored in 16 bits."""
    narrow = tuple(DTYPES.values())
    return {name: tensor.to(_WIDE) if tensor.dtype in narrow else tensor for name, tensor in state.items()}


def check_dtype(dtype: object, where: str) -> None:
    """Check a name of a dtype that a file gives, None for float32.

    Raises:
        ZooError: If it is not known.
    """
    if dtype is not None and dtype not in DTYPES:
        raise ZooError(f"{where}: is stored as {dtype!r:.100}, this package reads {', '.join(DTYPES)} and float32")


def named(dtype: str | None) -> str:
    """Return the name of a dtype for messages."""
    return dtype or "float32"


def _is_lost(tensor: Tensor, half: Tensor) -> bool:
    """Return whether a finite value overflows, or one that is not 0 becomes 0."""
    return bool(((tensor != 0) & (half == 0)).any() or (tensor.isfinite() & ~half.isfinite()).any())
