"""The state of a long training, saved in the zoo so that an interrupted one goes on, on whatever machine.

The file's name says which training it is of. One that is damaged, or does not fit its name, is never gone on from.
"""

from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from heldout_torch.errors import warn
from heldout_torch.storage.urls import read_range, write_file

_STEP = "step"
_LARGEST_HEADER = 1 << 20  # bytes; a state names a few hundred tensors


def save_state(location: str, tensors: Mapping[str, Tensor], step: int) -> None:
    """Save a state, whole or not at all.

    Args:
        location: Path or URL of the file.
        tensors: What the networks and their optimizer remember; none is called `step`.
        step: How many steps were made.

    Raises:
        ZooError: If it cannot be written.
    """
    saved = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    write_file(location, save({**saved, _STEP: torch.tensor(step, device="cpu")}))


def load_state(location: str, like: Mapping[str, Tensor], steps: int) -> tuple[dict[str, Tensor], int] | None:
    """Load what `save_state` saved.

    Args:
        location: Path or URL of the file.
        like: What was saved, by shape and dtype.
        steps: All steps of the training.

    Returns:
        The tensors, on the CPU and finite, and the steps made, 1 ... `steps`. None if there is no file; or, with a
        warning, if it holds something else: training begins anew, and writes over it.

    Raises:
        ZooError: If the file cannot be read.
    """
    size = sum(tensor.numel() * tensor.element_size() for tensor in like.values()) + _LARGEST_HEADER
    try:
        data = read_range(location, 0, size + 1, whole_size=size)
    except FileNotFoundError:
        return None
    try:
        if len(data) > size:
            raise ValueError("larger than it can be")
        tensors = load(data)
        step = tensors.pop(_STEP, torch.tensor([], device="cpu"))
        _check(tensors, step, like, steps)
    except (SafetensorError, ValueError) as error:
        warn(f"{location}: is not a state of this training ({error}); training starts from the beginning", stacklevel=2)
        return None
    return tensors, int(step)


def _check(tensors: dict[str, Tensor], step: Tensor, like: Mapping[str, Tensor], steps: int) -> None:
    if step.dtype != torch.int64 or step.shape != () or not 0 < int(step) <= steps:
        raise ValueError(f"its step is {step.tolist()}, expected 1 ... {steps}")
    if different := sorted(tensors.keys() ^ like.keys()):
        raise ValueError(f"tensor {different[0]!r} is missing or unknown")
    for name, tensor in tensors.items():
        expected = like[name]
        if (tensor.dtype, tensor.shape) != (expected.dtype, expected.shape):
            raise ValueError(
                f"{name} is {tensor.dtype} {tuple(tensor.shape)}, expected {expected.dtype} {tuple(expected.shape)}"
            )
        if not tensor.isfinite().all():
            raise ValueError(f"{name} holds what is not a finite number")
