"""Archives that hold more than was foreseen: what is used is checked, what is only there is left alone.

Also of archives/tree.py.
"""

import hashlib
import io
import json
import shutil
import zipfile

import numpy as np
import pytest

from heldout_torch import load_run
from heldout_torch.archives.build_index import build_index
from heldout_torch.archives.indexed import IndexedArchive
from heldout_torch.archives.stream import export_archive
from heldout_torch.archives.tree import TensorFlowTree
from heldout_torch.checkpoints import Checkpoint
from heldout_torch.errors import CheckpointError
from heldout_torch.zoo.keys import RunKey
from tests.helpers import bundles
from tests.helpers.archives import EXPERIMENT, multiply, pack
from tests.helpers.bundles import SUFFIX, write_bundle
from tests.helpers.zoos import errors, export, files_below

KEY = RunKey(EXPERIMENT, 0.7, 1)
EXTRA = {"model/ema/decay": np.ones((), "float32"), "model/ema/w": np.ones((3, 4), "float32")}


@pytest.fixture
def tree(tmp_path):
    return multiply(tmp_path / "tree", 3)


def run_folder(tree, run=1):
    return tree / EXPERIMENT / "0.7" / str(run)


def add_variables(folder, extra):
    prefix = folder / "checkpoints" / "ckpt-30"
    read = Checkpoint.open(prefix)
    tensors = {key.removesuffix(SUFFIX): np.array(read[key]) for key in read}
    write_bundle(prefix, tensors | extra)


def test_a_rewritten_checkpoint_is_the_same_run(tree):
    before = load_run(KEY, zoo=tree).model.state_dict()
    add_variables(run_folder(tree), {})
    after = load_run(KEY, zoo=tree).model.state_dict()
    assert all((after[name] == tensor).all() for name, tensor in before.items())


