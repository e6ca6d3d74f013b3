"""ResNet50 as Sonnet builds it (version 1), the network of the ImageNet experiment."""

from collections.abc import Collection, Iterator

from torch import Tensor, nn

from heldout_torch.models.padding import MaxPool2dSame
from heldout_torch.models.registry import Architecture
from heldout_torch.models.sonnet_rules import Rule, batch_norm, conv, linear

_BLOCKS = (3, 4, 6, 3)


class Bottleneck(nn.Module):
    """1x1, 3x3 with the stride, 1x1 to four times the width, around which the input is added.

    Args:
        in_channels: Channels of the input.
        width: Channels of the first two convolutions.
        stride: Of the 3x3 convolution.
        projects: Whether what is added is the input after a 1x1 convolution, not the input itself.
    """

    def __init__(self, in_channels: int, width: int, stride: int, projects: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = (
            nn.Sequential(nn.Conv2d(in_channels, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width))
            if projects
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in_channels, h, w) to (n, 4 * width, ceil(h / stride), ceil(w / stride))."""
        shortcut = self.downsample(x)
        x = self.bn1(self.conv1(x)).relu()
        x = self.bn2(self.conv2(x)).relu()
        return (self.bn3(self.conv3(x)) + shortcut).relu()


class ResNet50(nn.Module):
    """torchvision's ResNet50 with one layer changed: the stem's max pool uses TensorFlow's SAME padding.

    Sonnet's convolutions pad symmetrically at any stride, like torchvision's; only the pool differs. At 224 pixels it
    pads (0, 1) where torchvision pads (1, 1). Tensor names are torchvision's, so the weights load into
    `torchvision.models.resnet50` too, but there the logits shift by 1 to 3 % at 224 pixels.

    Args:
        num_classes: Number of logits.
    """

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = MaxPool2dSame(3, stride=2)
        self.layer1 = _layer(64, 64, _BLOCKS[0], stride=1)
        self.layer2 = _layer(256, 128, _BLOCKS[1], stride=2)
        self.layer3 = _layer(512, 256, _BLOCKS[2], stride=2)
        self.layer4 = _layer(1024, 512, _BLOCKS[3], stride=2)
        self.fc = nn.Linear(2048, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Map normalised images (n, 3, h, w) to the input of the last layer, (n, 2048)."""
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        return self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images (n, 3, h, w) to logits (n, num_classes)."""
        return self.fc(self.forward_features(x))


def _layer(in_channels: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    first = Bottleneck(in_channels, width, stride, projects=True)
    return nn.Sequential(first, *(Bottleneck(4 * width, width, 1, projects=False) for _ in range(blocks - 1)))


def _sonnet_rules(_: Collection[str]) -> Iterator[Rule]:
    yield from conv("_initial_conv", "conv1")
    yield from batch_norm("_initial_batchnorm", "bn1")
    for group, blocks in enumerate(_BLOCKS):
        for block in range(blocks):
            source, target = f"_block_groups/{group}/_blocks/{block}", f"layer{group + 1}.{block}"
            for layer in range(3):
                yield from conv(f"{source}/_layers/{layer}/0", f"{target}.conv{layer + 1}")
                yield from batch_norm(f"{source}/_layers/{layer}/1", f"{target}.bn{layer + 1}")
            if block == 0:
                yield from conv(f"{source}/_proj_conv", f"{target}.downsample.0")
                yield from batch_norm(f"{source}/_proj_batchnorm", f"{target}.downsample.1")
    yield from linear("_logits", "fc")


ARCHITECTURES = [Architecture("resnet50", ResNet50, sonnet_rules=_sonnet_rules, replayable=True)]
