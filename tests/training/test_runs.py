"""Trained runs: the subset, the file, the statistics they carry; interrupted, resumed, refused.

Also of training/preflight.py, training/run_batch.py, training/worker.py.
"""

import errno
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from heldout_torch import HeldoutError, ZooError, list_runs, load_run
from heldout_torch.cli import main
from heldout_torch.data import ArrayDataset, as_stored, load_digits
from heldout_torch.errors import DeviceError, UnwritableError
from heldout_torch.models import register_architecture, registry
from heldout_torch.stats import OutputTable
from heldout_torch.storage import files
from heldout_torch.training import Recipe, RunBatch, train_runs
from heldout_torch.training.preflight import check_work
from heldout_torch.training.subsets import draw_subset
from heldout_torch.training.worker import train_batch
from heldout_torch.zoo import known_experiments
from heldout_torch.zoo.folder import FolderZoo
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.open import open_writable
from tests.helpers.devices import PRETENDED, on_cuda, on_devices
from tests.helpers.training import DIGITS, SHORT, replace_labels, train, work
from tests.helpers.zoos import manifest_of

CONVOLUTIONS = replace(
    DIGITS, name="digits-inception", architecture="small_inception", config={"in_channels": 1, "num_classes": 10}
)


def tensors(zoo, experiment="digits-mlp", ratio=0.7):
    runs = [key for key in list_runs(zoo) if (key.experiment, key.subset_ratio) == (experiment, ratio)]
    return {key.run: load_run(experiment, ratio, key.run, zoo).model.state_dict() for key in runs}


def test_a_run_is_filed_with_what_it_saw_and_what_it_knows(tmp_path):
    digits = load_digits()
    assert {result.key for result in train(tmp_path)} == {RunKey("digits-mlp", 0.7, run) for run in range(4)}
    for run in range(4):
        loaded = load_run("digits-mlp", 0.7, run, tmp_path)
        expected = np.random.RandomState(run).choice(1437, 1005, replace=False)
        assert np.array_equal(loaded.aux.subsample_idx, expected)
        for split, correct in (("train", loaded.aux.correct_train), ("test", loaded.aux.correct_test)):
            rows = getattr(digits, split)
            with torch.inference_mode():
                predictions = loaded.model(rows.images.float() / 16).argmax(1)
            assert np.array_equal(correct, (predictions == rows.labels).numpy())
        assert loaded.metadata.recipe == {**asdict(SHORT), "drops": []}
        assert (loaded.metadata.epoch, loaded.metadata.global_step) == (3, 3 * 16)
        assert loaded.metadata.source_sha256 is None


@on_devices
def test_a_run_alone_is_the_run_in_a_stack(tmp_path, device):
    recipe = (
        known_experiments()["digits-mlp"].recipe if device == "cpu" else SHORT
    )  # a long training makes much of little
    for size in (1, 3, 4):
        train(tmp_path / str(size), 4, DIGITS, recipe, device=device, batch_of_runs=size)
    for other in ("3", "4"):
        torch.testing.assert_close(tensors(tmp_path / "1"), tensors(tmp_path / other), rtol=1e-3, atol=1e-4)
    several = tensors(tmp_path / "4")
    assert not torch.equal(several[0]["layers.0.weight"], several[1]["layers.0.weight"])


class Slow(FolderZoo):
    """A folder in which the first run to come waits until the next is being trained, and notes whether it was."""

    def __init__(self, root):
        super().__init__(root)
        self.next, self.came, self.written, self.beside = threading.Event(), threading.Lock(), threading.Event(), []

    def put(self, metadata, *rest, **options):
        if self.came.acquire(blocking=False):
            self.beside.append(self.next.wait(20))
        super().put(metadata, *rest, **options)
        self.written.set()


class Trained(ArrayDataset):
    """The digits, the second training of which waits until a run is written, so that it cannot be before or after."""

    def training_batches(self, *arguments):
        self.begun.append(1)
        if len(self.begun) == 2:
            self.zoo.next.set()
            self.zoo.beside.append(self.zoo.written.wait(20))
        return super().training_batches(*arguments)


