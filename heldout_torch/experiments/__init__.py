"""What an experiment is, and which ones are known."""

from heldout_torch.experiments.experiment import (
    DEFINITION_FILE,
    Experiment,
    find_experiment,
    known_experiments,
    read_declaration,
)

__all__ = ["DEFINITION_FILE", "Experiment", "find_experiment", "known_experiments", "read_declaration"]
