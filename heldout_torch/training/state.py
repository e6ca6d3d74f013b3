"""The state of a long training, saved in the zoo so that an interrupted one goes on, on whatever machine."""

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from heldout_torch.errors import HeldoutError
from heldout_torch.storage.urls import read_file, remove_file, write_file

_STEP = "step"


def save_state(location: str, tensors: dict[str, Tensor], step: int) -> None:
    """Save a state, whole or not at all.

    Args:
        location: Path or URL of the file.
        tensors: What the networks and their optimizer remember; none is called `step`.
        step: How many steps were made.

    Raises:
        ZooError: If it cannot be written.
    """
    write_file(location, save({**tensors, _STEP: torch.tensor(step)}))


def load_state(location: str) -> tuple[dict[str, Tensor], int] | None:
    """Give what `save_state` saved, tensors on the CPU; None if there is nothing.

    Raises:
        HeldoutError: If the file cannot be read, or holds no state.
    """
    try:
        tensors = load(read_file(location))
        return tensors, int(tensors.pop(_STEP))
    except FileNotFoundError:
        return None
    except (SafetensorError, KeyError) as error:
        raise HeldoutError(f"{location}: is no readable state of a training ({error}); remove it") from None


def remove_state(location: str) -> None:
    """Remove a state, if there is one.

    Raises:
        ZooError: If it cannot be removed.
    """
    remove_file(location)
