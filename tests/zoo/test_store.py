"""Filling a zoo: a folder and a bucket hold the same bytes, and a run is there whole or not at all."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from heldout_torch.zoo.remote_index import index_remote
from heldout_torch.zoo.store import (
    get_aux,
    get_metadata,
    open_zoo,
    present_runs,
    put_run,
    read_experiment,
    write_experiment,
)

from heldout_torch import AuxArrays, ZooError, build_model, load_run
from heldout_torch.storage.urls import list_files, read_file, remove_file, write_file
from heldout_torch.zoo import RunMetadata, known_experiments, store
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.manifest import index_zoo

DIGITS = known_experiments()["digits-mlp"]
KEY = RunKey("digits-mlp", 0.7, 12)


@pytest.fixture(params=["folder", "file", "s3"])
def zoo(request, tmp_path):
    if request.param == "s3":
        return open_zoo(f"{request.getfixturevalue('bucket')}/zoo/")
    return open_zoo(tmp_path / "zoo" if request.param == "folder" else f"file://{tmp_path}/zoo")


def a_run():
    torch.manual_seed(0)
    order = np.arange(1437, dtype=np.int32)
    correct = np.ones(1437, np.uint8)
    return {
        "state": build_model(DIGITS.architecture, **DIGITS.config).state_dict(),
        "metadata": RunMetadata.of(DIGITS, KEY, 3, 48, recipe={"epochs": 3}),
        "aux": AuxArrays(
            correct[:1005], correct[1005:], np.zeros(360, np.uint8), order[:1005], order[1005:],
            np.arange(360, dtype=np.int32), order[:1005],
        ),
    }  # fmt: skip


def test_what_is_put_is_there(zoo):
    assert present_runs(zoo, "digits-mlp", 0.7) == set()
    put_run(zoo, **a_run())
    assert present_runs(zoo, "digits-mlp", 0.7) == {12}
    assert present_runs(zoo, "digits-mlp", 0.5) == set()
    assert get_metadata(zoo, KEY) == a_run()["metadata"]
    assert np.array_equal(get_aux(zoo, KEY).subsample_idx, np.arange(1005))
    with pytest.raises(ZooError, match=r"digits-mlp/0.7/13/(model.safetensors|aux_arrays.npz)"):
        get_metadata(zoo, replace(KEY, run=13))
    with pytest.raises(ZooError, match=r"digits-mlp/0.7/13/aux_arrays.npz"):
        get_aux(zoo, replace(KEY, run=13))


def test_a_bucket_holds_the_bytes_of_a_folder(bucket, tmp_path):
    assert put_run(tmp_path, **a_run()) is None
    record = put_run(bucket, **a_run())
    assert record == index_zoo(tmp_path).runs[KEY]
    for name, file in record.files.items():
        assert read_file(f"{bucket}/{KEY}/{name}") == (tmp_path / str(KEY) / name).read_bytes()
        assert file.size == (tmp_path / str(KEY) / name).stat().st_size


def test_the_model_comes_last(bucket, monkeypatch):
    def write(location, data):
        if location.endswith("model.safetensors"):
            raise ZooError("the connection broke")
        write_file(location, data)

    monkeypatch.setattr(store, "write_file", write)
    with pytest.raises(ZooError, match="the connection broke"):
        put_run(bucket, **a_run())
    assert list(list_files(bucket)) == [f"{KEY}/aux_arrays.npz"]
    assert present_runs(bucket, "digits-mlp", 0.7) == set()


def test_folders_of_other_names_are_no_runs(zoo):
    put_run(zoo, **a_run())
    for name in ("013", "1a", ".partial-7", "-1"):
        write_file(f"{zoo}/digits-mlp/0.7/{name}/model.safetensors", b"")
    write_file(f"{zoo}/digits-mlp/0.7/.training-8.safetensors", b"")
    assert present_runs(zoo, "digits-mlp", 0.7) == {12}


def test_a_records_reading_costs_the_header(bucket, monkeypatch):
    put_run(bucket, **a_run())
    asked = []
    read = store.read_range
    monkeypatch.setattr(store, "read_range", lambda *arguments: asked.append(arguments[1:]) or read(*arguments))
    get_metadata(bucket, KEY)
    assert asked == [(0, store._FIRST)]
    asked.clear()
    monkeypatch.setattr(store, "_FIRST", 100)
    assert get_metadata(bucket, KEY) == a_run()["metadata"]
    assert len(asked) == 2
    assert asked[1][1] < 3000


@pytest.mark.parametrize(
    "data", [b"", b"no model", b"\xff" * 100, b"\x02\0\0\0\0\0\0\0{}", b"\x02\0\0\0\0\0\0\0[]", b"\0" * 99]
)
def test_a_damaged_header_is_one_line(zoo, data):
    put_run(zoo, **a_run())
    write_file(f"{zoo}/{KEY}/model.safetensors", data)
    with pytest.raises(ZooError, match=r"0.7/12/model.safetensors: ") as error:
        get_metadata(zoo, KEY)
    assert "\n" not in str(error.value)


def test_a_run_in_another_runs_place_is_refused(zoo):
    put_run(zoo, **a_run())
    write_file(f"{zoo}/digits-mlp/0.7/13/model.safetensors", read_file(f"{zoo}/{KEY}/model.safetensors"))
    with pytest.raises(
        ZooError, match=r"says that it is digits-mlp/0.7/12, but lies in the folder of digits-mlp/0.7/13"
    ):
        get_metadata(zoo, replace(KEY, run=13))


def test_an_own_experiment_is_declared(zoo):
    mine = replace(DIGITS, name="mine")
    with pytest.raises(ZooError, match="'mine' is not known"):
        read_experiment(zoo, "mine")
    write_experiment(zoo, mine)
    write_experiment(zoo, DIGITS)
    assert read_experiment(zoo, "mine") == mine
    assert read_experiment(zoo, "digits-mlp") == DIGITS
    assert list(list_files(str(zoo))) == ["mine/experiment.json"]
    remove_file(f"{zoo}/mine/experiment.json")
    write_file(f"{zoo}/mine/experiment.json", b"{")
    with pytest.raises(ZooError, match=r"mine/experiment.json: cannot be read as JSON"):
        read_experiment(zoo, "mine")


@pytest.mark.parametrize("zoo", ["http://127.0.0.1:1/zoo", "https://example.org/zoo"])
def test_a_web_server_cannot_be_written(zoo):
    with pytest.raises(ZooError, match=rf"{zoo}: cannot be written, a web server only serves"):
        open_zoo(zoo)


def test_what_cannot_be_reached_at_all_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(ZooError, match="gcsfs"):
        open_zoo("gs://bucket/zoo")
    with pytest.raises(ZooError, match="nosuch"):
        open_zoo("nosuch://bucket/zoo")
    monkeypatch.setenv("HELDOUT_TORCH_OFFLINE", "1")
    with pytest.raises(ZooError, match="HELDOUT_TORCH_OFFLINE forbids the use of the network"):
        open_zoo("memory://zoo")


def test_a_run_in_a_bucket_is_loaded_once_it_is_indexed(bucket):
    record = put_run(bucket, **a_run())
    index_remote(bucket, written={KEY: record})
    loaded = load_run("digits-mlp", 0.7, 12, bucket).model.state_dict()
    assert all(torch.equal(tensor, a_run()["state"][name]) for name, tensor in loaded.items())
