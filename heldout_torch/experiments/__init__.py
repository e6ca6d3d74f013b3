"""Experiments: what they are, which ones are known, and how their runs are trained."""

from heldout_torch.experiments.experiment import DEFINITION_FILE, Archive, Experiment, check_name, is_experiment_name
from heldout_torch.experiments.known import (
    check_known,
    declared_in,
    find_experiment,
    is_experiment_file,
    known_experiments,
    read_declaration,
    recipe_of,
)
from heldout_torch.experiments.recipe import Recipe, read_recipe

__all__ = [
    "DEFINITION_FILE",
    "Archive",
    "Experiment",
    "Recipe",
    "check_known",
    "check_name",
    "declared_in",
    "find_experiment",
    "is_experiment_file",
    "is_experiment_name",
    "known_experiments",
    "read_declaration",
    "read_recipe",
    "recipe_of",
]