def test_a_run_is_known_by_its_index_and_all_its_data_files(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(bundles, "HEADER", (b"", b"\x08\x02"))  # two data files, of which the tensors lie in the first
    add_variables(run_folder(tree), {})
    folder = run_folder(tree) / "checkpoints"
    (folder / "ckpt-30.data-00000-of-00001").rename(folder / "ckpt-30.data-00000-of-00002")
    (folder / "ckpt-30.data-00001-of-00002").write_bytes(b"no tensor")
    files = ("index", "data-00000-of-00002", "data-00001-of-00002")
    expected = hashlib.sha256(b"".join((folder / f"ckpt-30.{file}").read_bytes() for file in files)).hexdigest()
    archive = pack(tree, tmp_path / "x.tar.gz")
    build_index(archive)
    assert {load_run(KEY, zoo=place).metadata.source_sha256 for place in (tree, archive)} == {expected}


def test_unknown_variables_are_named_with_the_option_that_leaves_them_out(tree, tmp_path):
    add_variables(run_folder(tree), EXTRA)
    found = errors(export(tree, tmp_path / "zoo"))
    assert list(found) == [1]
    assert "2 variables do not belong to mlp: ema/decay, ema/w" in found[1]
    assert "to leave them out, give --ignore 'model/ema/*'" in found[1]
    add_variables(run_folder(tree, 2), {"model/lonely": np.zeros(1, "int64")})
    assert "--ignore 'model/lonely'" in errors(export(tree, tmp_path / "zoo", overwrite=True))[2]


@pytest.mark.parametrize("patterns", [["model/ema/*"], ["model/ema/decay", "model/*w", "model/never/*"]])
def test_ignored_variables_are_left_out_and_recorded(tree, tmp_path, patterns):
    expected = load_run(KEY, zoo=tree).model.state_dict()
    add_variables(run_folder(tree), EXTRA)
    archive = pack(tree, tmp_path / "x.tar.gz")
    build_index(archive)
    places = [TensorFlowTree(tree, ignore=patterns), IndexedArchive(str(archive), patterns)]
    with open(archive, "rb") as stream:
        assert not errors(export_archive(stream, "x", tmp_path / "zoo", ignore=patterns))
    for place in (*places, tmp_path / "zoo"):
        run = load_run(KEY, zoo=place)
        assert run.metadata.ignored == [pattern for pattern in patterns if "never" not in pattern]
        assert all((run.model.state_dict()[name] == tensor).all() for name, tensor in expected.items())
        other = load_run(RunKey(EXPERIMENT, 0.7, 0), zoo=place)
        assert other.metadata.ignored is None


def test_what_the_network_needs_is_never_ignored(tree):
    expected = load_run(KEY, zoo=tree).model.state_dict()
    run = load_run(KEY, zoo=TensorFlowTree(tree, ignore=["model/*"]))
    assert run.metadata.ignored is None
    assert all((run.model.state_dict()[name] == tensor).all() for name, tensor in expected.items())
    prefix = run_folder(tree) / "checkpoints" / "ckpt-30"
    read = Checkpoint.open(prefix)
    kept = {key.removesuffix(SUFFIX): np.array(read[key]) for key in read if "_layers/0/w" not in key}
    write_bundle(prefix, kept)
    with pytest.raises(CheckpointError, match="1 variable of mlp is missing"):
        load_run(KEY, zoo=TensorFlowTree(tree, ignore=["model/*"]))


def test_files_of_runs_without_ignored_variables_stay_what_they_were(tree, tmp_path):
    export(tree, tmp_path / "zoo")
    record = json.loads((run_folder(tmp_path / "zoo") / "run.json").read_bytes())
    assert "ignored" not in record["metadata"]


class Evil:
    def __reduce__(self):
        return pytest.fail, ("unpickled",)


def test_arrays_beside_those_that_are_used_stay_byte_for_byte_and_unread(tree, tmp_path):
    path = run_folder(tree) / "aux_arrays.npz"
    pickled = io.BytesIO()
    np.save(pickled, np.array([Evil()], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("loss.npy", b"no array at all")
        file.writestr("config.npy", pickled.getvalue())
    archive = pack(tree, tmp_path / "x.tar.gz")
    build_index(archive)
    with open(archive, "rb") as stream:
        assert not errors(export_archive(stream, "x", tmp_path / "zoo"))
    assert not errors(export(tree, tmp_path / "zoo2"))
    assert not errors(export(archive, tmp_path / "zoo3"))
    for zoo in ("zoo", "zoo2", "zoo3"):
        assert (run_folder(tmp_path / zoo) / "aux_arrays.npz").read_bytes() == path.read_bytes()
        load_run(KEY, zoo=tmp_path / zoo).aux.validate()


def test_a_run_without_test_arrays_is_taken_and_says_so(tree, tmp_path):
    path = run_folder(tree) / "aux_arrays.npz"
    with np.load(path) as arrays:
        np.savez(path.with_name("kept.npz"), **{name: arrays[name] for name in arrays.files if "test" not in name})
    path.with_name("kept.npz").rename(path)
    archive = pack(tree, tmp_path / "x.tar.gz")
    with open(archive, "rb") as stream:
        assert not errors(export_archive(stream, "x", tmp_path / "zoo"))
    record = json.loads((run_folder(tmp_path / "zoo") / "run.json").read_bytes())
    assert record["accuracy"][2] is None
    assert record["accuracy"][0] is not None
    assert len(load_run(KEY, zoo=tmp_path / "zoo").aux.index_test) == 0


def test_what_macos_keeps_beside_files_is_no_second_checkpoint_in_a_tree(tree, tmp_path):
    """Today: expected one checkpoint, found ._ckpt-30.index, ckpt-30.index."""
    export(tree, tmp_path / "clean")
    for path in sorted(tree.rglob("*")):
        path.with_name(f"._{path.name}").write_bytes(b"Mac OS X")
    assert not errors(export(tree, tmp_path / "zoo"))
    assert files_below(tmp_path / "zoo") == files_below(tmp_path / "clean")


def test_two_spellings_of_one_run_in_a_tree_are_refused(tree, tmp_path):
    shutil.copytree(run_folder(tree), tree / EXPERIMENT / "7e-1" / "1")
    with pytest.raises(Exception, match="holds the same run as"):
        export(tree, tmp_path / "zoo")
