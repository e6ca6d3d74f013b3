"""One network at a time: plain SGD, resumable, and the augmentation of CIFAR.

Also of training/initial.py.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from heldout_torch.data import load_digits
from heldout_torch.evaluation import evaluate
from heldout_torch.models import build_model, register_architecture
from heldout_torch.training.initial import initial_state
from heldout_torch.training.network import Network
from tests.helpers.devices import on_devices, skip_if_pretended

pytestmark = pytest.mark.usefixtures("exact_float32")
CONFIG = {"in_channels": 1, "num_classes": 3}


def batches(count):
    random = torch.Generator().manual_seed(0)
    for _ in range(count):
        yield torch.rand(1, 6, 1, 8, 8, generator=random), torch.randint(3, (1, 6), generator=random)


def trained(stack, some, device="cpu"):
    return [stack.step(images.to(device), labels.to(device), 0.05).item() for images, labels in some]


@on_devices
def test_steps_are_plain_sgd_in_training_mode(device):
    # Of run 0: with others a value near a ReLU's edge tips over by rounding, and the weights part.
    network = Network("small_inception", CONFIG, 0, 0.9, 0.01, False, device)
    losses = trained(network, batches(2), device)
    model = build_model("small_inception", **CONFIG)
    model.load_state_dict(initial_state("small_inception", CONFIG, 0))
    averages = [tensor for name, tensor in model.named_buffers() if "running" in name]
    for average in averages:
        average.zero_()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)
    for (images, labels), found in zip(batches(2), losses, strict=True):
        loss = F.cross_entropy(model.train()(images[0]), labels[0])
        assert found == pytest.approx(loss.item(), rel=1e-3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for average in averages:
        average /= 1 - 0.999**2  # two steps from zero, as Sonnet takes that beginning out again
    state = network.run_state(0)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(state[name], tensor, rtol=1e-3, atol=1e-4)


def own_network(norm):
    register_architecture("own", lambda: nn.Sequential(norm, nn.Flatten(), nn.Linear(64, 3)))
    return Network("own", {}, 0, 0.9, 0.0, False, "cpu")


@pytest.mark.parametrize("momentum", [0.01, 0.5, 1.0])
@pytest.mark.parametrize("kind", [nn.BatchNorm2d, nn.InstanceNorm2d, nn.SyncBatchNorm])
def test_no_beginning_is_in_the_averages_of_a_norm_of_ones_own(kind, momentum):
    """Of equal batches every weighted mean is that of one of them, whatever the averages began with."""
    options = {"track_running_stats": True, "momentum": momentum}
    network, (batch,) = own_network(kind(1, **options)), batches(1)
    trained(network, [batch] * 3)
    alone = kind(1, **{**options, "momentum": 1.0})
    alone(batch[0][0])
    state = network.run_state(0)
    torch.testing.assert_close(state["0.running_mean"], alone.running_mean)
    torch.testing.assert_close(state["0.running_var"], alone.running_var)


def test_averages_that_never_move_stay():
    network = own_network(nn.BatchNorm2d(1, momentum=0.0))
    trained(network, batches(2))
    assert network.run_state(0)["0.running_mean"] == 0
    assert network.run_state(0)["0.running_var"] == 1


def test_what_is_saved_is_enough_to_go_on():
    parts = list(batches(4))
    whole, first, second = (Network("small_inception", CONFIG, 2, 0.9, 0.0, False, "cpu") for _ in range(3))
    trained(whole, parts)
    trained(first, parts[:2])
    second.load({name: tensor.clone() for name, tensor in first.tensors().items()}, 2)
    trained(second, parts[2:])
    torch.testing.assert_close(second.run_state(0), whole.run_state(0), rtol=0, atol=0)


@on_devices
def test_bf16_is_near_float32_and_keeps_float32_weights(device):
    skip_if_pretended(device, "casting under autocast")
    losses = {}
    for bf16 in (False, True):
        network = Network("small_inception", CONFIG, 2, 0.9, 0.0, bf16, device)
        losses[bf16] = trained(network, batches(2), device)
        assert {tensor.dtype for tensor in network.run_state(0).values()} == {torch.float32, torch.int64}
    assert losses[True] == pytest.approx(losses[False], rel=0.1)
    assert losses[True] != losses[False]


@on_devices
def test_correctness_is_what_evaluation_gives(device):
    digits = load_digits()
    network, done = Network("small_inception", {"in_channels": 1}, 2, 0.9, 0.0, True, device), []
    model = build_model("small_inception", in_channels=1)
    model.load_state_dict(network.run_state(0))
    correct = network.correct(digits, "test", done.append)
    assert correct.shape == (1, 360)
    assert sum(done) == 360
    assert np.array_equal(correct[0], evaluate(model, digits, "test", device=device).correct)
