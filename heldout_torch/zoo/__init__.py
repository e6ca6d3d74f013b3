"""Runs at rest: where they lie, what is known of them, how they are read and written."""

from heldout_torch.zoo.aux_arrays import AuxArrays
from heldout_torch.zoo.experiments import Experiment, known_experiments
from heldout_torch.zoo.layout import RunKey
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
