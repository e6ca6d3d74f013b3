"""Held-out training runs in PyTorch: thousands of models trained on random subsets, and their statistics.

`load_run` and `list_runs` read runs, `heldout_torch.models` has the networks, `heldout_torch.stats` computes the
statistics, and `heldout_torch.training` trains new runs. Names are imported at their first use, so importing the
package is fast.
"""

from typing import TYPE_CHECKING

from heldout_torch.lazy import lazy_names

if TYPE_CHECKING:
    from heldout_torch.data import load_dataset
    from heldout_torch.errors import CheckpointError, DataError, HeldoutError, ZooError
    from heldout_torch.evaluation import evaluate, predict, verify
    from heldout_torch.models import build_model, list_models, register_architecture
    from heldout_torch.zoo import AuxArrays, Run, RunKey, copy_runs, list_runs, load_run, load_runs, open_zoo

__version__ = "0.1.0"

__all__ = [
    "AuxArrays",
    "CheckpointError",
    "DataError",
    "HeldoutError",
    "Run",
    "RunKey",
    "ZooError",
    "build_model",
    "copy_runs",
    "evaluate",
    "list_models",
    "list_runs",
    "load_dataset",
    "load_run",
    "load_runs",
    "open_zoo",
    "predict",
    "register_architecture",
    "verify",
]

__getattr__, __dir__ = lazy_names(
    "heldout_torch",
    {
        "heldout_torch.data": ("load_dataset",),
        "heldout_torch.errors": ("CheckpointError", "DataError", "HeldoutError", "ZooError"),
        "heldout_torch.evaluation": ("evaluate", "predict", "verify"),
        "heldout_torch.models": ("build_model", "list_models", "register_architecture"),
        "heldout_torch.zoo": (
            "AuxArrays",
            "Run",
            "RunKey",
            "copy_runs",
            "list_runs",
            "load_run",
            "load_runs",
            "open_zoo",
        ),
    },
    ("archives", "checkpoints", "cli", "data", "errors", "evaluation", "experiments", "models", "report", "stats",
     "storage", "training", "zoo"),
)  # fmt: skip