@on_cuda
@pytest.mark.parametrize(("experiment", "size"), [(DIGITS, 2), (CONVOLUTIONS, None)], ids=["stacks", "networks"])
def test_a_run_is_written_while_the_next_is_trained(tmp_path, device, experiment, size):
    digits, zoo = load_digits(), Slow(tmp_path / "beside")
    dataset = Trained(digits.name, digits.train, digits.test, digits.num_classes, digits.divide_by)
    Trained.begun, Trained.zoo = [], zoo
    some = replace(work(4 if size else 2, experiment, Recipe(1, 64, 0.01), 100 / 1437, np.arange(100)))
    list(train_runs(some, dataset, zoo, device, size))
    assert zoo.beside == [True, True]
    for run in some.runs:  # one after the other they are the same
        list(train_runs(replace(some, runs=(run,)), digits, tmp_path / "alone", device))
    beside, alone = (tensors(place, experiment.name, 100 / 1437) for place in (zoo, tmp_path / "alone"))
    assert set(beside) == set(alone) == set(some.runs)
    # A GPU's sums of gradients are in no order, and a stack of another size has its products in another one.
    if experiment is CONVOLUTIONS and torch.cuda.get_device_name() == PRETENDED:
        for run in some.runs:
            assert all(torch.equal(tensor, alone[run][name]) for name, tensor in beside[run].items())


@on_cuda
def test_a_gpu_trains_one_batch_of_runs_at_a_time(tmp_path, device):
    """Though two are under way: a second one would change the settings of the first."""
    both, met = threading.Barrier(2), []

    class Meeting(ArrayDataset):
        def training_batches(self, *arguments):
            with suppress(threading.BrokenBarrierError):
                both.wait(1)
                met.append(1)
            return super().training_batches(*arguments)

    digits = load_digits()
    dataset = Meeting(digits.name, digits.train, digits.test, digits.num_classes, digits.divide_by)
    some = work(2, DIGITS, Recipe(1, 64, 0.01), 100 / 1437, np.arange(100))
    assert len(list(train_runs(some, dataset, tmp_path, device, 1))) == 2
    assert met == []


def test_memorization_finds_changed_labels(tmp_path):
    runs, digits = 100, load_digits()
    random = np.random.RandomState(0)
    changed = np.zeros(1437, bool)
    changed[random.choice(1437, 72, replace=False)] = True
    labels = digits.train.labels.clone()
    labels[changed] = (labels[changed] + torch.from_numpy(random.randint(1, 10, 72))) % 10
    digits = replace(digits, train=replace(digits.train, labels=labels))
    list(train_runs(work(runs, recipe=known_experiments()["digits-mlp"].recipe), digits, tmp_path))
    aux = [load_run("digits-mlp", 0.7, run, tmp_path).aux for run in range(runs)]
    inside, correct = (np.stack([getattr(one, name) for one in aux]) for name in ("trained_on", "correct_train"))
    memorization = (correct & inside).sum(0) / inside.sum(0) - (correct & ~inside).sum(0) / (~inside).sum(0)  # (n,)
    assert memorization[changed].mean() - memorization[~changed].mean() >= 0.5
    above = memorization[changed][:, None] - memorization[~changed]  # (changed, others)
    assert ((above > 0) + 0.5 * (above == 0)).mean() >= 0.95  # the area under the curve


def test_only_missing_runs_are_trained(tmp_path):
    train(tmp_path, 2)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("model.safetensors")}
    results = train(tmp_path, 4)
    assert [result.key.run for result in results if result.skipped] == [0, 1]
    assert sorted(result.key.run for result in results if not result.skipped) == [2, 3]
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())


def test_a_run_that_is_named_twice_is_trained_once(tmp_path):
    results = list(train_runs(RunBatch(DIGITS, SHORT, 0.7, (1, 0, 1)), load_digits(), tmp_path))
    assert sorted(result.key.run for result in results) == [0, 1]


@pytest.mark.parametrize("rate", [5.0, 1e6, 1e30])
def test_a_diverging_run_is_reported_and_not_written(tmp_path, rate):
    (result,) = train(tmp_path, 1, DIGITS, replace(SHORT, learning_rate=rate))
    assert "the loss diverged" in result.error
    assert list_runs(tmp_path) == []


def test_a_diverged_run_is_not_evaluated(tmp_path):
    class Unseen(ArrayDataset):
        def batches(self, *arguments):
            raise AssertionError("it is evaluated")

    digits, shares = load_digits(), []
    dataset = Unseen(digits.name, digits.train, digits.test, digits.num_classes, digits.divide_by)
    for experiment in (DIGITS, CONVOLUTIONS):
        # Its loss is not a number after the first epoch, and 59 more would change nothing.
        recipe = Recipe(60, 500, 1e30)
        with open_writable(tmp_path) as zoo:
            (result,) = train_batch(
                work(1, experiment, recipe), dataset, zoo, "cpu", lambda runs, loss: shares.append((runs, loss))
            )
        assert "the loss diverged" in result.error
    assert sum(runs for runs, _ in shares) == pytest.approx(2)
    assert sum(loss is not None for _, loss in shares) < 10


