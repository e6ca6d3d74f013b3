"""Devices by their names: the CPU, and the accelerator that PyTorch has on this machine, such as CUDA.

Tests cover CUDA. Others are not forbidden, but what they compute has not been seen.
"""

from typing import TYPE_CHECKING

from heldout_torch.errors import DeviceError, nearest

if TYPE_CHECKING:
    import torch

_WITH_FLOAT64 = ("cpu", "cuda")


def find_device(device: "str | torch.device") -> "torch.device":
    """Return a device that can be computed on, the CPU or an accelerator.

    Raises:
        DeviceError: If there is no device of that name, it cannot be used here, or is of another kind.
    """
    found = any_device(device)
    if found.type not in (kinds := _kinds()):
        raise DeviceError(f"device {str(device)!r} cannot be used here (expected {' or '.join(map(repr, kinds))})")
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
        if isinstance(error, NotImplementedError):  # whose words name all that PyTorch has
            why = "this PyTorch lacks it"
        name, known = str(device).partition(":")[0], {"cuda", *_kinds()}
        near = "" if name in known else nearest(name, known)
        raise DeviceError(f"device {str(device)!r} cannot be used here ({why}){near}") from None
    return found


def all_devices() -> list[str]:
    """List the CUDA devices, or the CPU if there is none; other accelerators are used only where they are named."""
    import torch

    return [f"cuda:{number}" for number in range(torch.cuda.device_count())] or ["cpu"]


def float64_device(device: "torch.device") -> "torch.device":
    """Return where float64 is computed for a device: there, or on the CPU where it may have none (MPS has none)."""
    import torch

    return device if device.type in _WITH_FLOAT64 else torch.device("cpu")


def _kinds() -> list[str]:
    import torch

    found = torch.accelerator.current_accelerator()
    return ["cpu", found.type] if found else ["cpu"]
