"""Data sets are found by name, however it is written, and users register their own."""

import os
from pathlib import Path

import numpy as np
import pytest

from heldout_torch import load_run
from heldout_torch.data import list_datasets, load_dataset, load_digits, register_dataset, registry
from heldout_torch.errors import DataError
from heldout_torch.evaluation import evaluate, verify
from heldout_torch.experiments import Experiment
from heldout_torch.report import gather_statistics, write_report
from heldout_torch.stats import RunTable
from heldout_torch.training import Recipe, RunBatch, train_runs
from tests.data.originals import write_cifar, write_mnist
from tests.data.own_dataset import TEST, TRAIN


@pytest.fixture
def registered(monkeypatch):
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(registry, "LOADERS", dict(registry.LOADERS))


@pytest.mark.parametrize("written", ["cifar10", "CIFAR10", "cifar-10", "CIFAR-10", "Cifar_10"])
def test_cifar_is_understood_however_it_is_written(written, tmp_path):
    write_cifar(tmp_path, "cifar10", 60, 20)
    assert load_dataset(written, tmp_path, verify_checksums=False).name == "cifar10"


@pytest.mark.parametrize(
    ("written", "meant"), [("cifar11", "cifar10"), ("imagnet", "imagenet"), ("mnsit", "mnist"), ("digit", "digits")]
)
def test_the_nearest_name_is_suggested(written, meant, tmp_path):
    with pytest.raises(DataError, match=f"{written}' is not known, expected one of cifar10, .*did you mean '{meant}'"):
        load_dataset(written, tmp_path)


@pytest.mark.parametrize("form", ["{}", "{}/", " '{}' \n", '"{}"', "file://{}", "file://localhost{}/"])
def test_a_path_is_taken_as_people_write_it(form, tmp_path):
    folder = tmp_path / "my data"
    write_mnist(folder, 60, 20)
    text = form.format(str(folder).replace(" ", "%20") if "file:" in form else folder)
    assert len(load_dataset("mnist", text, verify_checksums=False).labels("train")) == 60


def test_the_home_folder_and_other_kinds_of_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    data = load_digits()
    images, labels = (getattr(data.test, part).numpy() for part in ("images", "labels"))
    np.savez(tmp_path / "mine.npz", train__image=images[:, 0], train__label=labels, test__image=images[:, 0],
             test__label=labels)  # fmt: skip

    class Entry:
        def __fspath__(self):
            return str(tmp_path / "mine.npz")

    for path in ("~/mine.npz", Entry(), os.fspath(Entry())):
        assert len(load_dataset("mine", path).labels("test")) == 360
    with pytest.raises(DataError, match="is a URL, expected a path on this machine"):
        load_dataset("mine", "s3://bucket/mine.npz")
    with pytest.raises(DataError, match="is a URL"):
        load_dataset("mine", Path("s3://bucket/mine.npz"))


def test_options_that_mean_nothing_are_refused(tmp_path):
    with pytest.raises(DataError, match="digits: download=True is not an option"):
        load_dataset("digits", download=True)
    with pytest.raises(DataError, match="mnist: allow_missing=True is not an option"):
        load_dataset("mnist", tmp_path, allow_missing=True)


def test_names_of_others_are_not_taken(registered):
    def load(path):
        return load_digits()

    for name in ("cifar10", "CIFAR-10", "stripes"):
        with pytest.raises(DataError, match=rf"'{name}' is registered by .* already; take another name"):
            register_dataset(name, load)
    register_dataset("other", load)
    register_dataset("other", lambda path, download: load_digits())  # from the same module: a cell that is run again
    with pytest.raises(DataError, match="'other': its loader returned a data set named 'digits'"):
        load_dataset("other", download=True)
    assert {"stripes", "other", "cifar10"} <= set(list_datasets())


