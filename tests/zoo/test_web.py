"""Zoos on web servers: one run costs that run, faults are retried or refused, and the cache never holds a bad file.

Also of zoo/cache.py.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from heldout_torch import ZooError, list_runs, load_run
from heldout_torch.archives.indexed import IndexedArchive
from heldout_torch.archives.stream import export_archive
from heldout_torch.cli import main
from heldout_torch.experiments import find_experiment
from heldout_torch.storage import retries
from heldout_torch.zoo import cache as remote
from heldout_torch.zoo import sample_zoo
from heldout_torch.zoo.copy import copy_runs, fetch_runs
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.manifest import Manifest
from heldout_torch.zoo.open import open_writable, open_zoo
from tests.helpers.archives import EXPERIMENT, contents, multiply, pack
from tests.helpers.process import started, wait_for
from tests.helpers.server import Server
from tests.helpers.zoos import errors, export, manifest_of
from tests.reference import run_reference

REPOSITORY = Path(__file__).parent.parent.parent
RUN = f"{EXPERIMENT}/0.7/3"
MODEL, AUX, RECORD = f"{RUN}/model.safetensors", f"{RUN}/aux_arrays.npz", f"{RUN}/run.json"
KEY = RunKey(EXPERIMENT, 0.7, 3)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """An indexed zoo of six small runs."""
    folder = tmp_path_factory.mktemp("published")
    export(multiply(folder / "tree", 6), folder / "zoo")
    return folder / "zoo"


@pytest.fixture
def server(published, tmp_path, monkeypatch):
    """A server of a copy of it; the cache is empty, and waiting before a further try is short."""
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HELDOUT_TORCH_OFFLINE", raising=False)
    monkeypatch.setattr(retries, "WAITS", (0.01, 0.02, 0.03))
    with Server(Path(shutil.copytree(published, tmp_path / "served"))).running() as running:
        yield running


def load(server, **options):
    return load_run(EXPERIMENT, 0.7, 3, server.url, **options)


def cached(server):
    return contents(remote.cache_folder(server.url))


def assert_cached_well(server, published):
    assert cached(server) == {name: (published / name).read_bytes() for name in (AUX, MODEL, RECORD)}


def test_one_run_costs_its_bytes_and_its_records(server, published):
    run = load(server)
    expected = load_run(EXPERIMENT, 0.7, 3, published)
    for name, tensor in run.model.state_dict().items():
        assert torch.equal(tensor, expected.model.state_dict()[name])
    assert (run.aux.index_train == expected.aux.index_train).all()
    assert server.sent == {name: (published / name).stat().st_size for name in (RECORD, MODEL, AUX)}
    assert server.requests.total() <= 6
    before = server.requests.total()
    load(server)
    assert server.requests.total() == before
    assert_cached_well(server, published)


def test_runs_are_listed_from_the_manifest(server, published):
    assert list_runs(server.url) == list_runs(published)
    assert server.requests == {"manifest.json": 1}
    with pytest.raises(ZooError, match=r"digits-mlp-tf/0.7/99 is not in http.*; it has digits-mlp-tf/0.7 runs 0-5"):
        load_run(EXPERIMENT, 0.7, 99, server.url)


@pytest.mark.parametrize("fault", ["500", "drop", "slow"])
@pytest.mark.parametrize("name", [RECORD, MODEL, AUX])
def test_a_fault_that_passes_is_got_over(server, published, name, fault):
    server.faults[name] = [fault, fault]
    load(server)
    assert server.requests[name] == (1 if fault == "slow" else 3)
    assert_cached_well(server, published)


@pytest.mark.parametrize("fault", ["500", "drop"])
def test_a_fault_that_stays_is_an_error(server, fault):
    server.faults[MODEL] = [fault] * 100
    with pytest.raises(ZooError, match=r"model.safetensors: cannot be reached, tried 4 times"):
        load(server)
    assert MODEL not in cached(server)


def test_a_wrong_byte_is_never_kept(server, published):
    server.faults[MODEL] = ["wrong"] * 100
    with pytest.raises(ZooError, match=r"model.safetensors: does not have the recorded SHA-256"):
        load(server)
    assert MODEL not in cached(server)
    server.faults.clear()
    load(server)
    assert_cached_well(server, published)


@pytest.mark.parametrize("name", [MODEL, AUX])
def test_no_more_is_fetched_than_a_file_can_have(server, name):
    """A server without end would fill the disk."""
    record = server.folder / RECORD
    table = json.loads(record.read_text())
    table["files"][Path(name).name][0] = 2**40
    record.write_text(json.dumps(table))
    with pytest.raises(ZooError, match=rf"{name}: cannot have {2**40} bytes, as it is recorded to have"):
        load(server)
    assert server.sent[name] == 0


def test_what_stands_for_a_zoo_and_a_run_shows_no_password(server):
    server.login = "me:hush"
    zoo = open_zoo(server.url.replace("http://", "http://me:hush@"))
    shown = repr(zoo), repr(load_run(KEY, zoo=zoo)), repr(IndexedArchive(f"{zoo.location}/x.tar.gz"))
    assert all("http://...@" in text and "hush" not in text for text in shown)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a pointer of Git LFS, not the file"),
        (b"<!doctype html><title>Sign in</title>", "a web page"),
    ],
)
@pytest.mark.parametrize("name", [MODEL, AUX, RECORD, "manifest.json"])
def test_a_clone_without_its_large_files_says_what_lies_there(server, name, data, kind):
    """It said "ValueError in its header", or that the manifest may be out of date."""
    (server.folder / name).write_bytes(data)
    message = rf"{name}: (does not have|is not a readable) .* \(it is {kind}"
    with pytest.raises(ZooError, match=message):
        list_runs(server.url) if name == "manifest.json" else open_zoo(server.url).fetch(KEY, lambda sent: None)
    if name not in (AUX, "manifest.json"):
        with pytest.raises(ZooError, match=message):
            load_run(KEY, zoo=server.folder)
    if name in (MODEL, AUX):
        with pytest.raises(ZooError, match=rf"{Path(name).name} \(it is {kind}.*\) not as recorded; export"):
            open_zoo(server.folder).files(KEY)


def publish_anew(server):
    """Publish run 3 again, with the aux arrays of another."""
    shutil.copy(server.folder / EXPERIMENT / "0.7/2/aux_arrays.npz", server.folder / RUN)


def test_what_is_known_of_a_run_may_be_older_than_the_run(server):
    zoo = open_zoo(server.url)
    zoo.keys()  # the manifest
    publish_anew(server)
    with pytest.raises(ZooError, match="or the manifest is out of date"):
        zoo.aux(KEY)
    assert AUX not in cached(server)
    assert open_writable(server.folder).index().damaged == {}
    assert zoo.aux(KEY).index_train.tolist() == open_zoo(server.folder).aux(KEY).index_train.tolist()
    load(server)


def test_a_run_that_the_manifest_lacks_is_found_by_its_record(server):
    text = (server.folder / "manifest.json").read_text()
    manifest = Manifest.from_bytes(text.encode(), "manifest.json")
    del manifest.runs[KEY]
    (server.folder / "manifest.json").write_bytes(manifest.to_bytes())
    zoo = open_zoo(server.url)
    assert len(zoo.keys()) == 5
    assert KEY in zoo
    assert load_run(KEY, zoo=zoo).key == KEY


def test_a_zoo_without_records_is_read_by_its_manifest(server, published):
    for record in server.folder.rglob("run.json"):
        record.unlink()
    load(server)
    assert cached(server)[RECORD] == (published / RECORD).read_bytes()
    before = server.requests.total()
    load(server, offline=True)
    assert server.requests.total() == before


def test_one_run_of_a_large_zoo_costs_no_more(server):
    whole = Manifest.from_bytes((server.folder / "manifest.json").read_bytes(), "manifest.json")
    many = {RunKey(EXPERIMENT, ratio / 10, run): whole.runs[KEY] for ratio in range(1, 10) for run in range(10, 2010)}
    (server.folder / "manifest.json").write_bytes(Manifest({**whole.runs, **many}).to_bytes())
    run = load(server)
    assert run.aux.train_examples == 1437
    own = {MODEL: 1, AUX: 1}
    beyond = {name: count for name, count in server.requests.items() if name not in own}
    assert server.requests[MODEL] == server.requests[AUX] == 1
    assert sum(beyond.values()) <= 3
    assert sum(server.sent[name] for name in beyond) < 65_536


def test_a_manifest_is_fetched_once_for_many_runs(server):
    zoo = open_zoo(server.url)
    for key in zoo.keys():
        zoo.record(key)
        zoo.aux(key)
    assert server.requests["manifest.json"] == 1
    assert not [name for name in server.requests if name.endswith("run.json")]


def test_a_server_without_ranges_serves_whole_files(server, published, monkeypatch):
    server.ranges = False
    monkeypatch.setattr(remote, "CHUNK", 1000)
    load(server)
    assert server.requests[MODEL] == 1
    assert_cached_well(server, published)


def test_a_server_that_lost_ranges_in_the_middle_sends_the_whole_file_anew(server, published, monkeypatch):
    monkeypatch.setattr(remote, "CHUNK", 1000)
    server.faults[MODEL] = [""] * 5 + ["500"] * 8
    with pytest.raises(ZooError, match="cannot be reached"):
        load(server)
    server.ranges = False
    server.faults[MODEL] = []
    load(server)
    assert server.sent[MODEL] == 5000 + (published / MODEL).stat().st_size
    assert_cached_well(server, published)


def test_a_download_goes_on_where_it_stopped(server, published, monkeypatch):
    monkeypatch.setattr(remote, "CHUNK", 1000)
    size = (published / MODEL).stat().st_size
    server.faults[MODEL] = [""] * 5 + ["500"] * 100
    with pytest.raises(ZooError, match="cannot be reached"):
        load(server)
    server.faults.clear()
    load(server)
    assert server.sent[MODEL] == size
    assert_cached_well(server, published)


@pytest.mark.parametrize("name", [MODEL, AUX])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_cached_file_is_fetched_again(server, published, name, damage):
    load(server)
    path = remote.cache_folder(server.url) / name
    data = path.read_bytes()
    path.unlink()
    if damage != "remove":
        path.write_bytes(data[:-1] if damage == "cut" else bytes([data[0] ^ 1]) + data[1:])
    load(server)
    assert server.requests[name] == 2
    assert_cached_well(server, published)


def publish_mine(server, examples=1437):
    """Serve another zoo, of one run of an experiment of its own, with so many training examples."""
    shutil.rmtree(server.folder)
    experiment = replace(find_experiment("digits-mlp-tf"), name="mine", train_examples=examples)
    source, key = open_zoo(sample_zoo()), RunKey(EXPERIMENT, 0.7, 0)
    whole, bits = source.aux(key), np.zeros(examples, np.uint8)
    split = 7 * examples // 10
    aux = whole if examples == 1437 else replace(
        whole, index_train=np.arange(split), subsample_idx=np.arange(split), correctness_train=bits[:split],
        index_removed=np.arange(split, examples), correctness_removed=bits[split:],
    )  # fmt: skip
    with open_writable(server.folder) as zoo:
        zoo.declare(experiment)
        zoo.put(replace(source.metadata(key), experiment="mine"), source.state(key), aux)
    return RunKey("mine", 0.7, 0)


@pytest.mark.parametrize("listed", [True, False])
def test_what_is_known_of_an_experiment_may_be_older_than_the_zoo(server, listed):
    key = publish_mine(server)
    assert open_zoo(server.url).aux(key).train_examples == 1437
    publish_mine(server, 100)
    zoo = open_zoo(server.url)
    if listed:
        zoo.keys()
        assert zoo.experiment("mine").train_examples == 100
    assert zoo.aux(key).train_examples == 100
    assert open_zoo(server.url).experiment("mine").train_examples == 100


def test_damaged_small_files_of_the_cache_are_fetched_again(server):
    key, root = publish_mine(server), remote.cache_folder(server.url)
    list(fetch_runs(open_zoo(server.url), [key]))
    list_runs(server.url)
    assert load_run(str(key), zoo=server.url).aux.train_examples == 1437
    whole = {name: (root / name).read_bytes() for name in ("mine/experiment.json", f"{key}/run.json", "manifest.json")}
    for name in whole:
        for contents_now in (whole[name] + b" " * 2**16, b"{broken", whole[name][:-9], b""):
            (root / name).write_bytes(contents_now)
            assert load_run(str(key), zoo=server.url).aux.train_examples == 1437
            assert list_runs(server.url) == [key]
    list(fetch_runs(open_zoo(server.url), [key]))
    assert {name: (root / name).read_bytes() for name in whole} == whole
    (root / f"{key}/run.json").write_bytes(b"{broken")
    with pytest.raises(ZooError, match=r"run.json: is not a readable record"):  # there is no good one
        load_run(str(key), zoo=server.url, offline=True)


def test_offline_only_the_cache_serves(server, monkeypatch):
    with pytest.raises(ZooError, match="nothing of this zoo is cached"):
        load(server, offline=True)
    load(server)
    before = server.requests.total()
    load(server, offline=True)
    monkeypatch.setenv("HELDOUT_TORCH_OFFLINE", "1")
    load(server)
    with pytest.raises(ZooError, match="HELDOUT_TORCH_OFFLINE forbids"):
        load_run(EXPERIMENT, 0.7, 1, server.url)
    (remote.cache_folder(server.url) / MODEL).write_bytes(b"damaged")
    with pytest.raises(ZooError, match="HELDOUT_TORCH_OFFLINE forbids"):
        load(server)
    assert server.requests.total() == before


def test_a_zoo_without_manifest_cannot_be_listed_and_its_runs_are_there(server):
    (server.folder / "manifest.json").unlink()
    with pytest.raises(ZooError, match=r"manifest.json: there is no such file; .*heldout zoo index"):
        list_runs(server.url)
    load(server)


def test_a_run_met_without_record_or_manifest_is_not_listed_as_the_only_one(server):
    (server.folder / "manifest.json").unlink()
    (server.folder / RECORD).unlink()
    zoo = open_zoo(server.url)
    assert KEY in zoo
    with pytest.raises(ZooError, match=r"manifest.json: there is no such file"):
        zoo.keys()


def test_every_zoo_has_a_folder_of_its_own_whose_name_tells_no_secret():
    hosts = ["a/x/zoo", "b/x/zoo", "a/y/zoo", "a/x/zoo?signed=secret", "me:secret@a/x/zoo", "me:secret@zoo"]
    folders = [remote.cache_folder(f"https://{host}") for host in hosts] + [remote.cache_folder("s3://a/x/zoo")]
    assert len(set(folders)) == len(folders)
    assert all(folder.name.startswith("zoo-") and "secret" not in folder.name for folder in folders)
    assert remote.cache_folder("https://a/x/zoo/") == folders[0]
    assert remote.cache_folder("https://a/..").parent == folders[0].parent
    assert remote.cache_folder(os.fsdecode(b"https://a/\xff")).parent == folders[0].parent  # no UTF-8


def test_no_server_is_named():
    with pytest.raises(ZooError, match=r"http://127.0.0.1:1/.*: cannot be reached"):
        load_run(EXPERIMENT, 0.7, 3, "http://127.0.0.1:1")


def test_a_manifest_cannot_lead_out_of_the_cache(server):
    text = (server.folder / "manifest.json").read_text()
    (server.folder / "manifest.json").write_text(text.replace(f'"{EXPERIMENT}"', '"../out"'))
    with pytest.raises(ZooError, match="is not a name for an experiment"):
        list_runs(server.url)


def test_a_protocols_package_is_asked_for_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(ZooError, match="gcsfs"):
        list_runs("gs://bucket/zoo")
    with pytest.raises(ZooError, match="nosuch"):
        list_runs("nosuch://bucket/zoo")


def test_sixteen_processes_fetch_a_run_once(server, published):
    # They fork after the imports, which would take sixteen times as long.
    code = f"""
