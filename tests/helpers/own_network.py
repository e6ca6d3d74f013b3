"""A user's module: a network and a data set that this package does not know, registered as a plugin does it."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from heldout_torch.data import ArrayDataset, Split, load_digits, register_dataset
from heldout_torch.models import register_architecture


class OwnNet(nn.Module):
    """Convolution, group norm, leaky ReLU, a fixed encoding of places, linear.

    It has what the package's own networks have not: a number that is computed with a tensor while the network is
    built, and a constant that is in no state dict.
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.slope = torch.linspace(0, 0.2, 3)[1].item()
        self.conv, self.norm = nn.Conv2d(1, channels, 3, padding=1), nn.GroupNorm(2, channels)
        self.register_buffer("places", torch.linspace(-1, 1, 8)[:, None].expand(8, 8).clone(), persistent=False)
        self.fc = nn.Linear(channels * 64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.leaky_relu(self.norm(self.conv(x + self.places)), self.slope)
        return self.fc(x.flatten(1))


def load_own_digits(path: Path | None) -> ArrayDataset:
    """The digits as black on white."""
    digits = load_digits()
    return ArrayDataset("own-digits", _inverted(digits.train), _inverted(digits.test), 10, 16.0)


def _inverted(split: Split) -> Split:
    return replace(split, images=16 - split.images)


register_architecture("own_net", OwnNet)
register_dataset("own-digits", load_own_digits)
