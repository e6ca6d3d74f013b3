"""The networks of the experiments, by name."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from heldout_torch.errors import HeldoutError


def _small_inception(**config: Any) -> nn.Module:
    from heldout_torch.models.inception import SmallInception

    return SmallInception(**config)


def _resnet50(**config: Any) -> nn.Module:
    from heldout_torch.models.resnet import ResNet50  # brings torchvision, which is slow to import

    return ResNet50(**config)


def _mlp(**config: Any) -> nn.Module:
    from heldout_torch.models.mlp import MLP

    return MLP(**config)


def _cifar_resnet18(**config: Any) -> nn.Module:
    from heldout_torch.models.preact_resnet import PreactResNet

    return PreactResNet([2, 2, 2, 2], bottleneck=False, **config)


def _cifar_resnet50(**config: Any) -> nn.Module:
    from heldout_torch.models.preact_resnet import PreactResNet

    return PreactResNet([3, 4, 6, 3], bottleneck=True, **config)


_BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "cifar_resnet18": _cifar_resnet18,
    "cifar_resnet50": _cifar_resnet50,
    "mlp": _mlp,
    "resnet50": _resnet50,
    "small_inception": _small_inception,
}


def list_models() -> list[str]:
    """List the names that `build_model` knows."""
    return sorted(_BUILDERS)


def build_model(architecture: str, **config: Any) -> nn.Module:
    """Build a network with fresh random weights.

    Every network has `forward(images) -> logits (n, num_classes)` and `forward_features(images)`, which gives what
    enters the last linear layer. Build under `torch.device("meta")` to have names and shapes without weights.

    Args:
        architecture: One of `list_models()`.
        **config: The network's own options, such as `num_classes`.

    Raises:
        HeldoutError: If the architecture is unknown, or has no such option.
    """
    if architecture not in _BUILDERS:
        raise HeldoutError(f"architecture {architecture!r} is not known, expected one of {', '.join(list_models())}")
    try:
        return _BUILDERS[architecture](**config)
    except (TypeError, ValueError) as error:
        raise HeldoutError(f"{architecture} cannot be built with {config}: {error}") from None


def expected_tensors(architecture: str, config: dict[str, Any]) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Tell names, shapes and dtypes of a network's tensors without making its weights.

    Raises:
        HeldoutError: As `build_model`.
    """
    with torch.device("meta"):
        state = build_model(architecture, **config).state_dict()
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in state.items()}
