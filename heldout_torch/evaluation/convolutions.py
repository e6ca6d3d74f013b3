"""Convolutions that do the addition and the ReLU after them in the same pass over memory, for inference.

`torch.compile` calls the same operators of PyTorch; they need no compiler.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from heldout_torch.models.padding import Conv2dSame


class FusedConvolution(nn.Module):
    """A convolution, then if wanted an addition, then a ReLU if it `rectifies`.

    What is added is read for the last time there if it `overwrites` it, so the result may take its place.
    """

    needs_relu = False  # whether it is one only with a ReLU

    def __init__(self, conv: nn.Conv2d, rectifies: bool, overwrites: bool = False) -> None:
        super().__init__()
        self.weight, self.bias, self.rectifies, self.overwrites = conv.weight, conv.bias, rectifies, overwrites
        self._pad = conv.pad if isinstance(conv, Conv2dSame) else None
        self._stride, self._padding, self._dilation = conv.stride, conv.padding, conv.dilation
        self._groups = conv.groups

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """Map (n, in, h, w), and what is added, to (n, out, h', w')."""
        return self._run(x if self._pad is None else self._pad(x), other)

    def _run(self, x: Tensor, other: Tensor | None) -> Tensor:
        raise NotImplementedError


class ConvolutionOnCPU(FusedConvolution):
    """By oneDNN, with weights that lie as it wants them for the first images."""

    def __init__(self, conv: nn.Conv2d, rectifies: bool, overwrites: bool = False) -> None:
        super().__init__(conv, rectifies, overwrites)
        self.packed: Tensor | None = None
        self._shape: Sequence[Any] = (self._padding, self._stride, self._dilation, self._groups)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "packed": None}  # a copy may be of another type

    def _run(self, x: Tensor, other: Tensor | None) -> Tensor:
        unary = "relu" if self.rectifies else None
        if self.packed is None:
            self.packed = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *self._shape, list(x.shape))
        if other is None:
            return torch.ops.mkldnn._convolution_pointwise(
                x, self.packed, self.bias, *self._shape, unary or "none", [], ""
            )
        if self.overwrites:  # memory that the system must give anew costs more than the addition
            return torch.ops.mkldnn._convolution_pointwise_(
                other, x, self.packed, self.bias, *self._shape, "add", None, unary, [], None
            )
        return torch.ops.mkldnn._convolution_pointwise(
            x, other, self.packed, self.bias, *self._shape, "add", None, unary, [], None
        )


class ConvolutionOnCUDA(FusedConvolution):
    """By cuDNN, which has none without a ReLU."""

    needs_relu = True

    def _run(self, x: Tensor, other: Tensor | None) -> Tensor:
        shape: Any = self._stride, self._padding, self._dilation, self._groups
        if other is None:
            return torch.cudnn_convolution_relu(x, self.weight, self.bias, *shape)
        return torch.cudnn_convolution_add_relu(x, self.weight, other, 1.0, self.bias, *shape)


def fused_convolution(device: torch.device) -> type[FusedConvolution] | None:
    """Return what a device has; None if it has none."""
    if device.type == "cpu" and hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return ConvolutionOnCPU
    if device.type == "cuda" and torch.version.hip is None and torch._C._has_cudnn:
        return ConvolutionOnCUDA
    return None
