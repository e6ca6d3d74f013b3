"""Remote zoos: one run costs that run, faults are retried or refused, and the cache never holds a bad file."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from heldout_torch.zoo.export import export_runs, select_runs
from heldout_torch.zoo.transfer import pull_runs, push_zoo

from heldout_torch import ZooError, list_runs, load_run
from heldout_torch.archives.stream import export_archive
from heldout_torch.storage import urls
from heldout_torch.zoo import remote
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.manifest import index_zoo, read_manifest
from tests.helpers.archives import EXPERIMENT, contents, multiply, pack
from tests.helpers.server import Server
from tests.reference import run_reference

REPOSITORY = Path(__file__).parent.parent.parent
RUN = f"{EXPERIMENT}/0.7/3"
MODEL, AUX = f"{RUN}/model.safetensors", f"{RUN}/aux_arrays.npz"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """An indexed zoo of six small runs."""
    folder = tmp_path_factory.mktemp("published")
    list(export_runs(select_runs(multiply(folder / "tree", 6)), folder / "zoo"))
    index_zoo(folder / "zoo")
    return folder / "zoo"


@pytest.fixture
def server(published, tmp_path, monkeypatch):
    """A server of a copy of it; the cache is empty, and waiting before a further try is short."""
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HELDOUT_TORCH_OFFLINE", raising=False)
    monkeypatch.setattr(urls, "_WAITS", (0.01, 0.02, 0.03))
    with Server(Path(shutil.copytree(published, tmp_path / "served"))).running() as running:
        yield running


def load(server, **options):
    return load_run(EXPERIMENT, 0.7, 3, server.url, **options)


def cached(server):
    return contents(remote.cache_folder(server.url))


def assert_cached_well(server, published):
    assert cached(server) == {name: (published / name).read_bytes() for name in (AUX, MODEL)}


def test_one_run_costs_its_bytes_and_the_manifests(server, published):
    run = load(server)
    expected = load_run(EXPERIMENT, 0.7, 3, published)
    for name, tensor in run.model.state_dict().items():
        assert torch.equal(tensor, expected.model.state_dict()[name])
    assert (run.aux.index_train == expected.aux.index_train).all()
    assert server.sent == {name: (published / name).stat().st_size for name in ("manifest.json", MODEL, AUX)}
    load(server)
    assert sum(server.requests.values()) == 3
    assert_cached_well(server, published)


def test_runs_are_listed_from_the_manifest(server, published):
    assert list_runs(server.url) == list_runs(published)
    assert server.requests == {"manifest.json": 1}
    with pytest.raises(ZooError, match=r"digits-mlp-tf/0.7/99 is not in http"):
        load_run(EXPERIMENT, 0.7, 99, server.url)


@pytest.mark.parametrize("fault", ["500", "drop", "slow"])
@pytest.mark.parametrize("name", ["manifest.json", MODEL, AUX])
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
    with pytest.raises(ZooError, match=r"model.safetensors: does not have the SHA-256 of the manifest"):
        load(server)
    assert MODEL not in cached(server)
    server.faults.clear()
    load(server)
    assert_cached_well(server, published)


def test_a_stale_manifest_is_refused_and_a_new_one_fetched(server, tmp_path):
    load(server)
    # Run 3 is published anew, the manifest not yet.
    other = server.folder / EXPERIMENT / "0.7/2"
    stale = (server.folder / "manifest.json").read_bytes()
    (server.folder / AUX).write_bytes((other / "aux_arrays.npz").read_bytes())
    shutil.rmtree(remote.cache_folder(server.url) / EXPERIMENT)
    with pytest.raises(ZooError, match="or the manifest is stale"):
        load(server)
    assert AUX not in cached(server)
    index_zoo(server.folder)
    assert (server.folder / "manifest.json").read_bytes() != stale
    load(server)
    assert cached(server)[AUX] == (other / "aux_arrays.npz").read_bytes()


def test_a_server_without_ranges_serves_whole_files(server, published, monkeypatch):
    server.ranges = False
    monkeypatch.setattr(remote, "_CHUNK", 1000)
    load(server)
    assert server.requests[MODEL] == 1
    assert_cached_well(server, published)


def test_a_server_that_lost_ranges_in_the_middle_sends_the_whole_file_anew(server, published, monkeypatch):
    monkeypatch.setattr(remote, "_CHUNK", 1000)
    server.faults[MODEL] = [""] * 5 + ["500"] * 8
    with pytest.raises(ZooError, match="cannot be reached"):
        load(server)
    server.ranges = False
    server.faults[MODEL] = []
    load(server)
    assert server.sent[MODEL] == 5000 + (published / MODEL).stat().st_size
    assert_cached_well(server, published)


def test_a_download_goes_on_where_it_stopped(server, published, monkeypatch):
    monkeypatch.setattr(remote, "_CHUNK", 1000)
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


def test_offline_only_the_cache_serves(server, monkeypatch):
    with pytest.raises(ZooError, match="nothing of this zoo is cached"):
        load(server, offline=True)
    load(server)
    before = server.requests.total()
    load(server, offline=True)
    monkeypatch.setenv("HELDOUT_TORCH_OFFLINE", "1")
    load(server)
    with pytest.raises(ZooError, match="network is switched off"):
        load_run(EXPERIMENT, 0.7, 1, server.url)
    (remote.cache_folder(server.url) / MODEL).write_bytes(b"damaged")
    with pytest.raises(ZooError, match="network is switched off"):
        load(server)
    assert server.requests.total() == before


def test_a_zoo_without_manifest_and_no_server_are_named(server):
    (server.folder / "manifest.json").unlink()
    with pytest.raises(ZooError, match=r"manifest.json: there is no such file; .*heldout zoo index"):
        load(server)
    with pytest.raises(ZooError, match=r"http://127.0.0.1:1/manifest.json: cannot be reached"):
        load_run(EXPERIMENT, 0.7, 3, "http://127.0.0.1:1")


def test_a_manifest_cannot_lead_out_of_the_cache(server):
    text = (server.folder / "manifest.json").read_text()
    (server.folder / "manifest.json").write_text(text.replace(f'"{EXPERIMENT}"', '"../out"'))
    with pytest.raises(ZooError, match="is no name for an experiment"):
        load(server)


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
from heldout_torch.zoo.remote import fetch_run
from heldout_torch.zoo.keys import make_key

children = []
for _ in range(16):
    children.append(os.fork())
    if children[-1] == 0:
        fetch_run({server.url!r}, make_key({EXPERIMENT!r}, 0.7, 3))
        os._exit(0)
sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))
"""
    server.faults[MODEL] = ["slow"]
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert server.requests == {"manifest.json": 1, MODEL: 1, AUX: 1}
    assert_cached_well(server, published)


