"""Pre-activation ResNets for CIFAR-sized images, as in the original code of the CIFAR ResNet runs.

After He et al., "Identity Mappings in Deep Residual Networks" (ECCV 2016): batch norm and ReLU come before each
convolution. The basic block is the original's own: 1x1, then 3x3.
"""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from heldout_torch.models.registry import Architecture

_EPSILON = 1e-5
_MOMENTUM = 0.1  # PyTorch's momentum is one minus the decay, 0.9, of the moving averages
_WIDTHS = (64, 128, 256, 512)


class Block(nn.Module):
    """Convolutions, each after a batch norm and a ReLU, around which the input is added.

    Args:
        in_channels: Channels of the input.
        layers: Output channels, kernel size and stride of each convolution.
        projects: Whether what is added is projected from the first activated input, not the raw input itself.
    """

    def __init__(self, in_channels: int, layers: Sequence[tuple[int, int, int]], projects: bool) -> None:
        super().__init__()
        self.norms, self.convs = nn.ModuleList(), nn.ModuleList()
        channels, total_stride = in_channels, 1
        for out_channels, kernel_size, stride in layers:
            self.norms.append(nn.BatchNorm2d(channels, eps=_EPSILON, momentum=_MOMENTUM))
            self.convs.append(_conv(channels, out_channels, kernel_size, stride))
            channels, total_stride = out_channels, total_stride * stride
        self.projection = _conv(in_channels, channels, 1, total_stride) if projects else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in_channels, h, w) to (n, out_channels, ceil(h / stride), ceil(w / stride))."""
        shortcut = x
        for i, (norm, conv) in enumerate(zip(self.norms, self.convs, strict=True)):
            x = norm(x).relu()
            if i == 0 and self.projection is not None:
                shortcut = self.projection(x)
            x = conv(x)
        return x + shortcut


class PreactResNet(nn.Module):
    """A 3x3 stem, four groups of blocks, batch norm, ReLU, mean over space, linear.

    Args:
        blocks: Number of blocks in each of the four groups.
        bottleneck: Blocks are 1x1, 3x3, 1x1 to four times the width; otherwise 1x1, 3x3.
        num_classes: Number of logits.
        in_channels: Channels of the images.
    """

    def __init__(self, blocks: Sequence[int], bottleneck: bool, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.stem = _conv(in_channels, _WIDTHS[0], 3, 1)
        self.groups = nn.Sequential()
        channels = _WIDTHS[0]
        for width, count, group_stride in zip(_WIDTHS, blocks, (1, 2, 2, 2), strict=True):
            group = nn.Sequential()
            for i in range(count):
                stride = group_stride if i == 0 else 1
                layers = [(width, 1, 1), (width, 3, stride)] + ([(4 * width, 1, 1)] if bottleneck else [])
                group.append(Block(channels, layers, projects=i == 0))
                channels = layers[-1][0]
            self.groups.append(group)
        self.norm = nn.BatchNorm2d(channels, eps=_EPSILON, momentum=_MOMENTUM)
        self.fc = nn.Linear(channels, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images (n, in_channels, h, w) in [0, 1] to the input of the last layer, (n, channels)."""
        return self.norm(self.groups(self.stem(x))).relu().mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, in_channels, h, w) in [0, 1] to logits (n, num_classes)."""
        return self.fc(self.forward_features(x))


def _conv(in_channels: int, out_channels: int, kernel_size: int, stride: int) -> nn.Conv2d:
    # Sonnet's `pad.same` pads symmetrically whatever the stride, as this does.
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False)


# Their checkpoints were never released, so the names of their variables are not known.
ARCHITECTURES = [
    Architecture("cifar_resnet18", partial(PreactResNet, [2, 2, 2, 2], False), replayable=True),
    Architecture("cifar_resnet50", partial(PreactResNet, [3, 4, 6, 3], True), replayable=True),
]
