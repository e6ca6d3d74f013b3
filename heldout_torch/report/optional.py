"""Packages that only reports and figures need."""

import importlib
from typing import Any

from heldout_torch.errors import HeldoutError


def require(module: str) -> Any:
    """Import an optional package.

    Raises:
        HeldoutError: If it is not installed; with the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise HeldoutError(f"{package} is not installed: pip install 'heldout-torch[report]'") from None
