"""TensorFlow's SAME padding, which PyTorch lacks for strides above 1.

SAME makes ceil(size / stride) outputs and puts the odd row or column at the bottom and right, so how much is added
before depends on the size of the input. Symmetric padding of the same width shifts the sampling grid instead: the
network still works, with other numbers.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return how many rows SAME adds before and after an input of `size` rows.

    Source: the definition of SAME in TensorFlow's `tf.nn` documentation.
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def pad_same(x: Tensor, kernel: int, stride: int, value: float = 0.0) -> Tensor:
    """Pad images (n, c, h, w) for a square window as SAME does, with `value`."""
    top, bottom = same_padding(x.shape[2], kernel, stride)
    left, right = same_padding(x.shape[3], kernel, stride)
    return F.pad(x, (left, right, top, bottom), value=value)  # (n, c, top + h + bottom, left + w + right)


class Conv2dSame(nn.Conv2d):
    """Square convolution without bias, padded as TensorFlow's SAME; any stride."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int) -> None:
        # At stride 1 SAME is symmetric for odd kernels, and the convolution pads by itself without a copy.
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2 if stride == 1 else 0, bias=False
        )

    def pad(self, x: Tensor) -> Tensor:
        """Add to (n, in_channels, h, w) the rows and columns that the convolution itself does not."""
        return pad_same(x, self.kernel_size[0], self.stride[0]) if self.stride[0] > 1 else x

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in_channels, h, w) to (n, out_channels, ceil(h / stride), ceil(w / stride))."""
        return super().forward(self.pad(x))


class MaxPool2dSame(nn.MaxPool2d):
    """Max pool with TensorFlow's SAME padding; what is padded never wins."""

    def __init__(self, kernel_size: int, stride: int) -> None:
        super().__init__(kernel_size, stride)
        self.window, self.step = kernel_size, stride

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w) to (n, c, ceil(h / stride), ceil(w / stride))."""
        return super().forward(pad_same(x, self.window, self.step, value=-torch.inf))