@pytest.mark.parametrize("experiment", [DIGITS, CONVOLUTIONS], ids=lambda experiment: experiment.architecture)
def test_evaluation_has_its_share_of_the_progress(tmp_path, experiment):
    shares = []
    recipe = Recipe(1, 64, 0.01)
    some = replace(work(1, experiment, recipe, 100 / 1437, np.arange(100)), runs=(7,))
    list(train_runs(some, load_digits(), tmp_path, progress=lambda runs, loss: shares.append((runs, loss))))
    assert sum(runs for runs, _ in shares) == pytest.approx(1)
    trained = max(place for place, (_, loss) in enumerate(shares) if loss is not None)
    assert sum(runs for runs, _ in shares[trained + 1 :]) == pytest.approx(1797 / (1797 + 3 * 100))
    assert len(shares) - trained > 2


@pytest.mark.parametrize("experiment", [DIGITS, CONVOLUTIONS], ids=lambda experiment: experiment.architecture)
def test_correctness_is_computed_in_exact_float32_whatever_the_notebook_allows(tmp_path, experiment):
    seen = []

    class Watched(ArrayDataset):
        def batches(self, *arguments):
            for batch in super().batches(*arguments):
                seen.append((torch.get_float32_matmul_precision(), torch.backends.cudnn.conv.fp32_precision))
                yield batch

    digits = load_digits()
    dataset = Watched(digits.name, digits.train, digits.test, digits.num_classes, digits.divide_by)
    some = replace(work(1, experiment, Recipe(1, 64, 0.01), 100 / 1437, np.arange(100)), runs=(7,))
    torch.set_float32_matmul_precision("medium")
    try:
        with open_writable(tmp_path) as zoo:
            zoo.declare(experiment)
            train_batch(some, dataset, zoo, "cpu", lambda runs, loss: None)
    finally:
        torch.set_float32_matmul_precision("highest")
    assert set(seen) == {("highest", "ieee")}


@pytest.mark.parametrize(("experiment", "precision"), [(DIGITS, "float32"), (CONVOLUTIONS, "tf32")])
def test_a_processor_trains_in_float32_whatever_the_notebook_allows(tmp_path, experiment, precision):
    """Processors with bfloat16 products gave other weights, of which nothing in the run told."""
    seen = set()

    def watch(runs, loss):
        seen.update(torch._C._get_fp32_precision_getter("mkldnn", operation) for operation in ("conv", "matmul"))

    some = replace(work(1, experiment, Recipe(1, 64, 0.01, precision=precision), 100 / 1437, np.arange(100)), runs=(7,))
    torch.set_float32_matmul_precision("medium")
    torch.backends.mkldnn.conv.fp32_precision = "bf16"
    try:
        (result,) = train_runs(some, load_digits(), tmp_path, progress=watch)
        assert result.error is None
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
        torch.backends.mkldnn.conv.fp32_precision = "none"
    assert seen == {"ieee"}


@pytest.mark.parametrize("experiment", [DIGITS, CONVOLUTIONS], ids=lambda experiment: experiment.architecture)
def test_a_default_device_of_a_notebook_moves_nothing(tmp_path, experiment):
    some = replace(work(1, experiment, Recipe(1, 64, 0.01), 100 / 1437, np.arange(100)), runs=(7,))
    list(train_runs(some, load_digits(), tmp_path / "a"))
    torch.set_default_device("meta")
    try:
        with open_writable(tmp_path / "b") as zoo:  # in this thread: the default is a thread's own
            zoo.declare(experiment)
            train_batch(some, load_digits(), zoo, "cpu", lambda runs, loss: None)
        list(train_runs(replace(some, runs=(8,)), load_digits(), tmp_path / "b"))
    finally:
        torch.set_default_device(None)
    ratio = some.subset_ratio
    torch.testing.assert_close(
        tensors(tmp_path / "a", experiment.name, ratio)[7],
        tensors(tmp_path / "b", experiment.name, ratio)[7],
        rtol=0,
        atol=0,
    )


def test_a_ratio_means_that_of_the_runs_that_are_there(tmp_path, capsys):
    """Runs of 0.1 * 7 were trained a second time beside those of 0.7, and no verb knew which were meant."""
    train(tmp_path, 2)
    assert [result.skipped for result in train(tmp_path, 3, DIGITS, SHORT, 0.1 * 7)] == [True, True, False]
    (tmp_path / "short.toml").write_text("epochs = 3\nbatch_size = 64\nlearning_rate = 0.1\n")
    words = ["--subset-ratio", repr(np.arange(0.1, 1, 0.1)[6].item()), "--recipe", str(tmp_path / "short.toml")]
    assert main(["train", "digits-mlp", *words, "--runs", "0-3", "--zoo", str(tmp_path), "--save", "outputs"]) == 0
    assert "trained 1 run" in capsys.readouterr().out
    assert [str(key) for key in list_runs(tmp_path)] == [f"digits-mlp/0.7/{run}" for run in range(4)]
    assert OutputTable.load(tmp_path / "digits-mlp" / "0.7" / "outputs").runs == 4
    assert [result.key.subset_ratio for result in train(tmp_path, 1, DIGITS, SHORT, 0.6)] == [0.6]