def test_a_data_set_of_ones_own_is_trained_evaluated_verified_counted_and_reported(tmp_path):
    experiment = Experiment(
        "stripes-mlp", "stripes", "mlp", {"in_features": 36, "num_classes": 2, "widths": [8]}, TRAIN, TEST,
        {"divide_by": 255},
    )  # fmt: skip
    dataset = load_dataset("stripes")
    work = RunBatch(experiment, Recipe(3, 20, 0.1), 0.5, tuple(range(6)))
    assert [trained.error for trained in train_runs(work, dataset, tmp_path / "zoo")] == [None] * 6
    run = load_run("stripes-mlp", 0.5, 2, tmp_path / "zoo")
    assert evaluate(run, dataset, "test").correct.all()
    assert verify(run, dataset).matches == TRAIN + TEST
    table = RunTable.from_zoo(tmp_path / "zoo", "stripes-mlp", 0.5)
    statistics = gather_statistics({0.5: table}, dataset)
    page = write_report(statistics, experiment, dataset, tmp_path / "report")
    assert page.is_file()
    assert len(list((tmp_path / "report" / "images").iterdir())) >= 1


def test_a_scale_that_is_not_the_experiments_is_one_line_with_the_convention(tmp_path):
    data, run = load_digits(), load_run("digits-mlp-tf", 0.7, 0)
    arrays = {
        f"{split}__{part}": values
        for split in ("train", "test")
        for part, values in (
            ("image", getattr(data, split).images[:, 0].numpy()),
            ("label", getattr(data, split).labels.numpy()),
        )
    }
    np.savez(tmp_path / "right.npz", **arrays, __data_scale=16)
    assert verify(run, load_dataset("digits", tmp_path / "right.npz"), ["test"]).matches == 360
    np.savez(tmp_path / "wrong.npz", **arrays)
    line = "data set digits has divide_by 255, run .* 16; in an npz file, __data_scale is what .* divided by"
    with pytest.raises(DataError, match=line):
        verify(run, load_dataset("digits", tmp_path / "wrong.npz"))
    with pytest.raises(DataError, match=line):
        evaluate(run, load_dataset("digits", tmp_path / "wrong.npz"), "test")
    assert len(evaluate(run.model, load_dataset("digits", tmp_path / "wrong.npz"), "test").correct) == 360
    scaled = {key: (value / 16).astype(np.float32) if "image" in key else value for key, value in arrays.items()}
    np.savez(tmp_path / "floats.npz", **scaled)
    assert verify(run, load_dataset("digits", tmp_path / "floats.npz"), ["test"]).matches == 360


def test_what_loads_no_data_set_is_one_line(registered):
    with pytest.raises(DataError, match="data set 'none': None loads nothing, expected a function of a path"):
        register_dataset("none", None)
    for returned in (None, (np.zeros(3), np.zeros(3))):
        register_dataset("mine", lambda path, returned=returned: returned)
        with pytest.raises(DataError, match=r"'mine': its loader returned .*, expected such as an ArrayDataset"):
            load_dataset("mine")


@pytest.mark.parametrize("part", ["Train", "tset", "remove", "val"])
def test_verify_refuses_parts_that_there_are_not(part):
    with pytest.raises(DataError, match=f"split '{part}' is not known, expected train, removed, test"):
        verify(load_run("digits-mlp-tf", 0.7, 0), load_digits(), [part])
    with pytest.raises(DataError, match="no split is given to verify"):
        verify(load_run("digits-mlp-tf", 0.7, 0), load_digits(), [])


def test_what_is_no_name_or_no_folder_of_imagenet_is_one_line(tmp_path):
    for name in (None, 3, ["cifar10"], np.zeros(1000)):
        with pytest.raises(DataError, match=r"is not a name of a data set, expected such as 'cifar10'$"):
            load_dataset(name)
    with pytest.raises(DataError, match=r"has no imagenet_index\.npz, which maps files .*; `heldout published"):
        load_dataset("imagenet", tmp_path)
