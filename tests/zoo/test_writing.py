"""Filling a zoo: a folder and a bucket hold the same bytes, and a run is there whole or not at all.

Also of zoo/bucket.py, zoo/folder.py.
"""

import pickle
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import s3fs
import torch

from heldout_torch import AuxArrays, ZooError, build_model, list_runs, load_run
from heldout_torch.storage.listing import list_files
from heldout_torch.storage.urls import read_file, remove_file, write_file
from heldout_torch.zoo import RunMetadata, folder, known_experiments, model_file, web
from heldout_torch.zoo.folder import FolderZoo
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.open import open_writable, open_zoo
from heldout_torch.zoo.records import RunFiles

DIGITS = known_experiments()["digits-mlp"]
KEY = RunKey("digits-mlp", 0.7, 12)


NAMES = ["aux_arrays.npz", "model.safetensors", "run.json"]


@pytest.fixture(params=["folder", "file", "s3"])
def zoo(request, tmp_path):
    if request.param == "s3":
        return open_writable(f"{request.getfixturevalue('bucket')}/zoo/")
    return open_writable(tmp_path / "zoo" if request.param == "folder" else f"file://{tmp_path}/zoo")


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


def file_of(zoo, name, key=KEY):
    return f"{zoo.location}/{key}/{name}"


def test_a_name_of_the_package_cannot_be_given_to_another_experiment(zoo):
    for name in ("cifar10-inception", "digits-mlp-tf"):
        with pytest.raises(ZooError, match=f"{name} is an experiment of the package, whose .*; choose another name"):
            zoo.declare(replace(DIGITS, name=name))
    with pytest.raises(ZooError, match=r"whose config.widths is \[128\], not \[129\]; choose"):
        zoo.declare(replace(DIGITS, config=DIGITS.config | {"widths": (129,)}))
    zoo.declare(replace(DIGITS, config=DIGITS.config | {"widths": (128,)}, preprocessing={"divide_by": 16.0}))
    assert list(list_files(zoo.location)) == []


def test_what_is_put_is_there(zoo):
    assert zoo.keys() == []
    assert KEY not in zoo
    assert zoo.put(**a_run()) is True
    assert zoo.keys() == zoo.keys("digits-mlp") == [KEY]
    assert KEY in zoo
    assert zoo.keys("other") == []
    assert zoo.metadata(KEY) == a_run()["metadata"]
    assert np.array_equal(zoo.aux(KEY).subsample_idx, np.arange(1005))
    state = zoo.state(KEY)
    assert all(torch.equal(state[name], tensor) for name, tensor in a_run()["state"].items())
    assert zoo.record(KEY) == zoo.files(KEY).record
    assert sorted(list_files(zoo.location)) == [f"{KEY}/{name}" for name in NAMES]
    for ask in (zoo.metadata, zoo.record, zoo.aux, zoo.state, zoo.files):
        with pytest.raises(ZooError, match=r"run digits-mlp/0.7/13 is not in "):
            ask(replace(KEY, run=13))


def test_it_can_be_sent_to_another_process(zoo):
    zoo.put(**a_run())
    again = pickle.loads(pickle.dumps(zoo))
    assert again.keys() == [KEY]
    assert again.record(KEY) == zoo.record(KEY)


def test_a_relative_folder_is_the_same_to_a_process_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    zoo = FolderZoo(Path("zoo"))
    zoo.put(**a_run())
    sent = pickle.dumps(zoo)
    monkeypatch.chdir(tmp_path / "zoo")
    assert pickle.loads(sent).keys() == [KEY]


def test_a_bucket_holds_the_bytes_of_a_folder(bucket, tmp_path):
    for place in (tmp_path, bucket):
        open_writable(place).put(**a_run())
    for name in NAMES:
        assert read_file(f"{bucket}/{KEY}/{name}") == (tmp_path / str(KEY) / name).read_bytes()


