"""The devices of this machine, and what is known of them when they fail."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from heldout_torch.errors import DeviceError

_FAULTS = ("CUDA error", "cuDNN error", "HIP error")


def all_devices() -> list[str]:
    """List the CUDA devices, or the CPU if there is none."""
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())] or ["cpu"]


def float64_device(device: torch.device) -> torch.device:
    """Return where float64 is computed for a device: there, or on the CPU if it has no float64."""
    return torch.device("cpu") if device.type == "mps" else device


def is_device_fault(error: Exception) -> bool:
    """Return whether an error is the device's, or its memory's, and not that of what was computed."""
    kinds = torch.OutOfMemoryError, torch.AcceleratorError
    return isinstance(error, kinds) or (isinstance(error, RuntimeError) and str(error).startswith(_FAULTS))


@contextmanager
def device_errors(device: str | torch.device) -> Iterator[None]:
    """Raise what the device does wrong while the block runs as a DeviceError, in one line."""
    try:
        yield
    except RuntimeError as error:
        if not is_device_fault(error):
            raise
        raise DeviceError(f"{device} failed ({' '.join(str(error).split())})") from None
