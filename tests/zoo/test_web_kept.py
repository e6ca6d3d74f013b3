"""Zoos on web servers: what is kept of them serves offline, and gives way to what lies there now."""

import json
import pickle
import shutil

import pytest

from heldout_torch import ZooError, list_runs, load_run
from heldout_torch.zoo import cache
from heldout_torch.zoo.copy import fetch_runs
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.open import open_writable, open_zoo
from heldout_torch.zoo.records import MAX_RECORD
from tests.helpers.archives import EXPERIMENT, multiply
from tests.helpers.server import Server
from tests.helpers.zoos import export
from tests.zoo.test_web import publish_mine

KEY = RunKey(EXPERIMENT, 0.7, 1)
FOLDER = f"{EXPERIMENT}/0.7/1"


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HELDOUT_TORCH_OFFLINE", raising=False)
    export(multiply(tmp_path / "tree", 2), tmp_path / "served")
    with Server(tmp_path / "served").running() as running:
        yield running


def kept(server, name):
    return cache.cache_folder(server.url) / name


def test_a_zoo_that_is_used_offline_is_so_in_every_process_and_asks_for_nothing(server):
    load_run(KEY, zoo=server.url)
    kept(server, f"{FOLDER}/model.safetensors").unlink()
    before = server.requests.total()
    zoo = open_zoo(server.url, offline=True)
    for again in (zoo, pickle.loads(pickle.dumps(zoo))):
        assert again.keys() == [KEY]  # by its record, as no manifest is kept
        assert again.aux(KEY).train_examples == 1437
        assert again.read("README.md") is None
        with pytest.raises(ZooError, match=r"is not in the cache .*, and offline"):
            again.state(KEY)
    assert server.requests.total() == before


def test_a_run_that_was_fetched_can_be_counted_over_offline_though_nobody_read_it(server):
    key = publish_mine(server)
    zoo, told = open_zoo(server.url), []
    list(fetch_runs(zoo, zoo.keys(), 1, told.append))
    assert sum(told) == sum((server.folder / str(key) / name).stat().st_size for name in zoo.record(key).files)
    assert open_zoo(server.url, offline=True).aux(key).train_examples == 1437


def test_a_broken_manifest_does_not_take_the_place_of_a_good_one(server):
    runs = list_runs(server.url)
    (server.folder / "manifest.json").write_bytes(b"{broken")
    with pytest.raises(ZooError, match=r"manifest.json: "):
        list_runs(server.url)
    assert open_zoo(server.url, offline=True).keys() == runs
    assert open_zoo(server.url, offline=True).keys("other") == []


def test_a_run_that_is_replaced_is_copied_as_it_is_now(server):
    """Whoever asked for it before knows the record of the old one, or the manifest that has it."""
    by_record, by_manifest = open_zoo(server.url), open_zoo(server.url)
    by_record.record(KEY)
    by_manifest.keys()
    shutil.copy(server.folder / EXPERIMENT / "0.7/0/aux_arrays.npz", server.folder / FOLDER)
    open_writable(server.folder).index()
    now = open_zoo(server.folder).files(KEY)
    for zoo in (by_record, by_manifest):
        assert zoo.files(KEY) == now
        zoo.aux(KEY)
        assert zoo.record(KEY) == now.record


def test_a_file_that_the_server_lost_is_named(server):
    (server.folder / FOLDER / "model.safetensors").unlink()
    with pytest.raises(ZooError, match=r"0.7/1: model.safetensors not as recorded"):
        open_zoo(server.url).files(KEY)


@pytest.mark.parametrize("kept", [True, False])
def test_a_recorded_file_that_the_server_lost_is_one_line_whatever_the_cache_takes(server, tmp_path, kept):
    """Where nothing could be kept, FileNotFoundError came through."""
    (server.folder / FOLDER / "model.safetensors").unlink()
    if not kept:
        (tmp_path / "cache").touch()
    with pytest.raises(ZooError, match=r"model.safetensors: is recorded, but there is no such file"):
        load_run(KEY, zoo=server.url)
    (server.folder / FOLDER / "run.json").unlink()
    with pytest.raises(ZooError, match=r"model.safetensors: is recorded, but there is no such file"):
        open_zoo(server.url).metadata(KEY) if not kept else load_run(KEY, zoo=server.url)


def test_that_a_zoo_cannot_be_listed_is_said_after_a_run_was_looked_for_too(server):
    """It was then a zoo without runs."""
    (server.folder / "manifest.json").unlink()
    zoo = open_zoo(server.url)
    assert RunKey(EXPERIMENT, 0.7, 99) not in zoo
    with pytest.raises(ZooError, match=r"manifest.json: there is no such file; .*heldout zoo index"):
        zoo.keys()


def test_a_wrong_file_is_fetched_once(server):
    server.faults[f"{FOLDER}/model.safetensors"] = ["wrong"] * 9
    with pytest.raises(ZooError, match="does not have the recorded SHA-256"):
        open_zoo(server.url).state(KEY)
    assert server.requests[f"{FOLDER}/model.safetensors"] == 1


def test_a_run_of_the_old_format_that_no_manifest_has_is_there(server):
    (server.folder / "manifest.json").unlink()
    record = json.loads((server.folder / FOLDER / "run.json").read_bytes())
    (server.folder / FOLDER / "run.json").unlink()
    zoo = open_zoo(server.url)
    assert KEY in zoo
    assert zoo.metadata(KEY).epoch == record["metadata"]["epoch"]
    assert zoo.aux(KEY).train_examples == 1437


def test_a_record_without_end_is_not_taken(server):
    (server.folder / FOLDER / "run.json").write_bytes(b" " * (MAX_RECORD + 1))
    with pytest.raises(ZooError, match=rf"run.json: has more than {MAX_RECORD} bytes"):
        open_zoo(server.url).record(KEY)