def test_a_run_that_is_there_stays_unless_overwritten(zoo):
    zoo.put(**a_run())
    other = {**a_run(), "state": {name: tensor + 1 for name, tensor in a_run()["state"].items()}}
    assert zoo.put(**other) is False
    assert torch.equal(zoo.state(KEY)["layers.0.bias"], a_run()["state"]["layers.0.bias"])
    assert zoo.put(**other, overwrite=True) is True
    fresh = open_zoo(zoo.location)
    assert torch.equal(fresh.state(KEY)["layers.0.bias"], other["state"]["layers.0.bias"])
    assert sorted(list_files(zoo.location)) == [f"{KEY}/{name}" for name in NAMES]


def test_a_run_with_aux_arrays_only_is_counted_and_not_loaded(zoo):
    assert zoo.put(**{**a_run(), "state": None}) is True
    assert zoo.keys() == [KEY]
    assert (zoo.missing([KEY]), zoo.missing([KEY], model=False)) == ([KEY], [])
    assert zoo.aux(KEY).train_examples == 1437
    assert zoo.metadata(KEY) == a_run()["metadata"]
    with pytest.raises(ZooError, match="has only aux arrays: statistics can use it, but it has no model"):
        load_run(KEY, zoo=zoo)
    assert zoo.put(**{**a_run(), "state": None}) is False


def test_a_model_is_added_to_aux_arrays_which_stay(zoo):
    ours = {**a_run(), "state": None}
    ours["aux"] = replace(ours["aux"], correctness_test=np.ones(360, np.uint8))
    zoo.put(**ours)
    assert zoo.put(**a_run()) is True
    assert zoo.missing([KEY]) == []
    fresh = open_zoo(zoo.location)
    assert fresh.aux(KEY).correctness_test.all()
    assert fresh.record(KEY).accuracy[2] == 1.0
    assert torch.equal(fresh.state(KEY)["layers.0.bias"], a_run()["state"]["layers.0.bias"])
    fresh.files(KEY)


def test_a_model_of_another_subset_is_not_added(zoo):
    ours = {**a_run(), "state": None}
    order = np.arange(1437, dtype=np.int32)[::-1]
    ours["aux"] = replace(ours["aux"], index_train=order[:1005], index_removed=order[1005:], subsample_idx=order[:1005])
    zoo.put(**ours)
    with pytest.raises(ZooError, match="are of different subsets"):
        zoo.put(**a_run())


def test_overwriting_aux_arrays_keeps_the_model(zoo):
    zoo.put(**a_run())
    ours = {**a_run(), "state": None}
    ours["aux"] = replace(ours["aux"], correctness_test=np.ones(360, np.uint8))
    assert zoo.put(**ours) is False
    assert zoo.put(**ours, overwrite=True) is True
    fresh = open_zoo(zoo.location)
    assert fresh.record(KEY).accuracy[2] == 1.0
    assert torch.equal(fresh.state(KEY)["layers.0.bias"], a_run()["state"]["layers.0.bias"])


def test_the_record_comes_last(bucket, monkeypatch):
    zoo, written = open_writable(bucket), []

    def write(location, data):
        written.append(location.rpartition("/")[2])
        if written[-1] == "run.json":
            raise ZooError("the connection broke")
        write_file(location, data)

    monkeypatch.setattr("heldout_torch.zoo.bucket.write_file", write)
    with pytest.raises(ZooError, match="the connection broke"):
        zoo.put(**a_run())
    assert written == NAMES


@pytest.mark.parametrize("names", [[], ["aux_arrays.npz"], ["model.safetensors"]])
def test_a_half_run_is_not_there_and_is_completed(zoo, names):
    zoo.put(**a_run())
    for name in NAMES:
        if name not in names:
            remove_file(file_of(zoo, name))
    fresh = open_writable(zoo.location)
    assert fresh.keys() == []
    assert KEY not in fresh
    assert fresh.missing([KEY], model=False) == [KEY]
    assert fresh.put(**a_run()) is True
    assert fresh.keys() == [KEY]
    fresh.files(KEY)