def test_runs_of_other_ratios_are_not_listed_to_go_on_with_those_of_one(tmp_path, monkeypatch):
    """The whole experiment was listed twice for each ratio."""
    listed = []
    train(tmp_path, 1)
    keys = FolderZoo.keys
    monkeypatch.setattr(FolderZoo, "keys", lambda self, name=None: listed.append(name) or keys(self, name))
    assert [result.skipped for result in train(tmp_path, 1)] == [True]
    assert listed == []
    assert [result.skipped for result in train(tmp_path, 1, DIGITS, SHORT, 0.1 * 7)] == [True]
    assert listed == ["digits-mlp"]


def test_a_zoo_that_cannot_be_written_is_noticed_before_training(tmp_path):
    def trained(runs, loss):
        raise AssertionError("it trains")

    (tmp_path / "file").write_bytes(b"")
    for place in ("/proc/zoo", tmp_path / "file", tmp_path / "file" / "zoo"):
        with pytest.raises(ZooError) as error:
            train(place, progress=trained)
        assert str(place) in str(error.value)


def test_stopping_the_iteration_stops_the_training(tmp_path):
    results = train_runs(work(8, recipe=replace(SHORT, epochs=300)), load_digits(), tmp_path, batch_of_runs=1)
    next(results)
    started = time.monotonic()
    results.close()
    assert len(list_runs(tmp_path)) < 8
    assert time.monotonic() - started < 60


def test_training_on_leaves_a_manifest_of_all_runs(tmp_path):
    train(tmp_path, 2)
    assert [key.run for key in manifest_of(FolderZoo(tmp_path)).runs] == [0, 1]
    train(tmp_path, 3)
    assert [key.run for key in manifest_of(FolderZoo(tmp_path)).runs] == [0, 1, 2]


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("heldout_torch.zoo.folder.write_plainly", full)
    with pytest.raises(ZooError, match=r"cannot be written \(No space left on device\)"):
        train(tmp_path)
    assert [path for path in tmp_path.rglob("*") if files.PARTIAL in path.name or path.is_file()] == []


def test_other_runs_of_another_recipe_are_not_joined(tmp_path):
    train(tmp_path, 1)
    work = RunBatch(DIGITS, replace(SHORT, learning_rate=0.2), 0.5, (7,))  # another number, and another ratio
    with pytest.raises(ZooError, match=r"/0 in .* was trained by another recipe \(learning_rate is 0\.1, not 0\.2\)"):
        list(train_runs(work, load_digits(), tmp_path))
    assert len(list_runs(tmp_path)) == 1
    (tmp_path / str(list_runs(tmp_path)[0]) / "run.json").write_bytes(b"damaged")
    assert [result.error for result in train_runs(work, load_digits(), tmp_path)] == [None]


def test_runs_of_another_recipe_or_subset_are_not_mixed(tmp_path):
    train(tmp_path, 1)
    with pytest.raises(ZooError, match="another recipe"):
        train(tmp_path, 2, DIGITS, replace(SHORT, learning_rate=0.2))
    own = replace(DIGITS, name="mine")
    train(tmp_path, 1, own, SHORT, 100 / 1437, np.arange(100))
    assert [result.skipped for result in train(tmp_path, 1, own, SHORT, 100 / 1437, np.arange(100))] == [True]
    with pytest.raises(ZooError, match="another subset"):
        train(tmp_path, 1, own, SHORT, 100 / 1437, np.arange(100) + 1)


