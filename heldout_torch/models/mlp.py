"""Multi-layer perceptron, the network of the digits and MNIST experiments."""

from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise

from torch import Tensor, nn

from heldout_torch.models.initial import stax_initial
from heldout_torch.models.registry import Architecture
from heldout_torch.models.sonnet_rules import Rule, linear


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
        """Map images (n, ...) to the input of the last layer, (n, widths[-1])."""
        x = x.flatten(1)  # (n, in_features)
        for layer in list(self.layers)[:-1]:
            x = layer(x).relu()
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, ...) to logits (n, num_classes)."""
        return self.layers[-1](self.forward_features(x))


def _sonnet_rules(names: Collection[str]) -> Iterator[Rule]:
    # The depth is free: count the layers that are there.
    depth = max(1, sum(name.startswith("_layers/") and name.endswith("/w") for name in names))
    for layer in range(depth):
        yield from linear(f"_layers/{layer}", f"layers.{layer}")


# It begins as the published MNIST demo's, which was written with stax.
ARCHITECTURES = [Architecture("mlp", MLP, initial=stax_initial, sonnet_rules=_sonnet_rules, stackable=True)]