def test_a_run_of_the_old_format_is_there(zoo):
    zoo.put(**a_run())
    remove_file(file_of(zoo, "run.json"))
    fresh = open_writable(zoo.location)
    assert fresh.keys() == [KEY]
    assert fresh.put(**a_run()) is False
    if isinstance(fresh, FolderZoo):
        assert load_run(KEY, zoo=fresh).metadata == a_run()["metadata"]
        assert KEY in fresh
    with fresh:
        pass
    assert sorted(name for name in list_files(zoo.location) if "0.7" in name) == [f"{KEY}/{name}" for name in NAMES]
    assert load_run(KEY, zoo=zoo.location).metadata == a_run()["metadata"]


def test_what_is_known_of_an_old_run_is_read_from_a_header_of_any_length(tmp_path, monkeypatch):
    zoo = FolderZoo(tmp_path)
    zoo.put(**a_run())
    remove_file(file_of(zoo, "run.json"))
    monkeypatch.setattr(folder, "FIRST_BYTES", 100)
    assert zoo.metadata(KEY) == a_run()["metadata"]


def test_folders_of_other_names_are_no_runs(zoo):
    zoo.put(**a_run())
    for name in ("1a", ".partial-7", "-1", "99999999999"):
        write_file(f"{zoo.location}/digits-mlp/0.7/{name}/run.json", b"")
    write_file(f"{zoo.location}/digits-mlp/0.7/.training-8.safetensors", b"")
    assert open_zoo(zoo.location).keys() == [KEY]


def test_reading_what_is_known_of_an_old_run_costs_the_header(bucket, monkeypatch):
    zoo = open_writable(bucket)
    with zoo:
        zoo.put(**a_run())
    remove_file(file_of(zoo, "run.json"))
    asked = []
    read = web.read_range
    monkeypatch.setattr(web, "read_range", lambda *arguments: asked.append(arguments[1:]) or read(*arguments))
    assert open_zoo(bucket).metadata(KEY) == a_run()["metadata"]
    assert asked == [(0, model_file.FIRST_BYTES)]
    asked.clear()
    monkeypatch.setattr(web, "FIRST_BYTES", 100)
    assert open_zoo(bucket).metadata(KEY) == a_run()["metadata"]
    assert len(asked) == 2
    assert asked[1][1] < 3000


@pytest.mark.parametrize(
    "data", [b"", b"no model", b"\xff" * 100, b"\x02\0\0\0\0\0\0\0{}", b"\x02\0\0\0\0\0\0\0[]", b"\0" * 99]
)
@pytest.mark.parametrize("name", ["model.safetensors", "run.json"])
def test_a_damaged_file_is_one_line(zoo, data, name):
    zoo.put(**a_run())
    write_file(file_of(zoo, name), data)
    with pytest.raises(ZooError, match=rf"0.7/12/{name}: ") as error:
        load_run(KEY, zoo=open_zoo(zoo.location))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("names", [NAMES, NAMES[:2]])
def test_a_run_in_another_runs_place_is_refused(zoo, names):
    zoo.put(**a_run())
    other = replace(KEY, run=13)
    for name in names:
        write_file(file_of(zoo, name, other), read_file(file_of(zoo, name)))
    with pytest.raises(ZooError, match=r"says that it is digits-mlp/0.7/12, but is in the folder of digits-mlp/0.7/13"):
        open_zoo(zoo.location).metadata(other)


def test_an_own_experiment_is_declared(zoo):
    mine = replace(DIGITS, name="mine")
    with pytest.raises(ZooError, match="'mine' is not known"):
        zoo.experiment("mine")
    zoo.declare(mine)
    zoo.declare(mine)
    zoo.declare(DIGITS)
    assert zoo.experiment("mine") == mine
    assert zoo.experiment("digits-mlp") == DIGITS
    assert list(list_files(zoo.location)) == ["mine/experiment.json"]
    with pytest.raises(ZooError, match=r"declares mine differently, config.in_features is 64, not absent, .*; choose"):
        zoo.declare(replace(mine, config={"widths": [1]}))
    write_file(f"{zoo.location}/mine/experiment.json", b"{")
    with pytest.raises(ZooError, match=r"mine/experiment.json: cannot be read as JSON"):
        open_zoo(zoo.location).experiment("mine") if isinstance(zoo, FolderZoo) else zoo.declare(mine)


