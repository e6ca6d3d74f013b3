"""Multi-layer perceptron, the network of the digits and MNIST experiments."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


class MLP(nn.Module):
    """Linear layers with ReLU between them, over flattened images.

    Args:
        in_features: Number of values of one image.
        widths: Outputs of the hidden layers, in order; may be empty.
        num_classes: Number of logits.
    """

    def __init__(self, in_features: int, widths: Sequence[int], num_classes: int = 10) -> None:
        super().__init__()
        sizes = [in_features, *widths, num_classes]
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(sizes))

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images (n, ...) to what enters the last layer, (n, widths[-1])."""
        x = x.flatten(1)  # (n, in_features)
        for layer in list(self.layers)[:-1]:
            x = layer(x).relu()
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, ...) to logits (n, num_classes)."""
        return self.layers[-1](self.forward_features(x))
