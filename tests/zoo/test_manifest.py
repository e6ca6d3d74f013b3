"""The manifest: what `sha256sum` and the aux arrays say, quick to renew, and nothing in a foreign one is trusted."""

import copy
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from heldout_torch.zoo.export import export_runs, select_runs

from heldout_torch import ZooError
from heldout_torch.experiments import Experiment, known_experiments
from heldout_torch.zoo import manifest as manifest_module
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.manifest import FileRecord, Manifest, RunRecord, check_zoo, index_zoo, read_manifest
from tests.helpers.archives import EXPERIMENT, multiply


@pytest.fixture
def zoo(tree, tmp_path):
    """A zoo of the sample's six runs."""
    list(export_runs(select_runs(tree), tmp_path / "zoo"))
    return tmp_path / "zoo"


def wrong(zoo):
    return {key.run: error for key, error in check_zoo(zoo, 2) if error is not None}


def test_it_says_what_sha256sum_and_the_aux_arrays_say(zoo):
    (zoo / EXPERIMENT / "archive.json").write_text('{"md5": "x", "name": "a", "size": 1, "verified": true}')
    index_zoo(zoo, workers=2)
    table = json.loads((zoo / "manifest.json").read_bytes())
    assert table["format_version"] == 1
    experiment = table["experiments"][EXPERIMENT]
    assert experiment["archive"]["verified"] is True
    assert experiment["declaration"] is None
    assert list(experiment["runs"]["0.7"]) == list("012345")
    for run, record in experiment["runs"]["0.7"].items():
        folder = zoo / EXPERIMENT / "0.7" / run
        for name, (size, sha256) in record["files"].items():
            assert subprocess.check_output(["sha256sum", folder / name], text=True).split()[0] == sha256
            assert (folder / name).stat().st_size == size
        with np.load(folder / "aux_arrays.npz") as aux:
            accuracy = [aux[f"correctness_{part}"].mean() for part in ("train", "removed", "test")]
        assert record["accuracy"] == pytest.approx(accuracy, abs=1e-6)
        assert record["epoch"] == 30


def test_reading_gives_what_was_written(zoo):
    made = index_zoo(zoo)
    assert read_manifest(zoo) == made
    assert Manifest.from_bytes(made.to_bytes(), "manifest.json").to_bytes() == made.to_bytes()


def test_an_own_experiment_takes_its_declaration_along(tree, tmp_path):
    (tree / EXPERIMENT).rename(tree / "mine")
    known = known_experiments()[EXPERIMENT]
    mine = Experiment("mine", "digits", known.architecture, known.config, known.train_examples, known.test_examples)
    mine.write(tree / "mine")
    list(export_runs(select_runs(tree), tmp_path / "zoo"))
    declared = index_zoo(tmp_path / "zoo").declarations["mine"]
    assert Experiment.from_json("mine", declared, "manifest") == mine


def test_indexing_again_hashes_only_what_is_new(zoo, monkeypatch):
    hashed = []
    make = manifest_module._make_record
    monkeypatch.setattr(manifest_module, "_make_record", lambda zoo, run: hashed.append(run.key.run) or make(zoo, run))
    whole = index_zoo(zoo)
    time.sleep(0.02)  # the clock of files is coarser than the program
    hashed.clear()
    shutil.copytree(zoo / EXPERIMENT / "0.7/4", zoo / "kept")
    shutil.rmtree(zoo / EXPERIMENT / "0.7/4")
    assert len(index_zoo(zoo).runs) == 5
    shutil.move(zoo / "kept", zoo / EXPERIMENT / "0.7/4")
    model = zoo / EXPERIMENT / "0.7/2/model.safetensors"
    time.sleep(0.02)
    model.write_bytes(model.read_bytes())
    assert index_zoo(zoo) == whole
    assert sorted(hashed) == [2, 4]


def test_an_interrupted_index_goes_on(zoo, monkeypatch):
    hashed = []
    make = manifest_module._make_record

    def interrupted(zoo, run):
        if run.key.run == 3:
            raise KeyboardInterrupt
        return make(zoo, run)

    monkeypatch.setattr(manifest_module, "_make_record", interrupted)
    with pytest.raises(KeyboardInterrupt):
        index_zoo(zoo)
    monkeypatch.setattr(manifest_module, "_make_record", lambda zoo, run: hashed.append(run.key.run) or make(zoo, run))
    time.sleep(0.02)
    assert len(index_zoo(zoo).runs) == 6
    assert hashed == [3, 4, 5]


