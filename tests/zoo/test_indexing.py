"""The manifest follows what lies in a zoo, in folder and bucket: quick to renew, never losing a run.

Also of zoo/run_folders.py.
"""

import hashlib
import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from heldout_torch import ZooError, list_runs
from heldout_torch.experiments import Experiment, known_experiments
from heldout_torch.storage.listing import list_files
from heldout_torch.storage.urls import read_file, remove_file, write_file
from heldout_torch.zoo.copy import check_runs
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.open import open_writable, open_zoo
from heldout_torch.zoo.records import AGAIN
from tests.helpers.archives import EXPERIMENT, multiply
from tests.helpers.zoos import declare, errors, export, manifest_of

RUNS = list(range(6))


@pytest.fixture
def source(tmp_path):
    """A tree of six small runs of an experiment of its own."""
    multiply(tmp_path / "tree", 6)
    (tmp_path / "tree" / EXPERIMENT).rename(tmp_path / "tree/mine")
    declare(replace(known_experiments()[EXPERIMENT], name="mine"), tmp_path / "tree/mine")
    return tmp_path / "tree"


@pytest.fixture(params=["folder", "s3"])
def zoo(request, source, tmp_path):
    """A zoo of these runs."""
    place = tmp_path / "zoo" if request.param == "folder" else request.getfixturevalue("bucket")
    export(source, place)
    return open_writable(place)


@pytest.fixture
def reads(zoo, monkeypatch):
    """Names of the runs' files that are read, as it happens."""
    names, read = [], type(zoo).read

    def note(self, name):
        if name.count("/") == 3:
            names.append(name.removeprefix("mine/0.7/"))
        return read(self, name)

    monkeypatch.setattr(type(zoo), "read", note)
    return names


def runs_in(zoo):
    return [key.run for key in manifest_of(zoo).runs]


def place_of(zoo, run, name):
    return f"{zoo.location}/mine/0.7/{run}/{name}"


def test_writing_leaves_a_manifest_that_says_what_the_records_say(zoo):
    manifest = manifest_of(zoo)
    assert [key.run for key in manifest.runs] == RUNS
    assert manifest.runs == {key: zoo.record(key) for key in zoo.keys()}
    assert Experiment.from_json("mine", manifest.declarations["mine"], "manifest").dataset == "digits"


def test_what_archive_the_runs_come_from_is_told(zoo):
    zoo.write("mine/archive.json", b'{"md5": "x", "name": "a", "size": 1, "verified": true}')
    assert zoo.index().manifest.archives["mine"]["verified"] is True
    zoo.write("mine/archive.json", b"[" * 100_000)
    assert len(zoo.index().manifest.runs) == 6


def test_indexing_again_reads_nothing_and_gives_the_same_bytes(zoo, reads):
    before = zoo.read("manifest.json")
    assert zoo.index().damaged == {}
    assert reads == []
    assert zoo.read("manifest.json") == before


def test_a_lost_manifest_is_compiled_from_the_records(zoo, reads):
    before = zoo.read("manifest.json")
    for lost in (None, b"damaged", b'{"format_version": 9}'):
        remove_file(f"{zoo.location}/manifest.json") if lost is None else zoo.write("manifest.json", lost)
        reads.clear()
        zoo.index()
        assert sorted(reads) == [f"{run}/run.json" for run in RUNS]
        assert zoo.read("manifest.json") == before


def test_only_what_is_new_is_read(zoo, reads):
    names = list_files(f"{zoo.location}/mine/0.7/4")
    kept = {name: read_file(place_of(zoo, 4, name)) for name in names}
    for name in names:
        remove_file(place_of(zoo, 4, name))
    zoo.index()
    assert runs_in(zoo) == [0, 1, 2, 3, 5]
    for name in sorted(names):
        write_file(place_of(zoo, 4, name), kept[name])
    zoo.index()
    assert runs_in(zoo) == RUNS
    assert set(reads) == {"4/run.json"}


@pytest.mark.parametrize("kind", ["written", "times kept"])
def test_a_model_that_was_replaced_by_one_of_the_same_size_gets_a_new_record(zoo, kind, source):
    """Of the same size, and even of the same time."""
    if kind == "times kept" and "://" in zoo.location:
        pytest.skip("a bucket keeps no times")
    key = RunKey("mine", 0.7, 2)
    before = zoo.record(key)
    data = bytearray(read_file(place_of(zoo, 2, "model.safetensors")))
    data[-1] ^= 1
    if kind == "written":
        write_file(place_of(zoo, 2, "model.safetensors"), bytes(data))
    else:
        path = Path(place_of(zoo, 2, "model.safetensors"))
        times = path.stat()
        path.write_bytes(data)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    (wrong,) = [outcome for outcome in check_runs(open_zoo(zoo.location), zoo.keys()) if outcome.error]
    assert wrong.key == key
    assert "model.safetensors not as recorded" in wrong.error
    assert zoo.index().damaged == {}
    fresh = open_zoo(zoo.location)
    assert fresh.record(key) != before
    assert [outcome.error for outcome in check_runs(fresh, fresh.keys())] == [None] * 6


