"""An unpacked archive as a zoo: its runs in order, their records, and which folders are none."""

import shutil

import pytest

from heldout_torch import ZooError, load_run
from heldout_torch.archives import tree as trees
from heldout_torch.archives.tree import TensorFlowTree
from heldout_torch.zoo.keys import RunKey
from tests.helpers.archives import EXPERIMENT, multiply

KEY = RunKey(EXPERIMENT, 0.7, 2)


@pytest.fixture
def root(tmp_path):
    return multiply(tmp_path / "tree", 11)


@pytest.fixture
def folder(root):
    return root / EXPERIMENT / "0.7" / "2"


def test_runs_are_in_the_order_of_their_numbers_and_those_of_an_experiment_its_own(root):
    shutil.copytree(root / EXPERIMENT, root / "another")
    tree = TensorFlowTree(root)
    assert tree.keys(EXPERIMENT) == [RunKey(EXPERIMENT, 0.7, run) for run in range(11)]
    assert tree.keys() == [RunKey("another", 0.7, run) for run in range(11)] + tree.keys(EXPERIMENT)
    assert tree.keys("other") == []


def test_a_record_has_the_files_as_they_lie_there_and_the_epoch_of_their_names(root, folder):
    record = TensorFlowTree(root).record(KEY)
    paths = [folder / "aux_arrays.npz", *(folder / "checkpoints").glob("ckpt-*")]
    assert {name: file.size for name, file in record.files.items()} == {
        path.name: path.stat().st_size for path in paths
    }
    assert len(record.files) == 3
    assert record.epoch == load_run(KEY, zoo=root).metadata.epoch
    shutil.rmtree(folder / "checkpoints")
    record = TensorFlowTree(root).record(KEY)
    assert (list(record.files), record.epoch) == (["aux_arrays.npz"], None)
    assert KEY in TensorFlowTree(root).keys()


def test_a_run_without_aux_arrays_and_one_with_endless_ones_are_one_line(root, folder, monkeypatch):
    monkeypatch.setattr(trees, "MAX_AUX", 1000)
    with pytest.raises(ZooError, match=r"0.7/2/aux_arrays.npz: has more than 1000 bytes"):
        TensorFlowTree(root).aux(KEY)
    (folder / "aux_arrays.npz").unlink()
    for ask in (TensorFlowTree(root).record, TensorFlowTree(root).aux):
        with pytest.raises(ZooError, match=r"0.7/2/aux_arrays.npz: cannot be read \(No such file"):
            ask(KEY)


def test_a_folder_without_files_of_a_run_is_none(root, folder):
    shutil.rmtree(folder)
    folder.mkdir()
    tree = TensorFlowTree(root)
    for _ in range(2):  # before the folders are listed, and after
        assert KEY not in tree
        assert len(tree.keys()) == 10
    with pytest.raises(ZooError, match=rf"run {KEY} is not in {root}"):
        tree.aux(KEY)


def test_a_run_is_found_without_listing_thousands_and_converted_once_for_what_is_known_of_it(root, monkeypatch):
    converted = []
    convert = trees.convert_run
    monkeypatch.setattr(trees, "run_folders", lambda *_: pytest.fail("the folders are listed"))
    monkeypatch.setattr(trees, "convert_run", lambda *given: converted.append(given) or convert(*given))
    tree = TensorFlowTree(root)
    assert KEY in tree
    assert tree.metadata(KEY) == tree.metadata(KEY)
    assert len(converted) == 1