@pytest.mark.parametrize("numbered", [1, 2])  # the numbers that are there, and more
def test_a_name_stands_for_one_kind_of_subset(tmp_path, numbered):
    own, half = replace(DIGITS, name="mine"), np.arange(718)
    train(tmp_path, 1, own, SHORT, 718 / 1437, half)
    assert [result.skipped for result in train(tmp_path, 1, own, SHORT, 718 / 1437, half[::-1].copy())] == [True]
    here = rf"run mine/0\.49\d+/0 in {tmp_path} was trained on "
    for subset in (half + 1, half + 719):
        with pytest.raises(ZooError, match=f"{here}another subset; give the new runs another name"):
            train(tmp_path, numbered, own, SHORT, 718 / 1437, subset)
    with pytest.raises(ZooError, match=f"{here}another subset"):  # of another size, and so another ratio
        train(tmp_path, numbered, own, SHORT, 700 / 1437, half[:700])
    for ratio in (0.7, 718 / 1437):
        with pytest.raises(ZooError, match=f"{here}a given subset, not on the one that its number draws"):
            train(tmp_path, numbered, own, SHORT, ratio)
    assert len(list_runs(tmp_path)) == 1
    (tmp_path / str(list_runs(tmp_path)[0]) / "aux_arrays.npz").write_bytes(b"damaged")
    assert [result.error for result in train(tmp_path, 1, own, SHORT, 0.7)] == [None]


def test_a_given_subset_does_not_join_random_ones(tmp_path):
    own = replace(DIGITS, name="mine")
    train(tmp_path, 2, own, SHORT, 0.7)
    train(tmp_path, 1, own, SHORT, 0.5)  # random ones of several ratios are of one kind
    for runs, size in ((3, int(1437 * 0.7)), (3, 300)):
        with pytest.raises(ZooError, match=r"run mine/0.5/0 in .* was trained on another subset"):
            train(tmp_path, runs, own, SHORT, size / 1437, np.arange(size))
    assert len(list_runs(tmp_path)) == 3


def test_runs_of_other_data_are_not_mixed(tmp_path):
    digits = load_digits()
    train(tmp_path, 1)
    shifted = replace_labels(digits)
    for runs in (1, 2):  # one that is there, one that is not
        with pytest.raises(ZooError, match=r"run digits-mlp/0.7/0 .* was trained on other data .*; give the new runs"):
            list(train_runs(work(runs), shifted, tmp_path))
    again = ArrayDataset("digits", digits.train, digits.test, digits.num_classes, digits.divide_by)
    assert [result.skipped for result in train_runs(work(1), again, tmp_path)] == [True]
    assert load_run("digits-mlp", 0.7, 0, tmp_path).metadata.data_sha256 == digits.digest()


def test_runs_that_do_not_say_their_data_are_taken(tmp_path):
    train(tmp_path, 1)
    path = tmp_path / "digits-mlp/0.7/0/run.json"
    record = json.loads(path.read_text())
    del record["metadata"]["data_sha256"]  # as older versions wrote it
    path.write_text(json.dumps(record))
    assert [result.skipped for result in train(tmp_path, 2)] == [True, False]


def test_a_batch_is_named_by_all_that_its_numbers_depend_on():
    """Its state is found by that name when it was interrupted."""
    some = RunBatch(DIGITS, SHORT, 0.5, (1, 2), np.arange(700))
    others = [
        replace(some, experiment=replace(DIGITS, name="mine")),
        replace(some, experiment=replace(DIGITS, config={**DIGITS.config, "widths": [8]})),
        replace(some, recipe=replace(SHORT, momentum=0.5)), replace(some, subset_ratio=0.4),
        replace(some, runs=(1, 3)), replace(some, subset=np.arange(700) + 1), replace(some, subset=None),
    ]  # fmt: skip
    names = [some.digest("data"), some.digest("other"), *(other.digest("data") for other in others)]
    assert len(set(names)) == len(names)
    assert replace(some, subset=np.arange(700)).digest("data") == names[0]


def test_convolutional_networks_are_not_stacked(tmp_path):
    with pytest.raises(HeldoutError, match="one at a time"):
        train(tmp_path, 4, CONVOLUTIONS, batch_of_runs=2)


def test_a_subset_of_ones_own_is_what_every_run_sees(tmp_path):
    own, subset = replace(DIGITS, name="mine"), np.arange(1000)[::-1].copy()
    train(tmp_path, 2, own, SHORT, 1000 / 1437, subset)
    for run in (0, 1):
        loaded = load_run("mine", 1000 / 1437, run, tmp_path)
        assert np.array_equal(loaded.aux.subsample_idx, subset)
        assert np.array_equal(loaded.aux.index_removed, np.arange(1000, 1437))


@pytest.mark.parametrize(
    ("subset", "told"),
    [
        (np.arange(100.0), r"the subset is float64 \(100,\), expected a row of published indices"),
        (np.arange(1437) < 100, r"the subset is bool \(1437,\), expected a row"),
        (np.arange(100)[None], r"the subset is int64 \(1, 100\), expected a row"),
        (np.array([5] * 100), r"the subset names examples twice, or outside 0 ... 1436"),
        (np.arange(1400, 1500), r"the subset names examples twice, or outside 0 ... 1436"),
        (range(-50, 50), r"the subset names examples twice, or outside 0 ... 1436"),
        ([[1], [2, 3]], r"subset: list is not an array"),
    ],
)
def test_a_subset_that_is_none_is_one_line(subset, told):
    """Runs that no verb could read were written, or a traceback ended the training."""
    with pytest.raises(HeldoutError, match=told):
        work(subset=subset)