def test_a_copied_zoo_is_indexed_from_its_records(zoo, tmp_path):
    if "://" in zoo.location:
        pytest.skip("about folders")
    copied = open_writable(shutil.copytree(zoo.location, tmp_path / "copied"))
    copied.index()
    assert runs_in(copied) == RUNS
    assert manifest_of(copied).runs == manifest_of(zoo).runs


@pytest.mark.parametrize("name", ["model.safetensors", "aux_arrays.npz", "run.json"])
def test_a_damaged_run_is_named_and_nothing_else_is_lost(zoo, name):
    time.sleep(0.02)  # the clock of files is coarser than the program
    data = read_file(place_of(zoo, 3, name))
    write_file(place_of(zoo, 3, name), data[:-2])
    found = zoo.index()
    assert [key.run for key in found.damaged] == [3]
    assert f"mine/0.7/3/{name}: " in found.damaged[RunKey("mine", 0.7, 3)]
    assert runs_in(zoo) == RUNS
    remove_file(f"{zoo.location}/manifest.json")
    assert [key.run for key in zoo.index().damaged] == [3]
    assert runs_in(zoo) == [0, 1, 2, 4, 5]


def test_a_damaged_run_stays_so_though_its_record_is_written_again(zoo):
    """As by `chmod -R` or `touch`, after which it was the newest of the run's files, and was trusted."""
    time.sleep(0.02)
    data = read_file(place_of(zoo, 3, "aux_arrays.npz"))
    write_file(place_of(zoo, 3, "aux_arrays.npz"), data[:200] + bytes([data[200] ^ 255]) + data[201:])
    for _ in range(2):
        assert [key.run for key in zoo.index().damaged] == [3]
        time.sleep(0.02)
        write_file(place_of(zoo, 3, "run.json"), read_file(place_of(zoo, 3, "run.json")))
    write_file(place_of(zoo, 3, "aux_arrays.npz"), data)
    assert zoo.index().damaged == {}


def test_a_record_that_was_lost_is_named_and_written_again_for_the_same_files_only(zoo):
    """The files were taken as they were, by the check as well as by the index."""
    key = RunKey("mine", 0.7, 3)
    record = read_file(place_of(zoo, 3, "run.json"))
    remove_file(place_of(zoo, 3, "run.json"))
    if "://" not in zoo.location:  # elsewhere the manifest stands for the record
        found = errors(check_runs(open_zoo(zoo.location), zoo.keys()))
        assert found == {
            3: f"{zoo.location}/{key}/run.json: is missing; to write it again: heldout zoo index {zoo.location}"
        }
    assert zoo.index().damaged == {}
    assert read_file(place_of(zoo, 3, "run.json")) == record
    assert not errors(check_runs(open_zoo(zoo.location), zoo.keys()))

    remove_file(place_of(zoo, 3, "run.json"))
    data = read_file(place_of(zoo, 3, "model.safetensors"))
    write_file(place_of(zoo, 3, "model.safetensors"), data[:-1] + bytes([data[-1] ^ 1]))
    for _ in range(2):
        (error,) = zoo.index().damaged.values()
        assert f"{key}: run.json is missing, and model.safetensors not as in manifest.json; {AGAIN}" in error
        assert list(errors(check_runs(open_zoo(zoo.location), zoo.keys()))) == [3]


def test_a_run_that_was_replaced_with_its_record_is_not_as_in_the_manifest(zoo):
    """Whoever compared the manifest with a digest that they trust was told that all is right."""
    data, record = (read_file(place_of(zoo, 3, name)) for name in ("model.safetensors", "run.json"))
    forged = data[:-1] + bytes([data[-1] ^ 1])
    was, now = (hashlib.sha256(contents).hexdigest().encode() for contents in (data, forged))
    write_file(place_of(zoo, 3, "model.safetensors"), forged)
    write_file(place_of(zoo, 3, "run.json"), record.replace(was, now))
    (error,) = errors(check_runs(open_zoo(zoo.location), zoo.keys())).values()
    assert error == f"is not as in manifest.json; if the change was intended: heldout zoo index {zoo.location}"
    zoo.index()
    assert not errors(check_runs(open_zoo(zoo.location), zoo.keys()))


