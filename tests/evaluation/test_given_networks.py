"""Networks as users have them, and what users' programs have set: each is evaluated as its plain self in float32."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune, weight_norm

from heldout_torch.data import ArrayDataset, as_stored, load_digits
from heldout_torch.errors import DataError, DeviceError
from heldout_torch.evaluation import evaluate
from heldout_torch.evaluation.precision import Prepared, rounding_error
from heldout_torch.evaluation.predict import predict
from heldout_torch.zoo import Run, load_run
from tests.evaluation.bfloat16 import use_bfloat16
from tests.helpers.devices import on_devices, skip_if_pretended

DIGITS = load_digits()
IMAGES = (DIGITS.test.images.float() / 16).clone(memory_format=torch.contiguous_format)
RUN = load_run("digits-mlp-tf", 0.7, 0)


def plain():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(512, 10),
    )  # fmt: skip


def pruned():
    network = plain()
    for layer in (network[0], network[2]):
        prune.l1_unstructured(layer, "weight", 0.5)
    return network


def normalized(how):
    network = plain()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the older of the two
        network[0] = how(network[0])
    return network


def parallel():
    """As it is made where there is a GPU, but for its weights, which stay here."""
    network = nn.DataParallel(plain())
    network.module.cpu()
    network.device_ids, network.src_device_obj = [0], torch.device("cuda:0")
    return network


class Views(nn.Module):
    """As many older networks are written."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(1, 6, 3), nn.Linear(216, 10)

    def forward(self, x):
        x = self.first(x).relu()
        return self.last(x.view(len(x), 216))


class Capsules(nn.Module):
    """A network with a parameter of five dimensions."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(1, 64, 10, 1, 1))

    def forward(self, x):
        return (x.flatten(1)[:, :, None, None, None] * self.weight).sum((1, 3, 4))


NETWORKS = {
    "float64": lambda: plain().double(),
    "pruned": pruned,
    "weight norm": lambda: normalized(weight_norm),
    "parametrized": lambda: normalized(parametrizations.weight_norm),
    "compiled": lambda: torch.compile(plain(), backend="eager"),
    "parallel": parallel,
    "scripted": lambda: torch.jit.script(plain()),
    "views": Views,
    "capsules": Capsules,
    "dropout in training": lambda: nn.Sequential(plain(), nn.Dropout(0.5)).train(),
}


def evaluated(network, device="cpu"):
    """Logits of the test images, by evaluation and by prediction."""
    logits = torch.from_numpy(evaluate(network, DIGITS, "test", device=device, logits=True).logits)
    return logits, predict(Run(network, RUN.metadata, None), IMAGES, device=device)[0]


@on_devices
@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_a_network_of_any_kind_is_evaluated_as_it_is(make, device):
    if make in [NETWORKS[name] for name in ("scripted", "compiled", "parallel")]:
        skip_if_pretended(device, "tensors for them")
    network, reference = make(), make().float()
    reference = reference.module if isinstance(reference, nn.DataParallel) else reference
    training = network.training
    reference.eval()
    with torch.no_grad():
        expected = reference(IMAGES)
    for logits in evaluated(network, device):
        torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    assert network.training == training
    assert {tensor.device.type for tensor in network.state_dict().values()} == {"cpu"}


def test_half_precision_of_a_user_is_computed_in_float32():
    network = plain().bfloat16()
    rounded = plain()
    rounded.load_state_dict({name: tensor.float() for name, tensor in network.state_dict().items()})
    for found, expected in zip(evaluated(network), evaluated(rounded), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert network[0].weight.dtype == torch.bfloat16


def test_autocast_of_a_user_is_left_outside():
    """As in a validation step of a training in mixed precision."""
    network = plain()
    exact, error = evaluated(network), rounding_error(Prepared(network), IMAGES[:64], "exact")
    with torch.autocast("cpu", torch.bfloat16):
        found, again = evaluated(network), rounding_error(Prepared(network), IMAGES[:64], "exact")
        assert torch.is_autocast_enabled("cpu")
    for one, other in zip(found, exact, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert again == error


class Several(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :10], None


def test_a_network_that_gives_no_tensor_is_one_line():
    with pytest.raises(DataError, match=r"Several cannot take images .* \(it gives tuple, expected a tensor of logits"):
        evaluate(Several(), DIGITS, "test")


class Giving(nn.Module):
    """A network that gives what a function makes of its logits."""

    def __init__(self, give):
        super().__init__()
        self.give = give

    def forward(self, x):
        return self.give(x.flatten(1)[:, :10])


@pytest.mark.parametrize("precision", ["exact", "fast"])
@pytest.mark.parametrize(
    ("give", "told"),
    [
        (lambda logits: logits[1:], r"\(it gives \(31, 10\) for 32 images\)"),
        (lambda logits: torch.cat([logits, logits[:1]]), r"\(it gives \(33, 10\) for 32 images\)"),
        (torch.sum, r"\(it gives \(\) for 32 images\)"),
        (lambda logits: logits[: len(logits) // 32 * 32], ": Giving gives 32 rows for 40 images"),
    ],
)
def test_a_row_of_logits_for_each_image_or_one_line(give, told, precision):
    """It was a traceback, or rows that stood for other images."""
    with pytest.raises(DataError, match=told):
        evaluate(Giving(give), DIGITS, "test", precision=precision)
    with pytest.raises(DataError, match=r"run digits-mlp-tf/0.7/0 gives \(.*\) for 40 images"):
        predict(Run(Giving(give), RUN.metadata, None), IMAGES[:40])


class Words(nn.Module):
    """A network that takes images for numbers of words, the largest 3,000; bfloat16 would make it 3,008."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(3001, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.embedding(x.flatten(1).long()).mean(1))


def test_numbers_of_words_are_not_rounded_to_16_bits(monkeypatch):
    """It was an error about an index out of range; a GPU would have been lost to the process."""
    use_bfloat16(monkeypatch)
    words = torch.randint(0, 200, (40, 1, 1, 8), generator=torch.Generator().manual_seed(0))
    words[33:] = 3000  # behind the images on which a copy is tried
    texts = ArrayDataset("texts", *[as_stored(words, torch.arange(40) % 3)] * 2, num_classes=3, divide_by=1)
    network = Words()
    exact, fast = (evaluate(network, texts, "test", precision=how) for how in ("exact", "fast"))
    assert np.array_equal(exact.log_odds, fast.log_odds)


def test_one_class_is_nothing_to_tell_apart():
    """It was a traceback."""
    one = ArrayDataset("one", as_stored(IMAGES[:5], [0] * 5), as_stored(IMAGES[:5], [0] * 5), 1, 1)
    with pytest.raises(DataError, match="one: has 1 class, expected two or more"):
        evaluate(Giving(lambda logits: logits[:, :1]), one, "test")


class Scarce(nn.Module):
    """A network of which a device holds so many images at once."""

    def forward(self, x):
        if len(x) > 20:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x.flatten(1)[:, :10]


def test_less_memory_means_fewer_images_in_predictions_too():
    assert predict(Run(Scarce(), RUN.metadata, None), IMAGES).shape == (1, 360, 10)


class Lost(nn.Module):
    def forward(self, x):
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")


def test_a_device_that_is_lost_while_ties_are_measured_is_one_line():
    with pytest.raises(DeviceError, match=r"^cpu failed \(CUDA error: an illegal memory access"):
        rounding_error(Prepared(Lost()), IMAGES, "exact")
