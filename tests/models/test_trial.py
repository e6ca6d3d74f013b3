"""A network that is tried on images: what it gives is told in one line if it is not logits."""

import random
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from heldout_torch.errors import HeldoutError
from heldout_torch.models import build_model, find_architecture, list_models
from heldout_torch.models.trial import check_replayable, try_network

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
        (lambda images: images.flatten(1)[:, :1], "it gives 1 logit for an image, expected two or more classes"),
        (lambda images: images.flatten(1), "its logits have no gradient to learn from; does it detach them"),
        (nn.Linear(5, 5), "mat1 and mat2 shapes cannot be multiplied"),
        (refuse, "wants images of 224 pixels"),
    ],
)
def test_what_is_no_logits_is_one_line(give, told):
    with pytest.raises(HeldoutError, match=told) as error:
        try_network(Giving(give), IMAGES)
    assert "\n" not in str(error.value)


class Conv(nn.Module):
    """A convolution, a norm and a linear layer."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Linear(3, 5)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x)).amax((2, 3)))


class Scaling(Conv):
    def forward(self, x):
        return super().forward(x) * random.random()


class Skipping(Conv):
    def forward(self, x):
        return super().forward(x if random.random() < 1 else x * 2)


class Looking(Conv):
    def forward(self, x):
        return super().forward(x if x.mean() > 0 else -x)


class Twice(Conv):
    def forward(self, x):
        return self.fc(self.norm(self.norm(self.conv(x))).amax((2, 3)))


class Averaging(Conv):
    def __init__(self):
        super().__init__()
        self.norm.momentum = None


class Dropping(Conv):
    def forward(self, x):
        return nn.functional.dropout(super().forward(x), 0.5, self.training)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (Scaling, "does not do the same at each call"),
        (Skipping, "does not do the same at each call"),
        (Looking, "looks at a number of a tensor, and so waits for the device"),
        (Averaging, "looks at a number of a tensor, and so waits for the device"),
        (Twice, "calls the norm 'norm' several times"),
    ],
)
def test_a_network_whose_steps_cannot_be_replayed_is_refused(kind, told):
    with pytest.raises(HeldoutError, match=f"^its forward {told}$"):
        check_replayable(kind(), IMAGES[:1])


class InPlace(Conv):
    def forward(self, x):
        return super().forward(x.sub_(0.5))


class Filling(Conv):
    def forward(self, x):
        return super().forward(x.masked_fill(x > 2, float("nan")))


@pytest.mark.parametrize("kind", [Conv, Dropping, InPlace, Filling])
def test_a_network_that_does_the_same_at_each_call_is_not_refused(kind):
    network, images, before = kind(), IMAGES[:1].clone(), torch.get_rng_state()
    check_replayable(network, images)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(images, IMAGES[:1])


@pytest.mark.parametrize("name", [name for name in list_models() if find_architecture(name).replayable])
def test_networks_of_the_package_can_be_replayed(name):
    check_replayable(build_model(name), torch.rand(1, 3, 32, 32))
