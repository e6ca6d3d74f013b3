"""The devices of this machine, and what is known of them when they fail."""

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from heldout_torch.errors import DeviceError, one_line

_turns: dict[tuple[str, int], threading.RLock] = defaultdict(threading.RLock)
_FAULTS = ("CUDA error", "cuDNN error", "HIP error", "[enforce fail at alloc_cpu.cpp")
_NO_MEMORY = ("out of memory", "ALLOC_FAILED", "can't allocate memory")


def tasks_at_once(device: str | torch.device) -> int:
    """Return how many tasks a process does at once on a device: on a GPU one more than compute."""
    return 1 if torch.device(device).type == "cpu" else 2


def turn_on(device: str | torch.device) -> AbstractContextManager[object]:
    """Return the block in which a thread has a GPU to itself, among those of this process; all threads share a CPU.

    What computes there runs in such a block, as its settings are the process's and its memory is one task's; what reads
    or writes files does not, and so is done beside it.
    """
    place = torch.device(device)
    return nullcontext() if place.type == "cpu" else _turns[place.type, place.index or 0]


def is_device_fault(error: Exception) -> bool:
    """Return whether an error is the device's, or its memory's, and not that of what was computed."""
    kinds = torch.OutOfMemoryError, torch.AcceleratorError
    return isinstance(error, kinds) or (isinstance(error, RuntimeError) and str(error).startswith(_FAULTS))


def lacks_memory(error: Exception) -> bool:
    """Return whether a device has too little memory, as PyTorch says it, or a library that asked for some by itself."""
    asked = is_device_fault(error) and any(words in str(error) for words in _NO_MEMORY)
    return asked or isinstance(error, torch.OutOfMemoryError)


@contextmanager
def device_errors(device: str | torch.device, short_of_memory: str = "") -> Iterator[None]:
    """Raise what the device does wrong while the block runs as a DeviceError, in one line.

    Args:
        device: The device.
        short_of_memory: The end of the line where memory is what it lacks.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_device_fault(error):
            raise
        hint = short_of_memory if lacks_memory(error) else ""
        raise DeviceError(f"{device} failed ({one_line(error)}){hint}") from None
