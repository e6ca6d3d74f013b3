"""Weights before training: a function of the architecture and the run's number alone."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from heldout_torch.models import build_model, find_architecture


def initial_model(architecture: str, config: Mapping[str, Any], run: int) -> nn.Module:
    """Build the network with which a run begins.

    Its parameters are drawn as the architecture's record says, in their order in the module. Buffers, such as the
    averages of a batch norm, are as the module makes them.

    Args:
        architecture: A name of `heldout_torch.models.list_models()`.
        config: Options of the architecture.
        run: Number of the run, the seed.

    Returns:
        The network, on the CPU, in training mode.

    Raises:
        HeldoutError: If the network cannot be built.
    """
    random, initial = torch.Generator().manual_seed(run), find_architecture(architecture).initial
    with torch.device("cpu"):  # whatever a notebook made the default, also of dtypes
        model = build_model(architecture, **config).float()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            initial(name, parameter, random)
    return model


def initial_state(architecture: str, config: Mapping[str, Any], run: int) -> dict[str, Tensor]:
    """Return the state dict of `initial_model`."""
    return initial_model(architecture, config, run).state_dict()