def test_a_zoo_of_one_damaged_run_does_not_forget_that(source, tmp_path):
    zoo = open_writable(tmp_path / "one")
    export(source, zoo.location, runs=[0])
    time.sleep(0.02)
    data = read_file(place_of(zoo, 0, "aux_arrays.npz"))
    write_file(place_of(zoo, 0, "aux_arrays.npz"), data[:200] + bytes([data[200] ^ 255]) + data[201:])
    for _ in range(2):
        assert len(zoo.index().damaged) == 1
        time.sleep(0.02)
        write_file(place_of(zoo, 0, "run.json"), read_file(place_of(zoo, 0, "run.json")))


def test_a_file_that_is_missing_is_named(zoo):
    remove_file(place_of(zoo, 3, "model.safetensors"))
    (error,) = zoo.index().damaged.values()
    assert error.endswith(f"mine/0.7/3/model.safetensors: is missing; {AGAIN}")


def test_interrupting_leaves_the_manifest_as_it_was(zoo):
    before = zoo.read("manifest.json")
    for run in (3, 4):
        data = zoo.read(f"mine/0.7/{run}/run.json")
        write_file(place_of(zoo, run, "run.json"), data + b" ")

    def interrupt(done, total):
        if done > 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        zoo.index(progress=interrupt)
    assert zoo.read("manifest.json") == before


def test_a_zoo_of_the_old_format_is_upgraded_in_place(zoo):
    manifest = json.loads(zoo.read("manifest.json"))
    for run in manifest["experiments"]["mine"]["runs"]["0.7"].values():
        del run["seen"]
    records = {run: zoo.read(f"mine/0.7/{run}/run.json") for run in RUNS}
    for run in RUNS:
        remove_file(place_of(zoo, run, "run.json"))
    zoo.write("manifest.json", json.dumps(manifest).encode())
    fresh = open_writable(zoo.location)
    assert [key.run for key in fresh.keys()] == RUNS
    fresh.index()
    assert {run: zoo.read(f"mine/0.7/{run}/run.json") for run in RUNS} == records
    assert runs_in(zoo) == RUNS


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, GeneratorExit, ZooError])
def test_the_manifest_is_renewed_however_the_work_ends(zoo, error):
    before = zoo.read("manifest.json")
    remove_file(f"{zoo.location}/manifest.json")

    def work():
        with zoo:
            if error is not None:
                raise error("why")

    if error is None:
        work()
    else:
        with pytest.raises(error):
            work()
    assert zoo.read("manifest.json") == before


def test_what_went_wrong_first_is_what_is_told(zoo, monkeypatch):
    def fail(self):
        raise ZooError("the second")

    zoo.__enter__()
    monkeypatch.setattr(type(zoo), "listing", fail)
    zoo.__exit__(ZooError, ZooError("the first"), None)
    with pytest.raises(ZooError, match="the second"):
        zoo.__exit__(None, None, None)


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_where_no_run_is_no_manifest_is_made(request, tmp_path, kind):
    place = str(tmp_path / "zoo") if kind == "folder" else request.getfixturevalue("bucket")
    with open_writable(place) as zoo:
        pass
    assert zoo.index().manifest.runs == {}
    assert list_files(place) == {}


def test_where_the_state_of_files_is_never_the_same_indexing_ends(zoo):
    """As on file systems that make up another inode for every look; it went on for ever."""
    late, looks = open_writable(zoo.location), []

    def listing():
        looks.append(1)
        assert len(looks) < 99
        return {name: info._replace(signature=str(len(looks))) for name, info in zoo.listing().items()}

    late.listing = listing
    assert late.index().damaged == {}
    assert runs_in(zoo) == RUNS


def test_a_writer_that_ends_late_with_an_older_view_loses_nobodys_run(zoo, source):
    """What another one writes between listing and writing is seen by listing again."""
    late = open_writable(zoo.location)
    listing = late.listing
    removed = {name: zoo.read(f"mine/0.7/5/{name}") for name in ("aux_arrays.npz", "model.safetensors", "run.json")}
    for name in removed:
        remove_file(place_of(zoo, 5, name))
    calls = []

    def list_then_meet():
        found = listing()
        if not calls:
            for name, data in removed.items():
                write_file(place_of(zoo, 5, name), data)
            zoo.index()
        calls.append(1)
        return found

    late.listing = list_then_meet
    late.index()
    assert runs_in(zoo) == RUNS
    assert len(calls) == 3  # older, whole, and nothing new
    assert list_runs(zoo.location) == zoo.keys()


def test_a_writer_warns_of_runs_that_its_manifest_lacks(zoo):
    write_file(f"{zoo.location}/mine/0.7/3/run.json", b"no record")
    remove_file(f"{zoo.location}/manifest.json")
    with pytest.warns(UserWarning, match=r"manifest of \S+ lacks 1 run .*/0.7/3/run.json: is not .*heldout zoo index"):
        zoo.__exit__()
    assert runs_in(zoo) == [0, 1, 2, 4, 5]
