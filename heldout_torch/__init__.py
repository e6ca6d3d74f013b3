"""Held-out training runs in PyTorch: thousands of models trained on random subsets, and their statistics.

`load_run` and `list_runs` read runs, `heldout_torch.models` holds the networks, `heldout_torch.checkpoints` reads
TensorFlow's files. Names below are imported when first used, so that the package itself costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heldout_torch.errors import CheckpointError, DataError, HeldoutError, ZooError
    from heldout_torch.models import build_model, list_models
    from heldout_torch.zoo import AuxArrays, Run, list_runs, load_run

__version__ = "0.1.0"

_HOMES = {
    "AuxArrays": "heldout_torch.zoo",
    "CheckpointError": "heldout_torch.errors",
    "DataError": "heldout_torch.errors",
    "HeldoutError": "heldout_torch.errors",
    "Run": "heldout_torch.zoo",
    "ZooError": "heldout_torch.errors",
    "build_model": "heldout_torch.models",
    "list_models": "heldout_torch.models",
    "list_runs": "heldout_torch.zoo",
    "load_run": "heldout_torch.zoo",
}

__all__ = [
    "AuxArrays",
    "CheckpointError",
    "DataError",
    "HeldoutError",
    "Run",
    "ZooError",
    "build_model",
    "list_models",
    "list_runs",
    "load_run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'heldout_torch' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
