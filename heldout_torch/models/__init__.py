"""The networks of the experiments, by name, and how to register your own."""

from heldout_torch.models.registry import (
    Architecture,
    build_model,
    build_skeleton,
    expected_tensors,
    find_architecture,
    list_models,
    register_architecture,
    restore_model,
)

__all__ = [
    "Architecture",
    "build_model",
    "build_skeleton",
    "expected_tensors",
    "find_architecture",
    "list_models",
    "register_architecture",
    "restore_model",
]