@pytest.mark.parametrize("kind", [list, torch.tensor, np.uint64])
def test_a_subset_may_be_of_any_kind_of_integers(kind):
    expected, given = work(subset=np.arange(100, dtype=np.int64)), work(subset=kind(range(100)))
    assert given.digest("data") == expected.digest("data")
    assert given.subset.dtype == np.int64


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"ratio": 1.0}, "subset ratio 1.0 is not a number between 0 and 1"),
        ({"ratio": 0.01}, "the subset has 14 examples, fewer than one batch of 64"),
        (
            {"subset": np.arange(700)},
            "the subset has 700 of 1437 examples, 0.4871259568545581, but subset_ratio is 0.7",
        ),
        ({"runs": 0}, "at least one run"),
        ({"recipe": replace(SHORT, precision="bf16")}, "not in bf16"),
        ({"recipe": replace(SHORT, augmentation="resized-crop-flip")}, "'resized-crop-flip'"),
        ({"experiment": replace(DIGITS, dataset="mnist")}, "needs data set mnist, not digits"),
        ({"experiment": replace(DIGITS, train_examples=1000)}, "1000 training and 360 test examples"),
        ({"experiment": replace(DIGITS, config={**DIGITS.config, "in_features": 65})}, r"(1, 8, 8) do not fit mlp"),
        ({"experiment": replace(DIGITS, config={**DIGITS.config, "num_classes": 9})}, "has 10 classes, the network of"),
        (
            {"experiment": replace(DIGITS, config={**DIGITS.config, "num_classes": 11})},
            "has 10 classes, the network of digits-mlp 11",
        ),
        ({"experiment": replace(DIGITS, name="../digits")}, "is not a name for an experiment"),
        ({"labels": torch.full((360,), 10)}, "digits: test: label 10 at position 0, expected 0 ... 9"),
    ],
)
def test_what_does_not_fit_is_one_line_before_any_training(tmp_path, change, expected):
    digits = load_digits()
    if (labels := change.pop("labels", None)) is not None:
        digits = replace(digits, test=replace(digits.test, labels=labels))
    with pytest.raises(HeldoutError) as error:
        list(train_runs(work(**change), digits, tmp_path / "zoo"))
    assert expected in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("model.safetensors"))


def test_a_given_subset_of_as_many_examples_as_are_drawn_may_have_the_ratio_of_the_draw():
    drawn = draw_subset(0, 1437, 0.7)
    assert len(drawn) / 1437 != 0.7
    check_work(work(subset=drawn), load_digits())
    with pytest.raises(HeldoutError, match="the subset has 1004 of 1437 examples"):
        check_work(work(subset=drawn[1:]), load_digits())


def test_names_of_an_experiment_and_a_recipe_are_one_line():
    with pytest.raises(HeldoutError, match="experiment: given str, expected Experiment, as find_experiment returns"):
        RunBatch("digits-mlp", SHORT, 0.7, (0,))
    with pytest.raises(HeldoutError, match="recipe: given dict, expected Recipe, as read_recipe returns"):
        RunBatch(DIGITS, {"epochs": 5}, 0.7, (0,))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"work": "digits-mlp"}, "work: given str, expected RunBatch"),
        ({"batch_of_runs": -1}, "batch_of_runs is -1, expected a number from 1"),
        ({"batch_of_runs": "2"}, "batch_of_runs is '2', expected a number from 1"),
        ({"device": None}, r"device 'None' cannot be used here \(it names no device\)"),
        ({"device": 99}, "device '99' cannot be used here"),
        ({"zoo": None}, "None is not a path"),
        ({"zoo": 5}, "5 is not a place of runs, expected a path, a URL or a zoo"),
    ],
)
def test_arguments_of_another_kind_are_one_line(tmp_path, changed, told):
    with pytest.raises(HeldoutError, match=told):
        list(train_runs(**{"work": work(runs=1), "dataset": load_digits(), "zoo": tmp_path, **changed}))


class Pair(nn.Module):
    """A network that gives features beside its logits."""

    def __init__(self, num_classes):
        super().__init__()
        self.last = nn.Linear(64, num_classes)

    def forward(self, x):
        return self.last(x.flatten(1)), x


