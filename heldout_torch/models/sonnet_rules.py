"""How Sonnet names and lays out the variables of a layer, and which of PyTorch's tensors each becomes."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np


class Rule(NamedTuple):
    """One variable of a Sonnet network.

    Attributes:
        source: Its name under `model/`, such as `conv1/conv/w`.
        target: The tensor of the state dict that it becomes; None where inference has no use for it.
        convert: From its layout to the tensor's.
    """

    source: str
    target: str | None
    convert: Callable[[np.ndarray], np.ndarray]


def conv(source: str, target: str) -> Iterator[Rule]:
    """Return the rules of a convolution without bias."""
    yield Rule(f"{source}/w", f"{target}.weight", lambda w: w.transpose(3, 2, 0, 1))  # HWIO -> OIHW


def linear(source: str, target: str) -> Iterator[Rule]:
    """Return the rules of a linear layer with bias."""
    yield Rule(f"{source}/w", f"{target}.weight", lambda w: w.transpose(1, 0))  # (in, out) -> (out, in)
    yield Rule(f"{source}/b", f"{target}.bias", _flat)


def batch_norm(source: str, target: str) -> Iterator[Rule]:
    """Return the rules of a batch norm with scale and offset; its averages are zero-debiased."""
    yield Rule(f"{source}/scale", f"{target}.weight", _flat)
    yield Rule(f"{source}/offset", f"{target}.bias", _flat)
    for average, buffer in (("moving_mean", "running_mean"), ("moving_variance", "running_var")):
        yield Rule(f"{source}/{average}/average", f"{target}.{buffer}", _flat)  # (1, 1, 1, C) -> (C,)
        yield Rule(f"{source}/{average}/_hidden", None, _flat)
    yield Rule(f"{source}/moving_mean/_counter", f"{target}.num_batches_tracked", lambda v: v.reshape(()))
    yield Rule(f"{source}/moving_variance/_counter", None, _flat)


def _flat(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1)