def test_runs_are_not_written_into_the_folder_of_an_experiment(tmp_path):
    """They were filed below it once more, and `zoo index` there wrote a manifest that called every run damaged."""
    with open_writable(tmp_path / "zoo") as zoo:
        zoo.put(**a_run())
    with pytest.raises(ZooError, match=rf"zoo/digits-mlp: is the folder of one experiment; .* {tmp_path}/zoo$"):
        open_writable(tmp_path / "zoo/digits-mlp")
    assert len(list_runs(tmp_path / "zoo/digits-mlp")) == 1


@pytest.mark.parametrize("zoo", ["http://127.0.0.1:1/zoo", "https://example.org/zoo", "archive.tar.gz"])
def test_what_only_serves_cannot_be_written(zoo):
    with pytest.raises(ZooError, match=rf"{zoo}: (is on a web server, which|is a TensorFlow archive, which)"):
        open_writable(zoo)


def test_what_lies_in_a_runs_place_is_named(tmp_path):
    zoo, path = open_writable(tmp_path), tmp_path / str(KEY)
    path.parent.mkdir(parents=True)
    path.touch()
    with pytest.raises(ZooError, match=rf"{path}: cannot be written \(Not a directory\)"):
        zoo.put(**a_run())
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(
        ZooError, match=rf"{path}: cannot be written \(It is a link to .*elsewhere, which is not there\)"
    ):
        zoo.put(**a_run())
    (tmp_path / "elsewhere").mkdir()
    assert zoo.put(**a_run())
    assert sorted(file.name for file in (tmp_path / "elsewhere").iterdir()) == NAMES


def test_what_cannot_be_written_is_noticed_at_the_start(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file/zoo", "/proc/zoo"):
        with pytest.raises(ZooError, match=r"(file|zoo).*: (is a file|cannot be written)"), open_writable(place):
            pass


def test_what_cannot_be_reached_at_all_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    for place, name in (("gs://bucket/zoo", "gcsfs"), ("nosuch://bucket/zoo", "nosuch")):
        with pytest.raises(ZooError, match=name), open_writable(place):
            pass
    monkeypatch.setenv("HELDOUT_TORCH_OFFLINE", "1")
    with (
        pytest.raises(ZooError, match="HELDOUT_TORCH_OFFLINE forbids the use of the network"),
        open_writable("memory://zoo"),
    ):
        pass


def test_a_run_in_a_bucket_can_be_loaded_at_once(bucket):
    open_writable(bucket).put(**a_run())
    loaded = load_run("digits-mlp", 0.7, 12, bucket).model.state_dict()
    assert all(torch.equal(tensor, a_run()["state"][name]) for name, tensor in loaded.items())


def test_a_run_that_others_replace_all_the_time_is_always_there(tmp_path):
    zoo, stop, written = open_writable(tmp_path / "zoo"), threading.Event(), []
    zoo.put(**a_run())

    def overwrite(number):
        runs = [
            RunFiles.of(a_run()["metadata"], {n: t + i for n, t in a_run()["state"].items()}, a_run()["aux"])
            for i in range(number, number + 2)
        ]
        while not stop.is_set():
            written.append(zoo.put_files(runs[len(written) % 2], overwrite=True))

    writers = [threading.Thread(target=overwrite, args=(number,)) for number in (1, 3)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(1500):
            assert KEY in zoo
            zoo.files(KEY)
            load_run(KEY, zoo=zoo)
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert len(written) > 10
    assert sorted(list_files(zoo.location)) == [f"{KEY}/{name}" for name in NAMES]


def test_a_bucket_of_a_misspelt_name_is_not_made(bucket):
    misspelt = open_writable(f"{bucket}-x/zoo")
    with pytest.raises(ZooError, match=r"-x/zoo: cannot be written"), misspelt:
        misspelt.put(**a_run())
    assert not s3fs.S3FileSystem().exists(f"{bucket}-x")


def test_whoever_may_write_and_not_remove_can_fill_a_bucket(bucket, monkeypatch):
    async def refuse(self, path, **options):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(s3fs.S3FileSystem, "_rm_file", refuse)
    with open_writable(bucket) as zoo:
        zoo.put(**a_run())
    assert zoo.keys() == [KEY]