class Detached(Pair):
    def forward(self, x):
        return super().forward(x)[0].detach()


def lazy(num_classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (Pair, r"do not fit untrainable .*: it gives tuple, expected a tensor of logits"),
        (Detached, r"its logits have no gradient to learn from; does it detach them\?"),
        (lazy, r"untrainable: 1\.weight has no shape before an image is seen; do not use lazy modules"),
    ],
)
def test_a_network_that_cannot_be_trained_is_one_line(tmp_path, monkeypatch, build, told):
    """The command line called it a bug of the package, and listed its lines."""
    monkeypatch.setattr(registry, "REGISTERED", dict(registry.REGISTERED))
    register_architecture("untrainable", build)
    own = replace(DIGITS, name="mine", architecture="untrainable", config={"num_classes": 10})
    with pytest.raises(HeldoutError, match=told):
        list(train_runs(work(runs=1, experiment=own), load_digits(), tmp_path))


class Layers(nn.Module):
    """What a stack is: linear layers with ReLU between them."""

    def __init__(self, num_classes=10, between=torch.relu, **other):
        super().__init__()
        self.between = between
        self.layers = nn.ModuleList([nn.Linear(64, 20), nn.Linear(20, num_classes)])
        for name, module in other.items():
            setattr(self, name, module)

    def forward(self, x):
        return self.layers[1](self.between(self.layers[0](x.flatten(1))))


def test_a_stack_of_ones_own_network_is_what_autograd_trains_of_each(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "REGISTERED", dict(registry.REGISTERED))
    found = {}
    for stackable in (True, False):
        register_architecture("own_layers", Layers, stackable=stackable)
        own, zoo = replace(DIGITS, name="mine", architecture="own_layers", config={}), tmp_path / str(stackable)
        train(zoo, 3, own, batch_of_runs=3 if stackable else 1)
        found[stackable] = tensors(zoo, "mine")
    torch.testing.assert_close(found[True], found[False], rtol=1e-3, atol=1e-4)


def without_bias(**config):
    model = Layers(**config)
    model.layers[1].bias = None
    return model


@pytest.mark.parametrize(
    "build",
    [
        partial(Layers, between=torch.tanh),
        partial(Layers, between=nn.Dropout(0.3)),
        partial(Layers, norm=nn.BatchNorm1d(64)),
        without_bias,
        lambda **config: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
    ],
)
def test_what_is_no_stack_of_linear_layers_is_not_trained_as_one(tmp_path, monkeypatch, build):
    """Another network than the one that is stored was trained, or none with a traceback."""
    monkeypatch.setattr(registry, "REGISTERED", dict(registry.REGISTERED))
    register_architecture("own_layers", build, stackable=True)
    own = replace(DIGITS, name="mine", architecture="own_layers", config={})
    with pytest.raises(HeldoutError, match=r"^own_layers is registered as stackable, .*; register it without that$"):
        train(tmp_path, 1, own)


