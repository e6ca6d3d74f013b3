"""Many runs on one or several devices.

Also of evaluation/workers.py.
"""

import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from tempfile import TemporaryDirectory

import pytest
import torch

from heldout_torch.data import ArrayDataset, load_digits
from heldout_torch.errors import DataError, DeviceError, HeldoutError
from heldout_torch.evaluation import precision, workers
from heldout_torch.evaluation.devices import turn_on
from heldout_torch.evaluation.provenance import Provenance
from heldout_torch.evaluation.save import save_runs
from heldout_torch.evaluation.sweep import sweep
from heldout_torch.evaluation.verify import verify_runs
from heldout_torch.zoo import load_run, sample_zoo
from heldout_torch.zoo.open import open_writable, open_zoo
from tests.helpers.devices import on_cuda


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


def test_no_runs_are_none_on_several_devices_too():
    """As when a sweep that was finished is begun again."""
    place = open_zoo(sample_zoo())
    for devices in (["cpu"], ["cpu", "cpu"]):
        assert list(sweep(verify_runs, [], place, load_digits(), devices, lambda n: None)) == []


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
    assert str(error.value) == "a process died with exit code 7; no device is left; run it again to continue"
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


@on_cuda
def test_the_next_run_is_read_while_a_gpu_computes(device, monkeypatch):
    zoo, computing, met = open_zoo(sample_zoo()), threading.Event(), threading.Event()
    genuine = zoo.state

    def state(key):
        if key.run == 1 and computing.wait(20):
            met.set()
        return genuine(key)

    def work(runs, dataset, device, progress):
        with turn_on(device):
            if runs[0].key.run == 0:
                computing.set()
                assert met.wait(20)
            return verify_runs(runs, dataset, device, progress)

    monkeypatch.setattr(zoo, "state", state)
    found = dict(sweep(work, zoo.keys(), zoo, load_digits(), [device], lambda n: None))
    assert [key.run for key in found] == list(range(6))
    assert {result.matches for result in found.values()} == {1797}


def verified(runs, dataset, device):
    return verify_runs(runs, dataset, device, None)


def saved(runs, dataset, device):
    zoo = open_zoo(sample_zoo())
    with TemporaryDirectory() as folder, open_writable(folder) as out:
        out.declare(zoo.experiment(runs[0].key.experiment))
        made = Provenance(zoo, out, dataset.digest(), None)
        return save_runs(runs, dataset, device, lambda n: None, out=out, made=made)


@on_cuda
@pytest.mark.parametrize("work", [verified, saved])
def test_copies_are_begun_while_a_gpu_computes_others(device, work, monkeypatch):
    begun, genuine, run = threading.Event(), precision.begin_copy, load_run("digits-mlp-tf", 0.7, 0)

    def begin(*arguments):
        begun.set()
        return genuine(*arguments)

    monkeypatch.setattr(precision, "begin_copy", begin)
    with ThreadPoolExecutor(1) as pool:
        with turn_on(device):
            done = pool.submit(work, [run], load_digits(), device)
            assert begun.wait(20)
        assert not isinstance(done.result()[0], HeldoutError)


@on_cuda
@pytest.mark.parametrize("work", [verified, saved])
def test_a_gpu_computes_all_splits_of_a_run_before_another(device, work, monkeypatch):
    """If it went from run to run between splits, both would be done, and written, at the same time."""
    splits, free, turn = [], [], turn_on(device)
    genuine_batches, genuine_labels = ArrayDataset.batches, ArrayDataset.labels

    def batches(self, split, size, *place):
        splits.extend([split] if place else [])  # or it is looked at on the CPU
        return genuine_batches(self, split, size, *place)

    def labels(self, split):  # which evaluation asks for before it takes a turn for a split
        if len(splits) == 1:
            with ThreadPoolExecutor(1) as another:
                free.append(another.submit(takes_turn).result())
        return genuine_labels(self, split)

    def takes_turn():
        if taken := turn.acquire(timeout=0.3):
            turn.release()
        return taken

    monkeypatch.setattr(ArrayDataset, "batches", batches)
    monkeypatch.setattr(ArrayDataset, "labels", labels)
    work([load_run("digits-mlp-tf", 0.7, 0)], load_digits(), device)
    assert sorted(splits) == ["test", "train"]
    assert free == [False]


def rendezvous(device):
    """Return what does tasks, of which the first needs the second beside it in the same process."""
    both, met = threading.Barrier(2, timeout=20), threading.Event()

    def do(task, tell):
        if not met.is_set():
            both.wait()
            met.set()
        tell(task)
        return [(task, os.getpid())]

    return do


def test_a_process_may_do_two_tasks_at_once(monkeypatch):
    monkeypatch.setattr(workers, "tasks_at_once", lambda device: 2)
    told = []
    for devices in (["cpu"], ["cpu", "cpu"]):
        found = dict(workers.spread(rendezvous, range(8), devices, told.append))
        assert sorted(found) == list(range(8))
        assert len(set(found.values())) == len(devices)
    assert sorted(told) == sorted([*range(8)] * 2)


def die_in_the_first(folder, device):
    """Return what does tasks; the first ends its process, in which another one has begun by then."""
    begun = threading.Event()

    def do(task, tell):
        if task == 0 and is_first(folder):
            begun.wait(20)
            os._exit(7)
        if task == 2:
            begun.set()
            time.sleep(1)
        return [task]

    return do


def test_all_tasks_of_a_process_that_dies_go_to_the_others(monkeypatch, tmp_path):
    monkeypatch.setattr(workers, "tasks_at_once", lambda device: 2)
    with pytest.warns(match="died with exit code 7"):
        found = list(workers.spread(partial(die_in_the_first, tmp_path), range(5), ["cpu"] * 2, lambda told: None))
    assert sorted(found) == list(range(5))
