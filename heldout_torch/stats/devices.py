"""Devices by their names."""

from typing import TYPE_CHECKING

from heldout_torch.errors import HeldoutError, nearest

if TYPE_CHECKING:
    import torch


def find_device(device: "str | torch.device") -> "torch.device":
    """Return a device that can be computed on.

    Raises:
        HeldoutError: If there is no device of that name, or it cannot be used here.
    """
    import torch

    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        why = str(error).strip().split("\n", 1)[0]
        name, known = str(device).partition(":")[0], ("cpu", "cuda")
        near = "" if name in known else nearest(name, known)
        raise HeldoutError(f"device {str(device)!r} cannot be used here ({why}){near}") from None
    return found
