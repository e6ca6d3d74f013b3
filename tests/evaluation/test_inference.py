"""Copies for inference compute what the network computes, and on a CPU in as few passes as there are convolutions.

Also of evaluation/convolutions.py.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from heldout_torch.evaluation.convolutions import FusedConvolution
from heldout_torch.evaluation.inference import begin_copy, inference_copy, lower_copy
from heldout_torch.evaluation.precision import has_bfloat16
from heldout_torch.models import build_model
from tests.evaluation.randomize import randomize
from tests.helpers.devices import on_devices

pytestmark = pytest.mark.usefixtures("exact_float32")


class Net(nn.Module):
    """Two convolutions with their batch norms, joined as `join` says."""

    def __init__(self, join):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 10, 3, padding=1), nn.BatchNorm2d(10)
        self.second, self.bn2 = nn.Conv2d(10, 10, 3, padding=1, bias=False), nn.BatchNorm2d(10)
        self.rectify = nn.ReLU(inplace=True)
        self.join = join

    def forward(self, x):
        return self.join(self, x).amax((2, 3))


class Scaled(nn.Conv2d):
    """A convolution that is none: what it computes is not linear in its weights."""

    def forward(self, x):
        return F.conv2d(x, self.weight / self.weight.norm(), self.bias, padding=1)


def residual(net, x):
    x = F.relu(net.bn(net.conv(x)))
    out = net.bn2(net.second(x))
    out += x
    return net.rectify(out)


def shortcut_first(net, x):
    x = net.bn(net.conv(x))
    return (x + net.bn2(net.second(x))).relu()


def used_raw_too(net, x):
    raw = net.conv(x)
    return net.bn(raw) + raw


def rectified_for_one_only(net, x):
    x = net.bn(net.conv(x))
    return x.relu() + net.second(x)


def added_to_what_comes_later(net, x):
    x = net.bn(net.conv(x)).relu()
    out = net.second(x)
    return out + x.exp()


def broadcast(net, x):
    x = net.conv(x)
    return net.second(x) + x[:, :1] * 0 + x.mean((2, 3), keepdim=True)


def called_twice(net, x):
    x = net.bn(net.conv(x)).relu()
    return net.bn2(net.second(net.bn2(net.second(x)).relu()))


def depends_on_the_images(net, x):
    return net.bn(net.conv(x)) if x.mean() > 0.4 else net.bn(net.conv(x)).relu()


def under_autocast(net, x):
    with torch.autocast("cpu", torch.bfloat16):
        return net.second(net.conv(x)).float()


# How the convolutions are joined; how many passes over memory are left on a CPU besides the convolutions' and amax; how
# many of the two convolutions do what is after them on CUDA, where only a ReLU at the end is a reason.
JOINS = [
    (residual, 0, 2), (shortcut_first, 0, 1), (used_raw_too, 2, 0), (rectified_for_one_only, 1, 0),
    (added_to_what_comes_later, 2, 1), (broadcast, 5, 0), (called_twice, 5, 1),
]  # fmt: skip


def check(model, images, device="cpu"):
    """Compare a copy, also on fewer images than it was made with, with the network in float64; gives the copy."""
    model, images = model.to(device), images.to(device)
    copied = inference_copy(model, images)
    with torch.inference_mode():
        truth = model.double()(images.double())
        for count in (len(images), 3):
            logits = copied(images[:count].contiguous(memory_format=torch.channels_last))
            assert (logits - truth[:count]).abs().max() < 5e-6 * truth.abs().max()
    return copied


def steps(copied):
    """What a copy does besides its convolutions and the reduction at the end."""
    modules = dict(copied.named_modules())
    return [
        node for node in copied.graph.nodes
        if node.op not in ("placeholder", "output", "get_attr") and node.target != "amax"
        and not isinstance(modules.get(node.target), FusedConvolution)
    ]  # fmt: skip


@on_devices
@pytest.mark.parametrize(("join", "left", "fused"), JOINS, ids=lambda value: getattr(value, "__name__", None))
def test_a_copy_computes_what_the_network_computes(join, left, fused, device):
    copied = check(randomize(Net(join)), torch.rand(9, 3, 12, 12), device)
    if device == "cpu":
        assert len(steps(copied)) == left, copied.code
    else:
        assert sum(isinstance(module, FusedConvolution) for module in copied.modules()) == fused, copied.code


@on_devices
@pytest.mark.parametrize(("architecture", "size"), [("small_inception", 32), ("cifar_resnet18", 32), ("resnet50", 64)])
def test_the_networks_of_the_experiments(architecture, size, device):
    copied = check(randomize(build_model(architecture)), torch.rand(5, 3, size, size), device)
    if device == "cpu" and architecture != "cifar_resnet18":  # whose batch norms come before the convolutions
        left = [getattr(node.target, "__name__", node.target) for node in steps(copied)]
        assert not any(word in name for name in left for word in ("relu", "bn", "conv", "add", "downsample"))
    if device == "cpu" and architecture == "resnet50":
        fused = [module for module in copied.modules() if isinstance(module, FusedConvolution)]
        assert sum(module.overwrites for module in fused) == 16  # all of its shortcuts


class Three(nn.Module):
    """Three convolutions and a shortcut, used as `use` says."""

    def __init__(self, use):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.third, self.fourth = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1)
        self.use = use

    def forward(self, x):
        return self.use(self, self.first(x).relu()).amax((2, 3))


def added_last(net, x):
    return (net.third(net.second(x).relu()) + x).relu()


def added_to_its_own_convolution(net, x):
    return net.third(net.second(x) + x)


def read_after_it_was_added(net, x):
    return net.second(x) * (net.third(net.fourth(x)) + x)  # second is computed first


def convolved_after_it_was_added(net, x):
    total = net.third(net.second(x)) + x
    return total + net.fourth(x)


def added_twice(net, x):
    once = (net.third(net.second(x)) + x).relu()
    return net.fourth(once) + x


def a_view_of_it_is_read_later(net, x):
    part = x[:, :4]
    return (net.third(net.second(x)) + x)[:, :4] * part


# How often what is added is overwritten.
USES = [
    (added_last, 1), (added_to_its_own_convolution, 0), (read_after_it_was_added, 1), (convolved_after_it_was_added, 1),
    (added_twice, 1), (a_view_of_it_is_read_later, 0),
]  # fmt: skip


@pytest.mark.parametrize(("use", "overwritten"), USES, ids=lambda value: getattr(value, "__name__", None))
def test_a_sum_takes_the_place_of_what_is_added_if_nothing_else_reads_that(use, overwritten):
    torch.manual_seed(0)
    copied = check(Three(use).eval(), torch.rand(9, 3, 12, 12))
    fused = [module for module in copied.modules() if isinstance(module, FusedConvolution)]
    assert len(fused) >= 3, "the copy gave other logits than the network"
    assert sum(module.overwrites for module in fused) == overwritten, copied.code


def test_images_that_are_added_stay_as_they_are():
    class Residual(nn.Sequential):
        def forward(self, x):
            return super().forward(x) + x

    torch.manual_seed(0)
    images = torch.rand(4, 8, 6, 6).contiguous(memory_format=torch.channels_last)
    before = images.clone()
    copied = inference_copy(Residual(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)), images)
    with torch.inference_mode():
        copied(images)
    assert torch.equal(images, before)


@pytest.mark.parametrize("join", [depends_on_the_images, under_autocast])
def test_what_has_no_graph_or_another_runs_as_it_is(join):
    model, images = randomize(Net(join)), torch.rand(4, 3, 12, 12)
    copied = inference_copy(model, images)
    assert type(copied) is Net
    with torch.inference_mode():
        assert torch.equal(
            copied(images.contiguous(memory_format=torch.channels_last)),
            model.to(memory_format=torch.channels_last)(images.contiguous(memory_format=torch.channels_last)),
        )


def test_networks_of_other_threads_run_while_one_is_traced():
    other, images = nn.Sequential(nn.Linear(4, 2)).requires_grad_(False), torch.zeros(1, 3, 8, 8)
    seen, before = [], nn.Module.__call__

    class Waiting(nn.Module):
        """While it is traced, or called, another thread calls another network."""

        def __init__(self):
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 10, 3), nn.BatchNorm2d(10)

        def forward(self, x):
            with ThreadPoolExecutor(1) as pool:
                seen.append(pool.submit(other, torch.zeros(5, 4)).exception())
            return self.bn(self.conv(x)).amax((2, 3))

    assert "bn" not in inference_copy(Waiting(), images).code
    assert seen
    assert set(seen) == {None}
    with ThreadPoolExecutor(4) as pool:  # copies at once, too
        found = list(pool.map(lambda _: inference_copy(Net(residual), images)(images), range(40)))
    assert len(found) == 40
    assert nn.Module.__call__ is before


def test_a_convolution_of_another_kind_stays_as_it_is():
    model = randomize(Net(residual))
    model.conv = Scaled(3, 10, 3)
    copied = check(model, torch.rand(4, 3, 12, 12))
    assert len(steps(copied)) == 3  # it, its batch norm and the ReLU
    assert type(copied.conv) is Scaled
    assert type(copied.bn) is nn.BatchNorm2d


def test_the_network_itself_is_left_alone():
    model = randomize(Net(residual)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    inference_copy(model, torch.rand(4, 3, 12, 12))
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@on_devices
def test_a_bfloat16_copy_is_near_and_takes_bfloat16(device):
    if not has_bfloat16(torch.device(device)):
        pytest.skip("this processor has no bfloat16 instructions")
    model, images = randomize(Net(residual)).to(device), torch.rand(6, 3, 12, 12, device=device)
    copied = lower_copy(inference_copy(model, images), model, images, torch.bfloat16)
    with torch.inference_mode():
        logits, truth = copied(images.bfloat16().contiguous(memory_format=torch.channels_last)), model(images)
    assert logits.dtype == torch.bfloat16
    assert (logits - truth).abs().max() < 0.05 * truth.abs().max()


def test_a_network_that_works_in_float32_only_has_no_copy_in_fewer_bits():
    class Float32(Net):
        def forward(self, x):
            return super().forward(x) + torch.ones(x.shape[0], 5) @ torch.ones(5, 10, dtype=x.dtype)

    model, images = randomize(Float32(residual)), torch.rand(4, 3, 12, 12)
    assert lower_copy(inference_copy(model, images), model, images, torch.bfloat16) is None


@on_devices
def test_a_copy_that_was_begun_before_there_were_images_is_the_same(device):
    model, images = randomize(build_model("small_inception")).eval(), torch.rand(2, 3, 16, 16).to(device)
    begun = begin_copy(model, torch.device(device))
    for copied in (inference_copy(model, images, begun), inference_copy(model, images)):
        assert sum(isinstance(module, FusedConvolution) for module in copied.modules()) == 19
        assert {parameter.device.type for parameter in copied.parameters()} == {device}
        assert torch.equal(copied(images), inference_copy(model, images)(images))
