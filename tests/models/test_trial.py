"""A network that is tried on images: what it gives is told in one line if it is not logits."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from heldout_torch.errors import HeldoutError
from heldout_torch.models.trial import try_network

IMAGES = torch.rand(2, 1, 4, 4)


class Giving(nn.Module):
    """A network that does with images what it is told."""

    def __init__(self, give):
        super().__init__()
        self.give = give

    def forward(self, images):
        return self.give(images)


def refuse(images):
    raise ValueError("wants images of 224 pixels\nat least")


@pytest.mark.parametrize("mode", [nullcontext, torch.no_grad, torch.inference_mode])
def test_logits_are_returned_without_gradients(mode):
    with mode():
        network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        logits = try_network(network, IMAGES)
    assert torch.equal(logits, network(IMAGES))
    assert not logits.requires_grad


@pytest.mark.parametrize(
    ("give", "told"),
    [
        (lambda images: (images, 0), "it gives tuple, expected a tensor of logits"),
        (lambda images: {"logits": images}, "it gives dict, expected a tensor of logits"),
        (lambda images: images.sum((1, 2, 3)), r"it gives \(2,\), expected logits \(2, classes\)"),
        (lambda images: images.flatten(1)[:1], r"it gives \(1, 16\), expected logits \(2, classes\)"),
        (lambda images: images.flatten(1), "its logits have no gradient to learn from; does it detach them"),
        (nn.Linear(5, 5), "mat1 and mat2 shapes cannot be multiplied"),
        (refuse, "wants images of 224 pixels"),
    ],
)
def test_what_is_no_logits_is_one_line(give, told):
    with pytest.raises(HeldoutError, match=told) as error:
        try_network(Giving(give), IMAGES)
    assert "\n" not in str(error.value)
