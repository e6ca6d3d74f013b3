"""A copy of a network made for inference alone: batch norm folded, memory laid out for the device.

Folding changes the rounding of logits, by about 1e-6 of their size, as a change of batch size or of library does.
"""

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves


def inference_copy(model: nn.Module, images: Tensor, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Copy a network for inference; the original is left as it is.

    Args:
        model: Any network.
        images: A few images as it will see them, on the device where it will run: (b, c, h, w).
        dtype: Of the copy's weights, and of the images that it is to be given.

    Returns:
        The copy, in eval mode, on the images' device.
    """
    copied = copy.deepcopy(model).eval().requires_grad_(False).to(images.device)
    for conv, norm in _foldable(copied, images[:1]):
        _fold(conv, norm)
    on_cpu = images.device.type == "cpu"
    if on_cpu or dtype != torch.float32:  # on CUDA, float32 without TF32 has its fast kernels for the usual layout
        copied = copied.to(memory_format=torch.channels_last)
    copied = copied.to(dtype)
    if on_cpu and hasattr(torch.ops.mkldnn, "_convolution_pointwise"):  # it lacks where PyTorch is built without oneDNN
        for module in copied.modules():
            if isinstance(module, nn.Conv2d) and module.padding_mode == "zeros" and isinstance(module.padding, tuple):
                _prepack(module)
    return copied


class _CountUses(TorchFunctionMode):
    """Counts from how often each tensor another is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.uses: Counter[int] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(isinstance(leaf, Tensor) for leaf in tree_leaves(result)):  # or it only asked for a shape
            self.uses.update(id(leaf) for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, Tensor))
        return result


def _foldable(model: nn.Module, images: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Find the batch norms whose input is one convolution's output that nothing else uses, by running the network."""
    outputs: list[tuple[nn.Conv2d, Tensor]] = []  # holds the tensors, so that no id is given twice
    inputs: list[tuple[nn.BatchNorm2d, Tensor]] = []
    hooks = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(lambda conv, _, output: outputs.append((conv, output))))
        elif type(module) is nn.BatchNorm2d and module.track_running_stats:
            hooks.append(module.register_forward_pre_hook(lambda norm, given: inputs.append((norm, given[0]))))
    counting = _CountUses()
    with torch.inference_mode(), counting:
        model(images)
    for hook in hooks:
        hook.remove()
    calls = Counter(module for module, _ in [*outputs, *inputs])
    source = {id(output): conv for conv, output in outputs}
    return [
        (source[id(given)], norm)
        for norm, given in inputs
        if id(given) in source and counting.uses[id(given)] == 1 and calls[norm] == calls[source[id(given)]] == 1
    ]


@torch.no_grad()
def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Move a batch norm into the convolution before it; computed in float64, so that it is rounded once."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()  # (channels,)
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = (0 if conv.bias is None else conv.bias.double()) - norm.running_mean.double()
    bias = shift * scale + (0 if norm.bias is None else norm.bias.double())
    weight = conv.weight.double() * scale[:, None, None, None]  # (out, in, k, k)
    conv.weight = nn.Parameter(weight.to(conv.weight.dtype), requires_grad=False)
    conv.bias = nn.Parameter(bias.to(conv.weight.dtype), requires_grad=False)
    norm.forward = _unchanged  # type: ignore[assignment, method-assign]


def _unchanged(x: Tensor) -> Tensor:
    return x


def _prepack(conv: nn.Conv2d) -> None:
    """Keep a convolution's weights in oneDNN's own layout, which PyTorch otherwise makes anew for every batch.

    The numbers stay the same. Through these operators `torch.compile` does it; they need no compiler.
    """
    padding, stride, dilation = list(conv.padding), list(conv.stride), list(conv.dilation)
    packed: list[Tensor] = []

    def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not packed:
            packed.append(
                torch.ops.mkldnn._reorder_convolution_weight(
                    weight, padding, stride, dilation, conv.groups, list(x.shape)
                )
            )
        return torch.ops.mkldnn._convolution_pointwise(
            x, packed[0], bias, padding, stride, dilation, conv.groups, "none", [], ""
        )

    conv._conv_forward = convolve  # type: ignore[assignment, method-assign]