@pytest.mark.parametrize("name", ["model.safetensors", "aux_arrays.npz"])
def test_check_finds_every_kind_of_damage(zoo, name):
    index_zoo(zoo)
    assert wrong(zoo) == {}
    runs = zoo / EXPERIMENT / "0.7"
    data = bytearray((runs / "1" / name).read_bytes())
    times = (runs / "1" / name).stat()
    data[len(data) // 2] ^= 1
    (runs / "1" / name).write_bytes(data)
    os.utime(runs / "1" / name, ns=(times.st_atime_ns, times.st_mtime_ns))
    (runs / "2" / name).write_bytes(data[:-1])
    (runs / "3" / name).unlink()
    shutil.rmtree(runs / "4")
    found = wrong(zoo)
    assert sorted(found) == [1, 2, 3, 4]
    assert all(name in error for error in found.values())


def test_check_finds_runs_that_are_in_no_manifest(zoo):
    index_zoo(zoo)
    shutil.copytree(zoo / EXPERIMENT / "0.7/1", zoo / EXPERIMENT / "0.7/77")
    assert list(wrong(zoo)) == [77]
    assert "heldout zoo index" in wrong(zoo)[77]


def test_a_damaged_run_cannot_be_indexed(zoo):
    (zoo / EXPERIMENT / "0.7/3/model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ZooError, match=r"0.7/3/model.safetensors: is no readable safetensors file"):
        index_zoo(zoo)
    with pytest.raises(ZooError, match="is no zoo"):
        index_zoo(zoo / EXPERIMENT / "0.7/3")
    with pytest.raises(ZooError, match="heldout zoo index"):
        read_manifest(zoo / EXPERIMENT)


def _change(path, value):
    def change(table):
        *way, last = path
        for step in way:
            table = table[step]
        if value is None:
            del table[last]
        else:
            table[last] = value

    return change


RUN = ("experiments", EXPERIMENT, "runs", "0.7", "1")


@pytest.mark.parametrize(
    "change",
    [
        _change(("format_version",), 2),
        _change(("format_version",), None),
        _change(("experiments", "../x"), {"archive": None, "declaration": None, "runs": {"0.7": {"1": {}}}}),
        _change(("experiments", EXPERIMENT, "runs", "1.5"), {"1": {}}),
        _change(("experiments", EXPERIMENT, "runs", "../.."), {"1": {}}),
        _change(("experiments", EXPERIMENT, "runs", "0.7", "-1"), {}),
        _change(("experiments", EXPERIMENT, "runs", "0.7", "../x"), {}),
        _change((*RUN, "files", "../../x"), [1, "0" * 64]),
        _change((*RUN, "files", "aux_arrays.npz"), None),
        _change((*RUN, "files", "aux_arrays.npz"), [-1, "0" * 64]),
        _change((*RUN, "files", "aux_arrays.npz"), [True, "0" * 64]),
        _change((*RUN, "files", "aux_arrays.npz"), [1, "../" + "0" * 61]),
        _change((*RUN, "files", "aux_arrays.npz"), [1, 7]),
        _change((*RUN, "accuracy"), [1, 2, 3]),
        _change((*RUN, "accuracy"), ["a", None, None]),
        _change((*RUN, "epoch"), "x"),
        _change(("experiments",), []),
    ],
)
def test_a_foreign_manifest_is_read_with_suspicion(zoo, change):
    table = json.loads(index_zoo(zoo).to_bytes())
    Manifest.from_bytes(json.dumps(table).encode(), "there")
    changed = copy.deepcopy(table)
    change(changed)
    with pytest.raises(ZooError):
        Manifest.from_bytes(json.dumps(changed).encode(), "there")


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"{", b"\xff\xfe", b"[" * 10**6])
def test_what_is_no_manifest_is_refused(data):
    with pytest.raises(ZooError, match=r"there: is no readable manifest"):
        Manifest.from_bytes(data, "there")


def test_twenty_thousand_runs_fit():
    record = RunRecord(
        {name: FileRecord(7_600_000, "0123456789abcdef" * 4) for name in ("model.safetensors", "aux_arrays.npz")},
        80,
        (0.987654, 0.876543, 0.865432),
    )
    runs = {RunKey("cifar10-inception", ratio / 10, run): record for ratio in range(1, 10) for run in range(2223)}
    data = Manifest(runs).to_bytes()
    assert len(runs) > 20_000
    assert len(data) < 6_500_000
    assert Manifest.from_bytes(data, "manifest.json").runs == runs


def test_a_tree_of_multiplied_runs_is_indexed_in_order(tmp_path):
    list(export_runs(select_runs(multiply(tmp_path / "tree", 12)), tmp_path / "zoo", workers=2))
    assert [key.run for key in index_zoo(tmp_path / "zoo", workers=3).runs] == list(range(12))
    assert Path(tmp_path / "zoo" / "manifest.json").stat().st_size < 12 * 300 + 200