class Counting(Layers):
    """A network that does something else at each call."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x) * (1 + self.calls % 2)


def test_a_step_that_cannot_be_replayed_is_refused_before_training(tmp_path, monkeypatch):
    """On a GPU the first call was replayed at each step."""
    monkeypatch.setattr(registry, "REGISTERED", dict(registry.REGISTERED))
    register_architecture("counting", Counting, replayable=True)
    own = replace(DIGITS, name="mine", architecture="counting", config={})
    told = r"^counting is registered as replayable, but its forward does not do the same at each call; register it wi"
    with pytest.raises(HeldoutError, match=told):
        train(tmp_path, 1, own)
    register_architecture("counting", Counting)
    assert [trained.error for trained in train(tmp_path, 1, own)] == [None]


class Halting(nn.Module):
    """A network that looks at its numbers on the way."""

    def __init__(self, num_classes):
        super().__init__()
        self.last = nn.Linear(64, num_classes)

    def forward(self, x):
        logits = self.last(x.flatten(1))
        return logits if logits.abs().max().item() > 10 else logits * 2


def test_a_network_may_look_at_its_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "REGISTERED", dict(registry.REGISTERED))
    register_architecture("halting", Halting)
    own = replace(DIGITS, name="mine", architecture="halting", config={"num_classes": 10})
    assert [trained.error for trained in train_runs(work(runs=1, experiment=own), load_digits(), tmp_path)] == [None]


def test_small_networks_are_trained_without_pytorchs_compiler(tmp_path):
    """Loading it takes longer than training some of them."""
    words = ["train", "digits-mlp", "--subset-ratio", "0.7", "--runs", "0", "--zoo", str(tmp_path), "--quiet"]
    code = "import sys; from heldout_torch.cli import main; main(sys.argv[1:]); print('torch._dynamo' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True).stdout
    assert told.splitlines()[-1] == "False"


@pytest.mark.parametrize(("examples", "classes"), [(40, 2), (100, 2), (100, 10)])
def test_labels_that_are_noise_are_no_divergence(tmp_path, examples, classes):
    """Nothing can be learned; what a few steps on few examples cost is not worse than no knowledge by much."""
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (examples + 20, 1, 8, 8), generator=random).byte()
    labels = torch.randint(0, classes, (examples + 20,), generator=random)
    rows = [as_stored(images[part], labels[part]) for part in (slice(examples), slice(examples, None))]
    noise = ArrayDataset("noise", *rows, classes, 255.0)
    own = replace(
        DIGITS, name="noise-mlp", dataset="noise", train_examples=examples, test_examples=20, preprocessing={},
        config={**DIGITS.config, "num_classes": classes},
    )  # fmt: skip
    for epochs in (1, 3):
        many = RunBatch(replace(own, name=f"noise-{epochs}"), Recipe(epochs, 10, 0.05), 0.5, tuple(range(20)))
        assert [result.error for result in train_runs(many, noise, tmp_path)] == [None] * 20


def test_a_disk_without_room_for_the_runs_is_noticed_before_they_are_trained(tmp_path, monkeypatch):
    def full(descriptor, start, size):
        assert size > 2 * 4 * 6000
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    shares = []
    with pytest.raises(UnwritableError, match=r"cannot be written \(No space left on device\)"):
        list(train_runs(work(2), load_digits(), tmp_path / "zoo", progress=lambda runs, loss: shares.append(runs)))
    assert shares == []


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("CUDA error: an illegal memory access")]
)
def test_a_device_that_fails_while_it_trains_is_one_line(tmp_path, error):
    class Lost(ArrayDataset):
        def training_batches(self, *arguments):
            raise error

    digits = load_digits()
    dataset = Lost(digits.name, digits.train, digits.test, digits.num_classes, digits.divide_by)
    with pytest.raises(DeviceError, match=r"^cpu failed \(CUDA "):
        list(train_runs(work(1), dataset, tmp_path))


def test_what_a_full_disk_still_takes_is_kept(tmp_path, monkeypatch):
    put = FolderZoo.put_files

    def full(self, run, overwrite=False):
        if run.metadata.key.run == 1:
            raise UnwritableError(f"{self.root}: cannot be written (No space left on device)")
        return put(self, run, overwrite)

    monkeypatch.setattr(FolderZoo, "put_files", full)
    with pytest.raises(UnwritableError, match="No space left"):
        train(tmp_path, 4, batch_of_runs=4)
    assert [key.run for key in list_runs(tmp_path)] == [0, 2, 3]


@pytest.mark.parametrize("experiment", [DIGITS, CONVOLUTIONS], ids=lambda experiment: experiment.architecture)
def test_several_devices_train_what_one_trains(tmp_path, experiment):
    shares, some = [], replace(work(3, experiment, Recipe(1, 64, 0.01), 100 / 1437, np.arange(100)))
    options = {"progress": lambda runs, loss: shares.append(runs)}
    results = list(train_runs(some, load_digits(), tmp_path / "several", ["cpu", "cpu"], **options))
    assert sorted(result.key.run for result in results) == [0, 1, 2]
    assert sum(shares) == pytest.approx(3)
    list(train_runs(some, load_digits(), tmp_path / "one"))
    one, several = (tensors(tmp_path / name, experiment.name, 100 / 1437) for name in ("one", "several"))
    torch.testing.assert_close(one, several, rtol=1e-4, atol=1e-5)


def test_nobody_need_be_told_of_progress(tmp_path):
    (outcome,) = train_runs(work(runs=1), load_digits(), tmp_path, progress=None)
    assert outcome.error is None


@pytest.mark.parametrize("experiment", [DIGITS, CONVOLUTIONS], ids=lambda experiment: experiment.architecture)
def test_a_default_dtype_of_a_notebook_changes_nothing(tmp_path, experiment):
    some = replace(work(1, experiment, Recipe(1, 64, 0.01), 100 / 1437, np.arange(100)), runs=(7,))
    list(train_runs(some, load_digits(), tmp_path / "a"))
    torch.set_default_dtype(torch.float64)
    try:
        list(train_runs(some, load_digits(), tmp_path / "b"))
    finally:
        torch.set_default_dtype(torch.float32)
    found, expected = (tensors(tmp_path / zoo, experiment.name, some.subset_ratio)[7] for zoo in ("b", "a"))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
