"""Find devices by name: the CPU, and the accelerators that PyTorch has on this machine, such as CUDA.

Tests cover CUDA. Others are not forbidden, but what they compute has not been seen.
"""

from collections.abc import Sequence
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


def find_devices(devices: "Sequence[str | torch.device]") -> "list[torch.device]":
    """Return devices that share some work; the CPU may be there several times, for as many processes.

    Raises:
        DeviceError: As `find_device`, or if none is given, or an accelerator twice.
    """
    found = [find_device(device) for device in devices]
    if not found:
        raise DeviceError("no device is given, expected at least one, such as 'cpu'")
    places = [(device.type, device.index or 0) for device in found if device.type != "cpu"]
    if twice := next((f"{kind}:{number}" for kind, number in places if places.count((kind, number)) > 1), None):
        raise DeviceError(f"device {twice!r} is given twice, expected each once ('cuda' is 'cuda:0')")
    return found


def any_device(device: "str | torch.device") -> "torch.device":
    """Return a device that tensors can lie on, of any kind that PyTorch has here.

    Raises:
        DeviceError: If there is no device of that name, or it cannot be used here.
    """
    import torch

    said = f"device {str(device)!r} cannot be used here"
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):  # whose words name all kinds that there are anywhere
        name, known = str(device).partition(":")[0], {"cuda", *_kinds()}
        meant = "" if name in known else nearest("cuda" if name.lower() == "gpu" else name, known)
        raise DeviceError(f"{said} (it names no device){meant}") from None
    count = torch.accelerator.device_count() if found.type in _kinds()[1:] else 0
    if count and (found.index or 0) >= count:
        raise DeviceError(f"{said} (there are {', '.join(f'{found.type}:{number}' for number in range(count))})")
    try:
        torch.empty(0, device=found)
    except NotImplementedError:  # whose words name all that PyTorch can do
        raise DeviceError(f"{said} (this PyTorch lacks it)") from None
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise DeviceError(f"{said} ({reason})") from None
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
    """List what can be computed on here: the CPU, and the kind of accelerator that there is."""
    import torch

    found = torch.accelerator.current_accelerator(check_available=True)
    return ["cpu", found.type] if found else ["cpu"]
