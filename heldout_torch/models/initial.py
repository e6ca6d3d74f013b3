"""Values of parameters before training, drawn from a generator of the run's own."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

# Fills a parameter in place, given its name in the state dict and the run's generator, on the CPU.
Initial = Callable[[str, Tensor, torch.Generator], None]


def sonnet_initial(name: str, parameter: Tensor, random: torch.Generator) -> None:
    """Fill a parameter as Sonnet does.

    Weights come from a normal distribution of variance 1 / fan-in, cut off at two standard deviations; one-dimensional
    parameters are 1 if they are called `weight`, the scale of a norm, and 0 if they are biases.
    """
    if parameter.dim() >= 2:
        std = 1 / math.sqrt(math.prod(parameter.shape[1:]))
        torch.nn.init.trunc_normal_(parameter, 0, std, -2 * std, 2 * std, generator=random)
    else:
        parameter.fill_(1 if name.rpartition(".")[2] == "weight" else 0)


def stax_initial(name: str, parameter: Tensor, random: torch.Generator) -> None:
    """Fill a parameter as JAX's stax does: weights Glorot-normal, biases from N(0, 0.01^2)."""
    std = 0.01 if parameter.dim() < 2 else math.sqrt(2 / (parameter.shape[0] + math.prod(parameter.shape[1:])))
    parameter.normal_(0, std, generator=random)
