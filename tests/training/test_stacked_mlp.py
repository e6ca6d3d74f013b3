"""The hand-written steps are those of autograd and `torch.optim.SGD`, run by run."""

import pytest
import torch
import torch.nn.functional as F

from heldout_torch.models import build_model
from heldout_torch.training.initial import initial_state
from heldout_torch.training.stacked_mlp import StackedMLP
from tests.helpers.devices import on_devices

CONFIG = {"in_features": 12, "widths": [16, 8], "num_classes": 5}
RUNS = [4, 0, 9]
BATCHES = (20, 20, 7)


def batches(run):
    random = torch.Generator().manual_seed(100 + run)
    for size in BATCHES:
        yield torch.rand(size, 3, 2, 2, generator=random), torch.randint(5, (size,), generator=random)


def by_autograd(run, momentum, weight_decay, rate):
    model = build_model("mlp", **CONFIG).double()
    model.load_state_dict(initial_state("mlp", CONFIG, run))
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=momentum, weight_decay=weight_decay)
    losses = []
    for images, labels in batches(run):
        loss = F.cross_entropy(model(images.double()), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, losses


def stacked(runs, momentum, weight_decay, rate, device):
    stack = StackedMLP("mlp", CONFIG, runs, 20, momentum, weight_decay, device)
    losses = []
    for parts in zip(*(batches(run) for run in runs), strict=True):
        images, labels = (torch.stack(part).to(device) for part in zip(*parts, strict=True))
        losses.append(stack.step(images, labels, rate).tolist())
    return stack, losses


@on_devices
@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.9, 0.0), (0.0, 0.0), (0.5, 0.01)])
def test_steps_are_those_of_autograd(momentum, weight_decay, device):
    stack, losses = stacked(RUNS, momentum, weight_decay, 0.3, device)
    images = next(batches(0))[0]
    for i, run in enumerate(RUNS):
        model, expected = by_autograd(run, momentum, weight_decay, 0.3)
        assert [step[i] for step in losses] == pytest.approx(expected, rel=1e-4)
        state = stack.run_state(i)
        assert state.keys() == model.state_dict().keys()
        for name, tensor in model.state_dict().items():
            assert state[name].is_contiguous()
            torch.testing.assert_close(state[name].double(), tensor, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            stack.logits(images.to(device))[i].cpu().double(), model(images.double()), rtol=1e-4, atol=1e-5
        )


@on_devices
def test_a_run_alone_is_the_run_in_a_stack(device):
    stack, _ = stacked(RUNS, 0.9, 0.0, 0.3, device)
    for i, run in enumerate(RUNS):
        alone, _ = stacked([run], 0.9, 0.0, 0.3, device)
        torch.testing.assert_close(alone.run_state(0), stack.run_state(i), rtol=1e-5, atol=1e-6)


def test_a_broken_run_leaves_the_others_alone():
    stack, _ = stacked(RUNS, 0.9, 0.0, 0.3, "cpu")
    expected = stack.run_state(0)
    broken = StackedMLP("mlp", CONFIG, RUNS, 20, 0.9, 0.0, "cpu")
    broken.tensors()["w.0"][1] = torch.nan
    for parts in zip(*(batches(run) for run in RUNS), strict=True):
        images, labels = (torch.stack(part) for part in zip(*parts, strict=True))
        broken.step(images, labels, 0.3)
    assert broken.run_state(1)["layers.0.weight"].isnan().all()
    torch.testing.assert_close(broken.run_state(0), expected)


def test_what_is_saved_is_enough_to_go_on():
    whole, _ = stacked(RUNS, 0.9, 0.0, 0.3, "cpu")
    parts = list(zip(*(batches(run) for run in RUNS), strict=True))
    first, second = (StackedMLP("mlp", CONFIG, RUNS, 20, 0.9, 0.0, "cpu") for _ in range(2))
    for stack, some in ((first, parts[:2]), (second, parts[2:])):
        if stack is second:
            second.load({name: tensor.clone() for name, tensor in first.tensors().items()}, 2)
        for part in some:
            stack.step(*(torch.stack(tensors) for tensors in zip(*part, strict=True)), 0.3)
    torch.testing.assert_close(second.run_state(2), whole.run_state(2), rtol=0, atol=0)


def test_the_mlp_begins_as_the_published_demo():
    state = initial_state("mlp", {"in_features": 784, "widths": [512, 256]}, 3)
    assert state["layers.0.weight"].std().item() == pytest.approx((2 / (784 + 512)) ** 0.5, rel=0.01)
    assert state["layers.1.bias"].std().item() == pytest.approx(0.01, rel=0.2)
    again, other = (initial_state("mlp", {"in_features": 784, "widths": [512, 256]}, run) for run in (3, 4))
    torch.testing.assert_close(state, again, rtol=0, atol=0)
    assert not torch.equal(state["layers.0.weight"], other["layers.0.weight"])


def test_other_networks_begin_as_sonnets():
    state = initial_state("small_inception", {}, 0)
    weight = state["stage3.blocks.1.conv3x3.conv.weight"]  # of fan-in 336 * 9
    limit = 2 / (336 * 9) ** 0.5
    assert weight.abs().max().item() <= limit
    assert weight.std().item() == pytest.approx(0.88 * limit / 2, rel=0.01)  # of a normal cut off at two deviations
    assert (state["conv1.bn.weight"] == 1).all()
    assert (state["conv1.bn.running_var"] == 1).all()
    assert not state["fc.bias"].any()
