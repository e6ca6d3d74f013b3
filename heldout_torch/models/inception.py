"""SmallInception, the network of the CIFAR experiments.

After Zhang et al., "Understanding deep learning requires rethinking generalization" (ICLR 2017), in the variant that
the held-out runs used.
"""

from collections.abc import Collection, Iterator

import torch
from torch import Tensor, nn

from heldout_torch.models.padding import Conv2dSame, MaxPool2dSame
from heldout_torch.models.registry import Architecture
from heldout_torch.models.sonnet_rules import Rule, batch_norm, conv, linear

_EPSILON = 1e-5
_MOMENTUM = 0.001  # PyTorch's momentum is one minus the decay, 0.999, of the moving averages


class ConvUnit(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = Conv2dSame(in_channels, out_channels, kernel_size, stride)
        self.bn = nn.BatchNorm2d(out_channels, eps=_EPSILON, momentum=_MOMENTUM)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in_channels, h, w) to (n, out_channels, ceil(h / stride), ceil(w / stride))."""
        return self.bn(self.conv(x)).relu()


class InceptionBlock(nn.Module):
    """A 1x1 and a 3x3 branch, side by side."""

    def __init__(self, in_channels: int, channels_1x1: int, channels_3x3: int) -> None:
        super().__init__()
        self.conv1x1 = ConvUnit(in_channels, channels_1x1, 1)
        self.conv3x3 = ConvUnit(in_channels, channels_3x3, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in_channels, h, w) to (n, channels_1x1 + channels_3x3, h, w)."""
        return torch.cat([self.conv1x1(x), self.conv3x3(x)], dim=1)


class Stage(nn.Module):
    """Blocks at one resolution, then a 3x3 unit of stride 2 unless it is the last stage."""

    def __init__(self, in_channels: int, blocks: list[tuple[int, int]], downsample: int | None) -> None:
        super().__init__()
        self.blocks = nn.Sequential()
        for channels_1x1, channels_3x3 in blocks:
            self.blocks.append(InceptionBlock(in_channels, channels_1x1, channels_3x3))
            in_channels = channels_1x1 + channels_3x3
        self.downsample = ConvUnit(in_channels, downsample, 3, stride=2) if downsample else nn.Identity()
        self.out_channels = downsample or in_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in_channels, h, w) to (n, out_channels, h', w')."""
        return self.downsample(self.blocks(x))


class SmallInception(nn.Module):
    """Three stages of two-branch blocks, global max over space, linear.

    Args:
        num_classes: Number of logits.
        in_channels: Channels of the images.
        large_inputs: Whether to begin with a 7x7 convolution of stride 2 and a max pool, for images larger than
            CIFAR's.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3, large_inputs: bool = False) -> None:
        super().__init__()
        self.conv1 = ConvUnit(in_channels, 96, 7, stride=2) if large_inputs else ConvUnit(in_channels, 96, 3)
        self.pool = MaxPool2dSame(3, stride=2) if large_inputs else nn.Identity()
        self.stage1 = Stage(96, [(32, 32), (32, 48)], downsample=160)
        self.stage2 = Stage(160, [(112, 48), (96, 64), (80, 80), (48, 96)], downsample=240)
        self.stage3 = Stage(240, [(176, 160), (176, 160)], downsample=None)
        self.fc = nn.Linear(self.stage3.out_channels, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images (n, in_channels, h, w) in [0, 1] to the input of the last layer, (n, 336)."""
        x = self.pool(self.conv1(x))
        return self.stage3(self.stage2(self.stage1(x))).amax(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, in_channels, h, w) in [0, 1] to logits (n, num_classes)."""
        return self.fc(self.forward_features(x))


def _sonnet_rules(_: Collection[str]) -> Iterator[Rule]:
    units = {"conv1": "conv1"}
    for stage, blocks in ((1, 2), (2, 4), (3, 2)):
        for block in range(blocks):
            for branch in ("conv1x1", "conv3x3"):
                units[f"stage{stage}/_body/{block}/{branch}"] = f"stage{stage}.blocks.{block}.{branch}"
        if stage < 3:
            units[f"stage{stage}/_downsample"] = f"stage{stage}.downsample"
    for source, target in units.items():
        yield from conv(f"{source}/conv", f"{target}.conv")
        yield from batch_norm(f"{source}/bn", f"{target}.bn")
    yield from linear("_pred", "fc")


ARCHITECTURES = [Architecture("small_inception", SmallInception, sonnet_rules=_sonnet_rules, replayable=True)]
