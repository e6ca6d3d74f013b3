"""load_run and list_runs: a zoo, a TensorFlow tree, the bundled sample."""

import shutil
import struct
from dataclasses import replace

import pytest
import torch
from heldout_torch.zoo.export import export_runs, select_runs
from safetensors.torch import load_file, save_file

from heldout_torch import HeldoutError, ZooError, list_runs, load_run
from heldout_torch.zoo.keys import RunKey

EXPERIMENT = "digits-mlp-tf"


@pytest.fixture
def zoo(tree, tmp_path):
    list(export_runs(select_runs(tree), tmp_path / "zoo"))
    return tmp_path / "zoo"


def test_a_tree_and_its_export_give_the_same_run(tree, zoo):
    assert list_runs(tree) == list_runs(zoo) == [RunKey(EXPERIMENT, 0.7, run) for run in range(6)]
    for root in (tree, tree / EXPERIMENT):
        direct, exported = load_run(EXPERIMENT, 0.7, 4, root), load_run(EXPERIMENT, 0.7, 4, zoo)
        assert direct.metadata == exported.metadata
        assert not exported.model.training
        for name, tensor in direct.model.state_dict().items():
            assert torch.equal(tensor, exported.model.state_dict()[name])
        assert (direct.aux.index_train == exported.aux.index_train).all()


def test_a_tree_may_spell_the_ratio_otherwise(tree):
    (tree / EXPERIMENT / "0.7").rename(tree / EXPERIMENT / "0.70")
    assert load_run(EXPERIMENT, 0.7, 4, tree).metadata.subset_ratio == 0.7


def test_the_environment_names_a_zoo_else_the_sample_serves(zoo, monkeypatch):
    monkeypatch.delenv("HELDOUT_TORCH_ZOO", raising=False)
    assert load_run(EXPERIMENT, 0.7, 1).folder.parts[-4:] == ("sample", EXPERIMENT, "0.7", "1")
    monkeypatch.setenv("HELDOUT_TORCH_ZOO", str(zoo))
    assert load_run(EXPERIMENT, 0.7, 1).folder == zoo / EXPERIMENT / "0.7" / "1"


def test_a_loaded_model_can_be_trained_on(zoo):
    model = load_run(EXPERIMENT, 0.7, 0, zoo).model
    model(torch.rand(2, 1, 8, 8)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_missing_run_names_the_archive_and_the_command(zoo):
    with pytest.raises(ZooError, match=r"cifar10-inception/0.7/123 is not in .*; get https://.*heldout export"):
        load_run("cifar10-inception", 0.7, 123, zoo)
    with pytest.raises(ZooError, match=r"digits-mlp-tf/0.7/99 is not in .*list_runs"):
        load_run(EXPERIMENT, 0.7, 99, zoo)
    with pytest.raises(ZooError, match="no such folder"):
        load_run(EXPERIMENT, 0.7, 0, zoo / "absent")


def change(zoo, tensors=None, metadata=None):
    path = zoo / EXPERIMENT / "0.7/0/model.safetensors"
    state = load_file(path)
    save_file(tensors(state) if tensors else state, path, metadata)
    return path


def header(zoo, **changes):
    return replace(load_run(EXPERIMENT, 0.7, 0, zoo).metadata, **changes).to_header()


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"run": 5}, "says that it is digits-mlp-tf/0.7/5, but lies in the folder of digits-mlp-tf/0.7/0"),
     ({"format_version": 2}, "has format version 2, this package reads 1"),
     ({"architecture": "resnet50", "config": {}}, "tensors do not fit resnet50"),
     ({"config": {"in_features": 64, "widths": [64], "num_classes": 11}}, "tensors do not fit mlp"),
     ({"architecture": "nonsense"}, "'nonsense' is not known")],
)  # fmt: skip
def test_a_file_that_says_something_else_is_refused(zoo, changes, message):
    change(zoo, metadata=header(zoo, **changes))
    with pytest.raises(HeldoutError, match=message):
        load_run(EXPERIMENT, 0.7, 0, zoo)


def test_a_file_without_our_record_is_refused(zoo):
    change(zoo)
    with pytest.raises(ZooError, match="was not written by heldout_torch"):
        load_run(EXPERIMENT, 0.7, 0, zoo)


def test_damaged_files_are_refused(zoo):
    path = zoo / EXPERIMENT / "0.7/0/model.safetensors"
    data = path.read_bytes()
    for damaged in (b"", data[:100], data[:-1], struct.pack("<Q", 2**60) + data[8:]):
        path.write_bytes(damaged)
        with pytest.raises(ZooError, match=r"model.safetensors: is no readable safetensors"):
            load_run(EXPERIMENT, 0.7, 0, zoo)


def test_a_missing_aux_file_is_told_when_asked_for(zoo):
    (zoo / EXPERIMENT / "0.7/0/aux_arrays.npz").unlink()
    run = load_run(EXPERIMENT, 0.7, 0, zoo)
    with pytest.raises(ZooError, match=r"aux_arrays.npz: cannot be read"):
        _ = run.aux


def test_a_run_that_is_neither_exported_nor_a_checkpoint_is_refused(zoo):
    shutil.rmtree(zoo / EXPERIMENT / "0.7/0")
    (zoo / EXPERIMENT / "0.7/0").mkdir()
    with pytest.raises(HeldoutError, match="expected one checkpoint"):
        load_run(EXPERIMENT, 0.7, 0, zoo)
