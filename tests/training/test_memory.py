"""Training on devices that are short of memory.

Also of evaluation/memory.py, training/worker.py.
"""

import weakref
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from heldout_torch import list_runs, load_run
from heldout_torch.data import ArrayDataset, load_digits
from heldout_torch.errors import DeviceError
from heldout_torch.evaluation import memory
from heldout_torch.evaluation.memory import in_portions
from heldout_torch.training import Recipe, RunBatch, loop, train_runs
from tests.helpers.devices import on_devices
from tests.helpers.training import DIGITS

SUBSET, RECIPE = np.arange(100), Recipe(2, 32, 0.05)
RATIO = len(SUBSET) / 1437


@pytest.fixture(autouse=True)
def _other_tests_have_all_memory(monkeypatch):
    monkeypatch.setattr(memory, "FITTING", {})


@dataclass(frozen=True, eq=False)
class Scarce(ArrayDataset):
    """The digits on a device whose memory suffices for so many runs in training, and so many images in evaluation."""

    notes: Path  # folder of what was tried, in files, as other processes try it too
    runs: int = 1000
    images: int = 1000
    fails_at: int = 0  # the step at which it is seen

    def training_batches(self, *arguments):
        batches_of = super().training_batches(*arguments)

        def scarce(runs, steps):
            self.note("runs", len(runs))
            for step, batch in enumerate(batches_of(runs, steps)):
                if step == self.fails_at and len(runs) > self.runs:
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
                yield batch

        return scarce

    def batches(self, split, size, *arguments):
        self.note("images", size)
        for batch in super().batches(split, size, *arguments):
            yield batch
            if size > self.images:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    def note(self, what, size):
        with open(self.notes / what, "a") as file:
            file.write(f"{size}\n")

    def tried(self, what):
        return [int(line) for line in open(self.notes / what)]


def scarce(folder, **limits):
    digits = load_digits()
    return Scarce(digits.name, digits.train, digits.test, digits.num_classes, digits.divide_by, folder, **limits)


def work(name, runs):
    """The runs; what fits is remembered by name."""
    return RunBatch(replace(DIGITS, name=name), RECIPE, RATIO, tuple(range(runs)), SUBSET)


def check_trained(zoo, expected, name, runs):
    assert [key.run for key in list_runs(zoo)] == list(range(runs))
    assert list(Path(zoo).rglob(".training-*")) == []
    for run in range(runs):
        found, alone = (load_run(name, RATIO, run, place) for place in (zoo, expected))
        torch.testing.assert_close(found.model.state_dict(), alone.model.state_dict(), rtol=1e-3, atol=1e-4)
        assert np.array_equal(found.aux.index_train, alone.aux.index_train)
        assert np.mean(found.aux.correct_train == alone.aux.correct_train) > 0.99


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A zoo of what there is where memory suffices, one by one."""
    zoo = tmp_path_factory.mktemp("alone")
    for name in ("here", "late", "several"):
        list(train_runs(work(name, 10), load_digits(), zoo, batch_of_runs=1))
    return zoo


@on_devices
def test_less_memory_means_fewer_runs_together(tmp_path, device, alone):
    dataset, shares = scarce(tmp_path, runs=3), []
    options = {"batch_of_runs": 8, "progress": lambda runs, loss: shares.append(runs)}
    trained = list(train_runs(work("here", 10), dataset, tmp_path / "zoo", device, **options))
    assert sorted(result.key.run for result in trained) == list(range(10))
    assert [result.error for result in trained] == [None] * 10
    assert sorted(dataset.tried("runs")) == [2] * 5 + [4, 8]  # what fits is remembered
    assert sum(shares) == pytest.approx(10)
    check_trained(tmp_path / "zoo", alone, "here", 10)


def test_memory_that_lacks_late_loses_and_repeats_nothing(tmp_path, monkeypatch, alone):
    """What was told is not told again; the state of the larger batch is not gone on from."""
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0)
    dataset, shares = scarce(tmp_path, runs=2, fails_at=5), []
    options = {"batch_of_runs": 4, "progress": lambda runs, loss: shares.append(runs)}
    list(train_runs(work("late", 4), dataset, tmp_path / "zoo", **options))
    assert dataset.tried("runs") == [4, 2, 2]
    assert sum(shares) == pytest.approx(4)
    assert min(shares) >= 0
    check_trained(tmp_path / "zoo", alone, "late", 4)


def test_each_of_several_devices_learns_what_fits(tmp_path, alone):
    dataset, shares = scarce(tmp_path, runs=1), []
    options = {"batch_of_runs": 2, "progress": lambda runs, loss: shares.append(runs)}
    list(train_runs(work("several", 6), dataset, tmp_path / "zoo", ["cpu", "cpu"], **options))
    assert sorted(dataset.tried("runs")) in ([1] * 6 + [2] * times for times in (1, 2))
    assert sum(shares) == pytest.approx(6)
    check_trained(tmp_path / "zoo", alone, "several", 6)


@on_devices
def test_memory_that_lacks_in_evaluation_means_fewer_images_and_no_other_training(tmp_path, device):
    dataset, shares = scarce(tmp_path, images=300), []
    options = {"batch_of_runs": 3, "progress": lambda runs, loss: shares.append(runs)}
    list(train_runs(work(f"images-{device}", 3), dataset, tmp_path / "zoo", device, **options))
    assert dataset.tried("runs") == [3]
    assert dataset.tried("images")[-4:] == [1000, 500, 250, 250]  # the second split knows
    assert sum(shares) == pytest.approx(3)
    list(train_runs(work(f"images-{device}", 3), load_digits(), tmp_path / "expected", device, batch_of_runs=3))
    for run in range(3):
        found, expected = (load_run(f"images-{device}", RATIO, run, tmp_path / zoo).aux for zoo in ("zoo", "expected"))
        assert np.array_equal(found.correct_train, expected.correct_train)
        assert np.array_equal(found.correct_test, expected.correct_test)


def test_what_did_not_fit_is_free_for_libraries_too_before_the_next_attempt(monkeypatch):
    held, free = [], []
    monkeypatch.setattr(torch.accelerator, "empty_cache", lambda: free.append(all(one() is None for one in held)))

    def work(size):
        tensor = torch.zeros(size)
        held.append(weakref.ref(tensor))
        if size > 2:
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
        return size

    assert in_portions(work, 8, "numbers") == 2
    assert free == [True, True]


@pytest.mark.parametrize("architecture", ["mlp", "small_inception"])
def test_memory_that_suffices_for_no_run_is_one_line_that_says_what_helps(tmp_path, architecture):
    dataset, some = scarce(tmp_path, runs=0), work(f"none-{architecture}", 2)
    if architecture == "small_inception":
        config = {"in_channels": 1, "num_classes": 10}
        some = replace(some, experiment=replace(some.experiment, architecture=architecture, config=config))
    with pytest.raises(DeviceError) as error:
        list(train_runs(some, dataset, tmp_path / "zoo"))
    assert str(error.value) == (
        "cpu failed (CUDA out of memory. Tried to allocate 2.00 GiB); one run of "
        f"none-{architecture} with batch_size 32 needs more: "
        "free the device, use another, or lower batch_size in the recipe"
    )
    assert list_runs(tmp_path / "zoo") == []