import os, sys
from heldout_torch.zoo.open import open_zoo
from heldout_torch.zoo.keys import make_key

children = []
for _ in range(16):
    children.append(os.fork())
    if children[-1] == 0:
        open_zoo({server.url!r}).fetch(make_key({EXPERIMENT!r}, 0.7, 3), lambda count: None)
        os._exit(0)
sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))
"""
    server.faults[MODEL] = ["slow"]
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert (server.requests[MODEL], server.requests[AUX]) == (1, 1)
    assert_cached_well(server, published)


def test_fetching_many_names_what_fails(server, published):
    keys = [RunKey(EXPERIMENT, 0.7, run) for run in range(6)]
    server.faults[MODEL] = ["wrong"] * 100
    outcomes = list(fetch_runs(open_zoo(server.url), keys, 4))
    assert (len(outcomes), list(errors(outcomes))) == (6, [3])
    server.faults.clear()
    assert not errors(fetch_runs(open_zoo(server.url), keys, 4))
    assert cached(server) == contents(published)
    with pytest.raises(ZooError, match="is on this disk already"):
        list(fetch_runs(open_zoo(published), keys))


@pytest.mark.parametrize("taken", ["", RECORD])
def test_a_pull_ends_where_the_cache_takes_nothing(server, taken, monkeypatch, capsys):
    """It fetched all, and said that it is there; a run that is loaded needs no cache."""
    place = remote.cache_folder(server.url) / taken
    place.parent.mkdir(parents=True)
    place.mkdir() if taken else place.touch()
    assert main(["zoo", "pull", server.url]) == 1
    said = capsys.readouterr()
    pattern = rf"error: {place.parent}\S*: cannot be written \(.*\); set HELDOUT_TORCH_CACHE to a folder of your own\n"
    assert re.fullmatch(pattern, said.err)
    assert not said.out
    assert taken or not server.requests[MODEL]


def test_copying_out_of_a_web_server_gives_the_same_bytes(server, published, tmp_path):
    zoo = open_zoo(server.url)
    assert not errors(copy_runs(zoo, open_writable(tmp_path / "copy"), zoo.keys()))
    assert contents(tmp_path / "copy") == contents(published)
    publish_anew(server)
    assert "aux_arrays.npz not as recorded" in errors(copy_runs(zoo, open_writable(tmp_path / "b"), zoo.keys()))[3]
    assert KEY not in open_zoo(tmp_path / "b")


@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_copying_a_zoo_copies_what_is_missing_and_goes_on(published, tmp_path, kind, monkeypatch):
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path / "cache"))
    target = open_writable(str(tmp_path / "there") if kind == "folder" else f"memory://{tmp_path.name}")
    source = open_zoo(published)

    def copied(keys):
        return sum(not outcome.skipped for outcome in copy_runs(source, target, keys))

    assert [copied(source.keys()[:4]), copied(source.keys()), copied(source.keys())] == [4, 2, 0]
    assert manifest_of(target).runs == manifest_of(open_writable(published)).runs
    if kind == "folder":
        assert contents(tmp_path / "there") == contents(published)
    assert load_run(EXPERIMENT, 0.7, 5, target).metadata.run == 5


def test_a_run_that_is_not_as_recorded_is_not_copied(published, tmp_path):
    zoo = Path(shutil.copytree(published, tmp_path / "zoo"))
    (zoo / MODEL).write_bytes(b"changed")
    found = errors(export(zoo, tmp_path / "there"))
    assert "model.safetensors not as recorded" in found.pop(3)
    assert found == {}
    assert len(open_zoo(tmp_path / "there").keys()) == 5


def test_the_hub_fetches_one_run_into_an_empty_cache(tmp_path, monkeypatch):
    tree = tmp_path / "tree"
    run_reference("published_runs", tree, "cifar10-inception", "0.5", 123, 124)
    with open(pack(tree, tmp_path / "cifar10-inception.tar.gz"), "rb") as stream:
        list(export_archive(stream, "cifar10-inception.tar.gz", tmp_path / "zoo"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.delenv("HELDOUT_TORCH_CACHE", raising=False)
    with Server(tmp_path / "zoo").running() as server:
        options = {"source": "local", "subset_ratio": 0.5, "run": 123, "zoo": server.url}
        model = torch.hub.load(str(REPOSITORY), "cifar10_inception", **options)
    expected = load_run("cifar10-inception", 0.5, 123, tree).model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
    names = ("run.json", "model.safetensors", "aux_arrays.npz")
    assert set(server.requests) == {f"cifar10-inception/0.5/123/{name}" for name in names}
    (where,) = (tmp_path / "home/hub/heldout_torch").iterdir()
    assert len(contents(where)) == 3


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_nginx_serves_a_run(published, tmp_path, monkeypatch):
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "CHUNK", 5000)
    served = Path(shutil.copytree(published, tmp_path / "served"))
    user = "user root;" if os.geteuid() == 0 else ""
    with socket.socket() as kept:  # which nobody else is given, and nginx may listen at
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", 0))
        port = kept.getsockname()[1]
        (tmp_path / "nginx.conf").write_text(
            f"daemon off; {user} pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}}\n"
            f"http {{ access_log {tmp_path}/access.log; client_body_temp_path {tmp_path}; proxy_temp_path {tmp_path};\n"
            f"server {{ listen 127.0.0.1:{port}; root {served}; }} }}\n"
        )
        command = ["nginx", "-p", tmp_path, "-e", tmp_path / "error.log", "-c", tmp_path / "nginx.conf"]
        with started(command) as process:
            wait_for(lambda: (tmp_path / "pid").exists() or process.poll() is not None)
            run = load_run(EXPERIMENT, 0.7, 3, f"http://127.0.0.1:{port}")
            process.terminate()
            process.wait()
    assert run.metadata.run == 3
    log = (tmp_path / "access.log").read_text()
    assert " 206 " in log
    assert all(f"GET /{RUN}/" in line or "GET /manifest.json" in line for line in log.splitlines())
