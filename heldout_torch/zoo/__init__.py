"""Stored runs: where they are, what is known about them, how they are read and written."""

from typing import TYPE_CHECKING

from heldout_torch.lazy import lazy_names

if TYPE_CHECKING:
    from heldout_torch.experiments import Experiment, known_experiments
    from heldout_torch.zoo.aux_arrays import AuxArrays
    from heldout_torch.zoo.base import WritableZoo, Zoo
    from heldout_torch.zoo.copy import copy_runs
    from heldout_torch.zoo.find import list_runs
    from heldout_torch.zoo.keys import RunKey
    from heldout_torch.zoo.load import Run, load_run, load_runs
    from heldout_torch.zoo.metadata import RunMetadata
    from heldout_torch.zoo.open import open_writable, open_zoo, sample_zoo
    from heldout_torch.zoo.selection import Selection

__all__ = [
    "AuxArrays",
    "Experiment",
    "Run",
    "RunKey",
    "RunMetadata",
    "Selection",
    "WritableZoo",
    "Zoo",
    "copy_runs",
    "known_experiments",
    "list_runs",
    "load_run",
    "load_runs",
    "open_writable",
    "open_zoo",
    "sample_zoo",
]

__getattr__, __dir__ = lazy_names(
    "heldout_torch.zoo",
    {
        "heldout_torch.experiments": ("Experiment", "known_experiments"),
        "heldout_torch.zoo.aux_arrays": ("AuxArrays",),
        "heldout_torch.zoo.base": ("WritableZoo", "Zoo"),
        "heldout_torch.zoo.copy": ("copy_runs",),
        "heldout_torch.zoo.find": ("list_runs",),
        "heldout_torch.zoo.keys": ("RunKey",),
        "heldout_torch.zoo.load": ("Run", "load_run", "load_runs"),
        "heldout_torch.zoo.metadata": ("RunMetadata",),
        "heldout_torch.zoo.open": ("open_writable", "open_zoo", "sample_zoo"),
        "heldout_torch.zoo.selection": ("Selection",),
    },
)
