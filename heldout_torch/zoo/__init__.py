"""Runs at rest: where they lie, what is known of them, how they are read and written."""

from typing import TYPE_CHECKING

from heldout_torch.lazy import lazy_names

if TYPE_CHECKING:
    from heldout_torch.experiments import Experiment, known_experiments
    from heldout_torch.zoo.aux_arrays import AuxArrays
    from heldout_torch.zoo.keys import RunKey
    from heldout_torch.zoo.load import Run, list_runs, load_run, sample_zoo
    from heldout_torch.zoo.metadata import RunMetadata

__all__ = [
    "AuxArrays",
    "Experiment",
    "Run",
    "RunKey",
    "RunMetadata",
    "known_experiments",
    "list_runs",
    "load_run",
    "sample_zoo",
]

__getattr__, __dir__ = lazy_names(
    "heldout_torch.zoo",
    {
        "heldout_torch.experiments": ("Experiment", "known_experiments"),
        "heldout_torch.zoo.aux_arrays": ("AuxArrays",),
        "heldout_torch.zoo.keys": ("RunKey",),
        "heldout_torch.zoo.load": ("Run", "list_runs", "load_run", "sample_zoo"),
        "heldout_torch.zoo.metadata": ("RunMetadata",),
    },
)
