"""Devices that fail or are short of memory, and what is asked of them how often."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from heldout_torch.data import load_digits
from heldout_torch.devices import all_devices
from heldout_torch.errors import DataError, DeviceError
from heldout_torch.evaluation import evaluate, precision, verify
from heldout_torch.evaluation.evaluate import evaluate_together
from heldout_torch.evaluation.inference import inference_copy
from heldout_torch.evaluation.predict import predict
from heldout_torch.evaluation.provenance import Provenance
from heldout_torch.evaluation.save import save_runs
from heldout_torch.training.network import Network
from heldout_torch.zoo import Run, load_run
from heldout_torch.zoo.open import open_writable, open_zoo
from tests.evaluation.test_evaluate import random_dataset, random_inception
from tests.helpers.devices import on_cuda, on_devices, only_pretended
from tests.pretend_cuda import pretended_cuda

DIGITS = load_digits()
SAMPLE = "digits-mlp-tf", 0.7


@pytest.fixture
def memory():
    """A kind of network that takes so many images at once, and notes how many it was asked for."""

    class Limited(nn.Module):
        limit, asked = 0, []
        error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

        def __init__(self):
            super().__init__()
            self.inner = load_run(*SAMPLE, 0).model

        def forward(self, x):
            if x.dtype == torch.float32:
                self.asked.append(len(x))
            if len(x) > self.limit:
                raise self.error
            return self.inner(x)

    return Limited


LIBRARIES = {
    "cuBLAS": "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "driver": "CUDA error: out of memory",
    "CPU": "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to ...",
}


@on_devices
@pytest.mark.parametrize("said", LIBRARIES.values(), ids=LIBRARIES)
def test_memory_that_a_library_lacks_means_smaller_batches_too(device, memory, said):
    memory.limit, memory.error = 20, RuntimeError(said)
    assert len(evaluate(memory(), DIGITS, "test", device=device).predicted) == 360


@on_devices
def test_less_memory_means_smaller_batches(device, memory):
    memory.limit = 20
    told, expected = [], evaluate(load_run(*SAMPLE, 0).model, DIGITS, "test")
    found = evaluate(memory(), DIGITS, "test", device=device, progress=told.append)
    assert np.array_equal(found.predicted, expected.predicted)
    assert sum(told) == 360
    memory.asked.clear()
    evaluate(memory(), DIGITS, "train", device=device)  # what fits is remembered
    assert max(memory.asked) <= 20


@on_cuda
def test_a_smaller_batch_is_not_filled_up_as_the_larger_one_was(device, memory):
    memory.limit = 40
    evaluate(memory(), DIGITS, "test", device=device, batch_size=150)
    assert memory.asked.count(37) == 360 // 37 + 1


def test_memory_that_suffices_for_no_image_is_one_line(memory):
    with pytest.raises(DeviceError, match=r"^cpu failed \(CUDA out of memory. Tried to allocate 2.00 GiB\)$"):
        evaluate(memory(), DIGITS, "test")


class Broken(nn.Module):
    def forward(self, x):
        raise torch.AcceleratorError("CUDA error: an illegal memory access\nCompile with ...")


def test_a_broken_device_is_no_network_that_cannot_take_images():
    with pytest.raises(DeviceError, match=r"^cpu failed .*illegal memory access Compile with"):
        evaluate(Broken(), DIGITS, "test")
    run = load_run(*SAMPLE, 0)
    with pytest.raises(DeviceError, match=r"^cpu failed"):
        predict([Run(Broken(), run.metadata, None)], torch.zeros(2, 1, 8, 8))
    with pytest.raises(DataError, match="cannot take images"):
        evaluate(nn.Linear(3, 3), DIGITS, "test")


def copies(monkeypatch, work):
    """How many copies for inference some work makes."""
    made, genuine = [], precision.inference_copy
    monkeypatch.setattr(precision, "inference_copy", lambda *given: made.append(1) or genuine(*given))
    work()
    return len(made)


def test_a_network_is_copied_once_for_all_splits(monkeypatch, tmp_path):
    assert copies(monkeypatch, lambda: verify(load_run(*SAMPLE, 0), DIGITS)) == 1
    zoo, out, runs = open_zoo(), open_writable(str(tmp_path / "out")), [load_run(*SAMPLE, run) for run in (0, 1)]
    save = partial(save_runs, out=out, made=Provenance(zoo, out, DIGITS.digest(), None))
    with out:
        out.declare(zoo.experiment(SAMPLE[0]))
        assert copies(monkeypatch, lambda: save(runs, DIGITS, "cpu", lambda count: None)) == 2
    network = Network("small_inception", {"in_channels": 1}, 2, 0.9, 0.0, False, "cpu")
    work = lambda: [network.correct(DIGITS, split, lambda count: None) for split in ("test", "train")]  # noqa: E731
    assert copies(monkeypatch, work) == 1
    network.step(torch.zeros(1, 4, 1, 8, 8), torch.zeros(1, 4, dtype=torch.int64), 0.1)
    assert copies(monkeypatch, work) == 1  # and anew after a step


@on_devices
def test_the_tie_margin_is_measured_at_the_size_of_the_pass(device, memory):
    """For another number of images a GPU may choose another algorithm."""
    run, memory.limit = load_run(*SAMPLE, 0), 10**6
    aux = run.aux
    aux.correctness_test[3] = 1 - aux.correctness_test[3]

    class Place:
        def aux(self, key):
            return aux

    verification = verify(Run(memory(), run.metadata, Place()), DIGITS, device=device)
    assert verification.tie_margin > 0
    assert memory.asked.count(16) == 0


@only_pretended
@pytest.mark.parametrize(("how", "a_batch", "at_the_end"), [("exact", 0, 3), ("fast", 1, 14)])
def test_the_host_waits_for_the_device_only_for_results_and_for_what_is_to_be_redone(how, a_batch, at_the_end):
    with pretended_cuda() as journal:
        there = DIGITS.to("cuda")
        for run in (0, 1):  # the labels are checked with the first
            prepared = precision.Prepared(load_run(*SAMPLE, run).model.to("cuda"))
            journal.syncs.clear()
            for split in ("train", "test"):
                evaluate_together([prepared], there, split, device="cuda", batch_size=100, precision=how)
    assert sum(journal.syncs.values()) <= a_batch * 19 + at_the_end, journal.syncs


@on_cuda
def test_what_is_computed_outside_a_pass_is_float32_too(device):
    """On a GPU whose convolutions are in TF32 otherwise, which is off by a thousand times as much."""
    model, images = random_inception(), random_dataset(20).train.images / 255
    run = load_run(*SAMPLE, 0)
    expected = predict(Run(model, run.metadata, None), images)
    found = predict(Run(model, run.metadata, None), images, device=device)
    assert (found - expected).abs().max() < 2e-5 * expected.abs().max()
    assert next(model.parameters()).device.type == "cpu"  # a copy went there
    error = precision.rounding_error(precision.Prepared(model), images.to(device), "exact")
    assert 0 < error < 2e-5 * expected.abs().max()


class FailsAgain(nn.Conv2d):
    """A convolution that no copy takes for one; the second call of any finds the device lost."""

    def forward(self, x):
        type(self).calls += 1
        if self.calls == 2:
            raise self.error
        return super().forward(x)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        torch.AcceleratorError("CUDA error: unspecified"),
        RuntimeError(LIBRARIES["cuBLAS"]),
    ],
)
def test_a_device_lost_while_copies_are_compared_is_no_network_that_cannot_be_copied(error):
    FailsAgain.error, FailsAgain.calls = error, 0
    with pytest.raises(type(error)):
        inference_copy(nn.Sequential(FailsAgain(3, 2, 1), nn.Flatten()), torch.zeros(2, 3, 4, 4))


@only_pretended
def test_all_gpus_are_used_unless_some_are_named():
    with pretended_cuda(devices=3):
        assert all_devices() == ["cuda:0", "cuda:1", "cuda:2"]


@on_cuda
def test_what_is_done_again_has_kernels_of_one_size(device):
    """A GPU seeks them for each, which takes longer than the computing."""

    seen = set()

    class Sizes(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = random_inception()

        def forward(self, x):
            if x.dtype == torch.float32:
                seen.add(len(x))  # a tracer cannot do that, so the network runs as it is
            return self.inner(x)

    found = evaluate(Sizes(), random_dataset(700), "train", device=device, precision="fast", batch_size=600)
    assert found.redone > 256
    assert seen == {32, 256}  # the images on which copies are compared, and those in 16 bits with float32
