"""A step that is replayed is the step that is made: on the pretended device, and on a GPU."""

import pytest
import torch
from torch import nn

from heldout_torch.data import load_digits
from heldout_torch.models import register_architecture
from heldout_torch.training.network import Network
from tests.helpers.devices import on_cuda, only_pretended, skip_if_pretended
from tests.pretend_cuda import pretended_cuda

pytestmark = pytest.mark.usefixtures("exact_float32")
SIZES = (6, 6, 2, 6, 2, 2)  # of batches: both are made, then recorded, then replayed


def batches(sizes=SIZES):
    random = torch.Generator().manual_seed(0)
    for size in sizes:
        yield torch.rand(1, size, 1, 8, 8, generator=random), torch.randint(10, (1, size), generator=random)


def train(network, some, device, first=0):
    """Make steps, each of another rate, and return their losses."""
    return [
        network.step(images.to(device), labels.to(device), 0.002 * (step + 1)).item()
        for step, (images, labels) in enumerate(some, first)
    ]


class Small(nn.Module):
    """A convolution, a norm and a linear layer."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4, momentum=0.1), nn.Linear(4, 10)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x)).relu().amax(dim=(2, 3)))


class Moody(Small):
    """A network that does something else at each call."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x) * self.calls


class Waiting(Small):
    """A network that looks at its numbers."""

    def forward(self, x):
        return super().forward(x) * (2 if x.sum().item() > 0 else 1)


def network(device, kind=Small, replayable=True, bf16=False):
    register_architecture(kind.__name__, kind, replayable=replayable)
    return Network(kind.__name__, {}, 0, 0.9, 0.01, bf16, device)


def assert_near(one, other):
    for name, tensor in one.run_state(0).items():
        torch.testing.assert_close(other.run_state(0)[name], tensor, rtol=1e-3, atol=1e-4)


@on_cuda
def test_steps_on_a_gpu_are_those_of_the_cpu(device):
    """Of all sizes, with the rate, the decay of the norms' averages and the batch of each."""
    here, there = network("cpu"), network(device)
    assert train(there, batches(), device) == pytest.approx(train(here, batches(), "cpu"), rel=1e-3)
    assert_near(here, there)


@on_cuda
def test_what_is_saved_is_enough_to_go_on_with_other_recordings_or_the_same(device):
    parts = list(batches())
    whole, first, second = (network(device) for _ in range(3))
    expected = train(whole, parts, device)
    train(first, parts[:3], device)
    saved = {name: tensor.clone() for name, tensor in first.tensors().items()}
    train(first, parts[3:], device)  # and back again
    for one in (first, second):
        one.load(saved, 3)
        assert train(one, parts[3:], device, 3) == pytest.approx(expected[3:], rel=1e-3)
        assert_near(whole, one)


@on_cuda
def test_losses_of_earlier_steps_stay(device):
    there = network(device)
    losses = [there.step(images.to(device), labels.to(device), 0.01) for images, labels in batches()]
    assert len({loss.item() for loss in losses}) == len(SIZES)


@on_cuda
def test_a_step_in_bf16_is_replayed(device):
    skip_if_pretended(device, "casting under autocast")
    losses = [train(network(device, bf16=bf16), batches(), device) for bf16 in (False, True)]
    assert losses[1] == pytest.approx(losses[0], rel=0.1)
    assert losses[1] != losses[0]


@on_cuda
def test_a_network_that_does_not_say_that_it_can_be_is_not_replayed(device):
    here, there = (network(place, Moody, replayable=False) for place in ("cpu", device))
    some = list(batches([6] * 3))
    assert train(there, some, device) == pytest.approx(train(here, some, "cpu"), rel=1e-2)


@on_cuda
def test_a_default_dtype_of_a_notebook_changes_no_rate_and_no_average(device):
    some = list(batches([6]))
    torch.set_default_dtype(torch.float64)
    try:
        there = network(device)
        train(there, some, device)
        (averages,) = there._averages
        numbers = [there._optimizer.param_groups[0]["lr"], *averages.kept(), averages._momentum]
    finally:
        torch.set_default_dtype(torch.float32)
    assert {number.dtype for number in numbers} == {torch.float32}


@only_pretended
def test_each_size_of_batch_is_recorded_once_and_replayed_as_one_launch():
    with pretended_cuda() as journal:
        there, counts = network("cuda"), []
        for images, labels in batches([6] * 4):
            journal.launches.clear()
            there.step(images.to("cuda"), labels.to("cuda"), 0.01)
            counts.append((journal.launches["replay"], sum(journal.launches.values())))
    assert [replays for replays, _ in counts] == [0, 1, 1, 1]
    assert counts[0][1] > 25
    assert counts[3][1] < 10
    assert journal.finish() == []


@only_pretended
def test_a_step_that_waits_for_the_device_cannot_be_recorded():
    with pretended_cuda():
        there = network("cuda", Waiting)
        with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
            train(there, batches([6, 6]), "cuda")


@only_pretended
def test_recordings_are_let_go_of_before_evaluation():
    with pretended_cuda() as journal:
        there = network("cuda")
        train(there, batches([6, 6, 6]), "cuda")
        there.correct(load_digits(), "test", lambda count: None)
        journal.launches.clear()
        train(there, batches([6]), "cuda")
        assert journal.launches["replay"] == 1  # after it was recorded anew