def test_pull_fetches_in_parallel_and_names_what_fails(server, published):
    keys = [RunKey(EXPERIMENT, 0.7, run) for run in range(6)]
    server.faults[MODEL] = ["wrong"] * 100
    errors = dict(pull_runs(server.url, keys, 4, lambda count: None))
    assert [key.run for key, error in errors.items() if error] == [3]
    assert len(errors) == 6
    server.faults.clear()
    assert set(dict(pull_runs(server.url, keys, 4, lambda count: None)).values()) == {None}
    assert cached(server) == contents(published)


@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_push_copies_what_is_missing_and_goes_on(published, tmp_path, kind, monkeypatch):
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path / "cache"))
    target = str(tmp_path / "there") if kind == "folder" else f"memory://{tmp_path.name}"
    part = Path(shutil.copytree(published, tmp_path / "part", ignore=shutil.ignore_patterns("4", "5")))
    index_zoo(part)
    assert push_zoo(part, target, 2, lambda count: None) == 4
    assert push_zoo(published, target, 2, lambda count: None) == 2
    assert push_zoo(published, target, 2, lambda count: None) == 0
    if kind == "folder":
        assert contents(Path(target)) == contents(published)
        assert read_manifest(Path(target)) == read_manifest(published)
    else:
        assert load_run(EXPERIMENT, 0.7, 5, target).metadata.run == 5


def test_push_refuses_a_zoo_that_is_not_as_indexed(published, tmp_path):
    zoo = Path(shutil.copytree(published, tmp_path / "zoo"))
    (zoo / MODEL).write_bytes(b"changed")
    with pytest.raises(ZooError, match="is not as in the manifest"):
        push_zoo(zoo, str(tmp_path / "there"), 2, lambda count: None)
    assert not (tmp_path / "there" / "manifest.json").exists()


def test_the_hub_fetches_one_run_into_an_empty_cache(tmp_path, monkeypatch):
    tree = tmp_path / "tree"
    run_reference("inception_runs", tree, "0.5", 123, 124)
    with open(pack(tree, tmp_path / "cifar10-inception.tar.gz"), "rb") as stream:
        list(export_archive(stream, "cifar10-inception.tar.gz", tmp_path / "zoo"))
    index_zoo(tmp_path / "zoo")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.delenv("HELDOUT_TORCH_CACHE", raising=False)
    with Server(tmp_path / "zoo").running() as server:
        options = {"source": "local", "subset_ratio": 0.5, "run": 123, "zoo": server.url}
        model = torch.hub.load(str(REPOSITORY), "cifar10_inception", **options)
    expected = load_run("cifar10-inception", 0.5, 123, tree).model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
    assert set(server.requests) == {
        "manifest.json", "cifar10-inception/0.5/123/model.safetensors", "cifar10-inception/0.5/123/aux_arrays.npz",
    }  # fmt: skip
    (where,) = (tmp_path / "home/hub/heldout_torch").iterdir()
    assert len(contents(where)) == 2


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_nginx_serves_a_run(published, tmp_path, monkeypatch):
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "_CHUNK", 5000)
    served = Path(shutil.copytree(published, tmp_path / "served"))
    with Server(tmp_path).running() as free:
        port = int(free.url.rpartition(":")[2])
    user = "user root;" if os.geteuid() == 0 else ""
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; {user} pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}}\n"
        f"http {{ access_log {tmp_path}/access.log; client_body_temp_path {tmp_path}; proxy_temp_path {tmp_path};\n"
        f"server {{ listen 127.0.0.1:{port}; root {served}; }} }}\n"
    )
    command = ["nginx", "-p", tmp_path, "-e", tmp_path / "error.log", "-c", tmp_path / "nginx.conf"]
    with subprocess.Popen(command) as process:
        try:
            for _ in range(100):
                if (tmp_path / "pid").exists() or process.poll() is not None:
                    break
                time.sleep(0.05)
            run = load_run(EXPERIMENT, 0.7, 3, f"http://127.0.0.1:{port}")
        finally:
            process.terminate()
    assert run.metadata.run == 3
    log = (tmp_path / "access.log").read_text()
    assert " 206 " in log
    assert all(f"GET /{RUN}/" in line or "GET /manifest.json" in line for line in log.splitlines())
