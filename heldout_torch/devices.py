"""Devices by their names."""

from typing import TYPE_CHECKING

from heldout_torch.errors import DeviceError, nearest

if TYPE_CHECKING:
    import torch

KINDS = ("cpu", "cuda")


def find_device(device: "str | torch.device") -> "torch.device":
    """Return a device that can be computed on, the CPU or a CUDA device.

    Raises:
        DeviceError: If there is no device of that name, it cannot be used here, or is of another kind.
    """
    found = any_device(device)
    if found.type not in KINDS:
        raise DeviceError(f"device {str(device)!r} cannot be used here (expected 'cpu' or a CUDA device)")
    return found


def any_device(device: "str | torch.device") -> "torch.device":
    """Return a device that tensors can lie on, of any kind that PyTorch has here.

    Raises:
        DeviceError: If there is no device of that name, or it cannot be used here.
    """
    import torch

    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, TypeError, ImportError) as error:
        why = "it names no device" if isinstance(error, TypeError) else str(error).strip().split("\n", 1)[0]
        name = str(device).partition(":")[0]
        near = "" if name in KINDS else nearest(name, KINDS)
        raise DeviceError(f"device {str(device)!r} cannot be used here ({why}){near}") from None
    return found
