"""The manifest of a zoo in a bucket: what a folder's says, made of a listing, and only what is new is read."""

from dataclasses import replace

import pytest
from heldout_torch.zoo.export import export_runs, select_runs
from heldout_torch.zoo.remote_index import index_remote, manifest_renewed
from heldout_torch.zoo.transfer import push_zoo

from heldout_torch import ZooError, list_runs
from heldout_torch.experiments import Experiment
from heldout_torch.storage.listing import list_files
from heldout_torch.storage.urls import read_file, remove_file, write_file
from heldout_torch.zoo import known_experiments, remote_index
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.manifest import FileRecord, index_zoo
from tests.helpers.archives import EXPERIMENT, multiply


@pytest.fixture
def zoo(tmp_path):
    """An indexed folder of six small runs of an experiment of its own."""
    multiply(tmp_path / "tree", 6)
    (tmp_path / "tree" / EXPERIMENT).rename(tmp_path / "tree/mine")
    known = known_experiments()[EXPERIMENT]
    replace(known, name="mine").write(tmp_path / "tree/mine")
    list(export_runs(select_runs(tmp_path / "tree"), tmp_path / "zoo"))
    (tmp_path / "zoo/mine/archive.json").write_text('{"md5": "x", "name": "a", "size": 1, "verified": true}')
    index_zoo(tmp_path / "zoo")
    return tmp_path / "zoo"


@pytest.fixture
def there(zoo, bucket):
    """A copy of it in a bucket."""
    push_zoo(zoo, bucket, 4, lambda count: None)
    return bucket


@pytest.fixture
def read(monkeypatch):
    """Names of the runs that are read, as it happens."""
    runs, make = [], remote_index._read_record
    monkeypatch.setattr(
        remote_index, "_read_record", lambda zoo, key, *more: runs.append(key.run) or make(zoo, key, *more)
    )
    return runs


def test_it_is_the_folders_byte_by_byte(zoo, there, read):
    manifest = (zoo / "manifest.json").read_bytes()
    assert read_file(f"{there}/manifest.json") == manifest
    remove_file(f"{there}/manifest.json")
    assert index_remote(there).to_bytes() == manifest
    assert read_file(f"{there}/manifest.json") == manifest
    assert sorted(read) == [0, 1, 2, 3, 4, 5]
    declared = index_remote(there).declarations["mine"]
    assert Experiment.from_json("mine", declared, "manifest").dataset == "digits"


def test_only_what_is_new_is_read(zoo, there, read):
    whole = index_remote(there)
    assert read == []
    names = list_files(f"{there}/mine/0.7/4")
    kept = {name: read_file(f"{there}/mine/0.7/4/{name}") for name in names}
    for name in names:
        remove_file(f"{there}/mine/0.7/4/{name}")
    assert [key.run for key in index_remote(there).runs] == [0, 1, 2, 3, 5]
    assert [key.run for key in list_runs(there)] == [0, 1, 2, 3, 5]
    for name in names:
        write_file(f"{there}/mine/0.7/4/{name}", kept[name])
    again = index_remote(there)
    assert (again, list(again.runs)) == (whole, list(whole.runs))
    assert read == [4]
    assert read_file(f"{there}/manifest.json") == (zoo / "manifest.json").read_bytes()


def test_a_record_of_another_size_is_not_kept(there, read):
    """As after a race, when a manifest names a run that was replaced."""
    whole = index_remote(there)
    key = RunKey("mine", 0.7, 2)
    stale = replace(whole.runs[key], files={name: FileRecord(1, "0" * 64) for name in whole.runs[key].files})
    wrong = {**whole.runs, key: stale}
    write_file(f"{there}/manifest.json", replace(whole, runs=wrong).to_bytes())
    assert index_remote(there, written={key: stale}) == whole
    assert read == [2]


def test_what_the_caller_wrote_is_not_read_again(there, read):
    whole = index_remote(there)
    remove_file(f"{there}/manifest.json")
    some = {key: record for key, record in whole.runs.items() if key.run < 4}
    assert index_remote(there, written=some) == whole
    assert sorted(read) == [4, 5]


@pytest.mark.parametrize("name", ["model.safetensors", "aux_arrays.npz"])
def test_a_damaged_run_is_named_and_the_others_are_indexed(there, name):
    data = read_file(f"{there}/mine/0.7/3/{name}")
    write_file(f"{there}/mine/0.7/3/{name}", data[:-1])
    with pytest.raises(ZooError, match=rf"/mine/0.7/3/{name}: "):
        index_remote(there)
    assert [key.run for key in list_runs(there)] == [0, 1, 2, 4, 5]


def test_a_run_of_which_only_the_aux_arrays_are_there_is_none(there):
    remove_file(f"{there}/mine/0.7/3/model.safetensors")
    assert [key.run for key in index_remote(there).runs] == [0, 1, 2, 4, 5]


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, GeneratorExit, ZooError])
def test_the_manifest_is_renewed_however_the_work_ends(there, error, read):
    whole = index_remote(there)
    remove_file(f"{there}/manifest.json")

    def work():
        with manifest_renewed(there) as written:
            written |= whole.runs
            if error is not None:
                raise error("why")

    if error is None:
        work()
    else:
        with pytest.raises(error):
            work()
    assert read == []
    assert list_runs(there) == list(whole.runs)


def test_what_went_wrong_first_is_what_is_told(there):
    write_file(f"{there}/manifest.json", b"damaged")
    with pytest.raises(ZooError, match="the first"), manifest_renewed(there):
        raise ZooError("the first")
    with pytest.raises(ZooError, match="is no readable manifest"), manifest_renewed(there):
        pass


def test_where_no_run_is_no_manifest_is_made(bucket):
    assert index_remote(f"{bucket}/nothing").runs == {}
    with manifest_renewed(f"{bucket}/nothing"):
        pass
    assert list_files(f"{bucket}/nothing") == {}


def test_push_goes_on_over_a_renewed_manifest(zoo, there):
    for name in list_files(f"{there}/mine/0.7/4"):
        remove_file(f"{there}/mine/0.7/4/{name}")
    index_remote(there)
    assert push_zoo(zoo, there, 4, lambda count: None) == 1
    assert read_file(f"{there}/manifest.json") == (zoo / "manifest.json").read_bytes()
