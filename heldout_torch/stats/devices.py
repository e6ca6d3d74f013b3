"""Devices by their names."""

from typing import TYPE_CHECKING

from heldout_torch.errors import HeldoutError, nearest

if TYPE_CHECKING:
    import torch

KINDS = ("cpu", "cuda")


def find_device(device: "str | torch.device") -> "torch.device":
    """Return a device that can be computed on, the CPU or a CUDA device.

    Raises:
        HeldoutError: If there is no device of that name, it cannot be used here, or is of another kind.
    """
    import torch

    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, TypeError) as error:
        why = "it names no device" if isinstance(error, TypeError) else str(error).strip().split("\n", 1)[0]
        name = str(device).partition(":")[0]
        near = "" if name in KINDS else nearest(name, KINDS)
        raise HeldoutError(f"device {str(device)!r} cannot be used here ({why}){near}") from None
    if found.type not in KINDS:
        raise HeldoutError(f"device {str(device)!r} cannot be used here (expected 'cpu' or a CUDA device)")
    return found
