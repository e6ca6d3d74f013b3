"""Many runs on one or several devices.

Also of evaluation/workers.py.
"""

import os
import shutil
from functools import partial

import pytest
import torch

from heldout_torch.data import load_digits
from heldout_torch.errors import DataError, DeviceError, HeldoutError
from heldout_torch.evaluation.sweep import sweep
from heldout_torch.evaluation.verify import verify_runs
from heldout_torch.zoo import sample_zoo
from heldout_torch.zoo.open import open_zoo


class Streamed:
    """The digits as a data set that is not held whole, counting how often it is gone through."""

    def __init__(self):
        self.inner, self.passes = load_digits(), 0
        self.name, self.num_classes, self.labels = self.inner.name, self.inner.num_classes, self.inner.labels
        self.preprocessing, self.in_memory = self.inner.preprocessing, False

    def to(self, device):
        return self

    def batches(self, *arguments):
        self.passes += 1
        return self.inner.batches(*arguments)


def results(*devices, work=verify_runs, zoo=None, dataset=None, counts=None):
    place = open_zoo(zoo or sample_zoo())
    progress = (lambda n: None) if counts is None else counts.append
    return {
        run.run: result for run, result in sweep(work, place.keys(), place, dataset or load_digits(), devices, progress)
    }


def test_two_processes_find_what_one_finds():
    one_counts, two_counts = [], []
    one, two = results("cpu", counts=one_counts), results("cpu", "cpu", counts=two_counts)
    assert {run: result.matches for run, result in one.items()} == dict.fromkeys(range(6), 1797)
    assert {run: result.matches for run, result in two.items()} == dict.fromkeys(range(6), 1797)
    assert sum(one_counts) == sum(two_counts) == 6 * 1797


def test_several_runs_share_a_pass_over_data_that_is_not_held_whole():
    dataset = Streamed()
    assert {result.matches for result in results("cpu", dataset=dataset).values()} == {1797}
    assert dataset.passes == 2  # train and test


def test_a_damaged_run_does_not_stop_the_others(tmp_path):
    zoo = shutil.copytree(sample_zoo(), tmp_path / "tree")
    index = zoo / "digits-mlp-tf" / "0.7" / "1" / "checkpoints" / "ckpt-30.index"
    index.write_bytes(index.read_bytes()[:-20])
    (zoo / "digits-mlp-tf" / "0.7" / "4" / "aux_arrays.npz").unlink()
    for dataset in (load_digits(), Streamed()):
        found = results("cpu", zoo=zoo, dataset=dataset)
        assert {run for run, result in found.items() if isinstance(result, HeldoutError)} == {1, 4}
        assert all(found[run].matches == 1797 for run in (0, 2, 3, 5))


def refuse(runs, dataset, device, progress):
    raise DataError("the data set is bad")


def die(runs, dataset, device, progress):
    os._exit(7)


def die_once(folder, runs, dataset, device, progress):
    """Be killed at the first run, and verify all others."""
    if is_first(folder):
        os._exit(7)
    return verify_runs(runs, dataset, device, progress)


def lose_the_device_once(folder, runs, dataset, device, progress):
    if is_first(folder):
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with ...")
    return verify_runs(runs, dataset, device, progress)


def is_first(folder):
    try:
        (folder / "first").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def test_an_error_of_the_data_set_ends_the_sweep():
    with pytest.raises(DataError, match="the data set is bad"):
        results("cpu", "cpu", work=refuse)


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (die_once, "a process died with exit code 7; the other devices go on without cpu"),
        (
            lose_the_device_once,
            r"cpu failed \(CUDA error: an illegal memory access was encountered Compile with ...\);",
        ),
    ],
)
def test_runs_of_a_device_that_fails_go_to_the_others(work, said, tmp_path):
    with pytest.warns(match=said):
        found = results("cpu", "cpu", work=partial(work, tmp_path))
    assert {run: result.matches for run, result in found.items()} == dict.fromkeys(range(6), 1797)


def test_a_sweep_ends_with_its_last_device(tmp_path):
    with pytest.warns(match="the other devices go on"), pytest.raises(HeldoutError) as error:
        results("cpu", "cpu", work=die)
    assert str(error.value) == "a process died with exit code 7; no device is left: call again to go on"
    with pytest.raises(DeviceError, match=r"^cpu failed \(CUDA error: an illegal memory access"):
        results("cpu", work=partial(lose_the_device_once, tmp_path))


def in_shared_memory(runs, dataset, device, progress):
    return [dataset.train.images.is_shared()] * len(runs)


def test_the_data_set_goes_to_other_processes_without_shared_memory():
    """Of which a container has 64 MB, less than CIFAR's."""
    assert set(results("cpu", "cpu", work=in_shared_memory).values()) == {False}


def count_threads(runs, dataset, device, progress):
    return [torch.get_num_threads()] * len(runs)


@pytest.mark.parametrize(("variable", "expected"), [(None, {2}), ("1", {1})])
def test_processes_of_one_machine_share_its_threads(monkeypatch, variable, expected):
    if variable is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        assert set(results("cpu", "cpu", work=count_threads).values()) == expected
    finally:
        torch.set_num_threads(before)
