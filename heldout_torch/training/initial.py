"""Weights before training: a function of the architecture and the run's number alone."""

import math
from typing import Any

import torch
from torch import Tensor

from heldout_torch.models import expected_tensors


def initial_state(architecture: str, config: dict[str, Any], run: int) -> dict[str, Tensor]:
    """Draw the weights with which a run begins.

    The MLP begins as the published demo's: Glorot-normal weights, biases from N(0, 0.01^2), the defaults of JAX's
    stax. The other networks begin as Sonnet's: weights from a normal distribution of variance 1 / fan-in cut off at
    two standard deviations, no bias, batch norm the identity.

    Args:
        architecture: A name of `heldout_torch.models.list_models()`.
        config: Options of the architecture.
        run: Number of the run, the seed.

    Returns:
        State dict of the architecture's module, on the CPU.

    Raises:
        HeldoutError: If the network cannot be built.
    """
    random = torch.Generator().manual_seed(run)
    state = {}
    for name, (shape, dtype) in expected_tensors(architecture, config).items():
        tensor = torch.zeros(shape, dtype=dtype)
        if len(shape) >= 2:
            fan_out, fan_in = shape[0], math.prod(shape[1:])
            if architecture == "mlp":
                tensor.normal_(0, math.sqrt(2 / (fan_in + fan_out)), generator=random)
            else:
                std = 1 / math.sqrt(fan_in)
                torch.nn.init.trunc_normal_(tensor, 0, std, -2 * std, 2 * std, generator=random)
        elif architecture == "mlp":
            tensor.normal_(0, 0.01, generator=random)
        elif name.endswith(("running_var", ".weight")) or name == "weight":
            tensor.fill_(1)  # the scale of a batch norm, or its variance
        state[name] = tensor
    return state
