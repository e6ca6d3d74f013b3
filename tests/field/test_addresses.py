"""Addresses as people have them: signed, with logins, spaces, umlauts, IPv6; behind proxies, in half-open buckets."""

import shutil
import socket
import threading
from contextlib import contextmanager, suppress

import pytest

from heldout_torch import ZooError, list_runs, load_run, open_zoo
from heldout_torch.archives.remote_stream import open_stream
from heldout_torch.cli import main
from heldout_torch.storage.urls import read_file
from heldout_torch.zoo import sample_zoo
from tests.helpers.archives import pack
from tests.helpers.server import Server

SIGNED = "?X-Amz-Signature=c2ln/"


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder that holds a zoo and an archive of two runs of the sample."""
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HELDOUT_TORCH_OFFLINE", raising=False)
    folder = tmp_path / "served"
    assert main(["export", str(sample_zoo()), "--zoo", str(folder / "zoo"), "--runs", "0-1"]) == 0
    shutil.copytree(sample_zoo() / "digits-mlp-tf/0.7/0", tmp_path / "tree/digits-mlp-tf/0.7/0")
    pack(tmp_path / "tree", folder / "runs.tar.gz")
    return folder


@contextmanager
def web(folder, host="127.0.0.1"):
    with Server(folder, host).running() as server:
        yield server


def test_a_zoo_is_read_at_a_signed_address(served, tmp_path, capsys):
    with web(served) as server:
        assert [key.run for key in list_runs(f"{server.url}/zoo/{SIGNED}")] == [0, 1]
        load_run("digits-mlp-tf/0.7/0", zoo=f"{server.url}/zoo{SIGNED}")
        assert main(["export", f"{server.url}/zoo{SIGNED}", "--zoo", str(tmp_path / "copied")]) == 0
        assert main(["zoo", "list", f"{server.url}/none{SIGNED}"]) == 1
        assert f"{server.url}/none/manifest.json?...: there is no such file" in capsys.readouterr().err


def test_one_run_of_a_signed_archive_is_read_with_or_without_its_index(served, tmp_path):
    words = ["--runs", "0", "--subset-ratio", "0.7"]
    with web(served) as server:
        archive = f"{server.url}/runs.tar.gz{SIGNED}"
        assert main(["export", archive, "--zoo", str(tmp_path / "first"), *words]) == 0
        assert main(["archive", "index", str(served / "runs.tar.gz")]) == 0
        assert main(["export", archive, "--zoo", str(tmp_path / "second"), *words]) == 0
        assert server.requests["runs.tar.gz.seek"] > 1
        assert [key.run for key in list_runs(archive)] == [0]


@pytest.mark.parametrize("name", ["my runs é.tar.gz", "my%20runs%20%C3%A9.tar.gz"])
def test_an_archive_may_have_spaces_and_umlauts_in_its_address(served, tmp_path, name):
    (served / "runs.tar.gz").rename(served / "my runs é.tar.gz")
    with web(served) as server:
        assert main(["export", f"{server.url}/{name}", "--zoo", str(tmp_path / "zoo")]) == 0
        with open_stream(f"{server.url}/{name}#part?").stream as stream:
            assert stream.read() == (served / "my runs é.tar.gz").read_bytes()


@pytest.mark.parametrize(
    "address", ["http://[::1/runs.tar.gz", "http://me:s3/cr3t@host/runs.tar.gz", "http://h:x/r.tgz"]
)
def test_what_is_no_address_is_one_line_at_once(address, tmp_path, capsys, slept):
    assert main(["export", address, "--zoo", str(tmp_path / "zoo")]) == 1
    line = capsys.readouterr().err
    assert "is no valid URL" in line
    assert line.count("\n") == 1
    assert "cr3t" not in line
    assert not slept


def test_a_machine_may_be_named_by_ipv6(served, tmp_path):
    try:
        server = Server(served, "::1")
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with server.running():
        assert len(list_runs(f"{server.url}/zoo")) == 2
        load_run("digits-mlp-tf/0.7/0", zoo=f"{server.url}/zoo")
        assert main(["export", f"{server.url}/runs.tar.gz", "--zoo", str(tmp_path / "zoo")]) == 0


def test_a_server_that_refuses_what_is_not_there_is_read(served, tmp_path, capsys):
    (served / "zoo/digits-mlp-tf/0.7/1/run.json").unlink()  # of the manifest it is known
    with web(served) as server:
        server.missing = 403  # as a bucket does to those whom it shows no list
        assert main(["export", f"{server.url}/zoo", "--zoo", str(tmp_path / "copied")]) == 0
        words = ["--runs", "0", "--subset-ratio", "0.7"]
        assert main(["export", f"{server.url}/runs.tar.gz", "--zoo", str(tmp_path / "exported"), *words]) == 0
        with pytest.raises(ZooError, match=r"\.seek: access is refused \(403 Forbidden\); if there is no seek index"):
            list_runs(f"{server.url}/runs.tar.gz")
        (served / "zoo/digits-mlp-tf/0.7/0/model.safetensors").unlink()
        with pytest.raises(ZooError, match=r"model\.safetensors: access is refused \(403 Forbidden\)"):
            open_zoo(f"{server.url}/zoo").files(list_runs(tmp_path / "copied")[0])
        with pytest.raises(ZooError, match=r"manifest\.json: access is refused \(403 Forbidden\)"):
            list_runs(f"{server.url}/none")


def test_a_page_for_what_is_not_there_is_no_seek_index(served, tmp_path):
    (served / "runs.tar.gz.seek").write_text("<!DOCTYPE html><title>There is no such page</title>")
    words = ["--runs", "0", "--subset-ratio", "0.7"]
    for ranges in (True, False):
        with web(served) as server:
            server.ranges = ranges
            assert main(["export", f"{server.url}/runs.tar.gz", "--zoo", str(tmp_path / f"{ranges}"), *words]) == 0


def test_no_message_about_a_run_of_an_archive_tells_the_password(served, tmp_path, monkeypatch):
    archive = served / "runs.tar.gz"
    aux = tmp_path / "tree/digits-mlp-tf/0.7/0/aux_arrays.npz"
    aux.write_bytes(aux.read_bytes()[:-9])
    pack(tmp_path / "tree", archive)
    assert main(["archive", "index", str(archive)]) == 0
    with web(served) as server:
        server.login = "me:s3cr3t"
        zoo = open_zoo(f"http://me:s3cr3t@{server.url.removeprefix('http://')}/runs.tar.gz{SIGNED}")
        with pytest.raises(ZooError, match=r"runs\.tar\.gz.digits-mlp-tf") as error:
            zoo.aux(zoo.keys()[0])
        assert "s3cr3t" not in str(error.value)
        assert "c2ln" not in str(error.value)


def test_a_proxy_may_be_named_without_http(served, monkeypatch):
    with web(served) as server:
        for name in ("http_proxy", "no_proxy"):
            monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.setenv("http_proxy", server.url.removeprefix("http://"))
        monkeypatch.setenv("no_proxy", "elsewhere.invalid")
        # Its names begin with what a proxy is asked for: the whole address.
        shutil.copytree(served, served / "http:/zoo.invalid")
        assert read_file("http://zoo.invalid/zoo/manifest.json") == (served / "zoo/manifest.json").read_bytes()
        with open_stream("http://zoo.invalid/runs.tar.gz").stream as stream:
            assert stream.read() == (served / "runs.tar.gz").read_bytes()
        monkeypatch.setenv("http_proxy", "127.0.0.1:1")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert read_file(f"{server.url}/zoo/manifest.json")


@pytest.mark.parametrize("scheme", ["", "http://", "http://me:s3cr3t@"])
def test_a_proxy_that_refuses_is_asked_once(monkeypatch, slept, scheme):
    came = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def refuse():
            for _ in range(8):
                with suppress(OSError), server.accept()[0] as connection:
                    came.append(connection.recv(2**16))
                    connection.sendall(b"HTTP/1.1 407 Log in\r\nContent-Length: 0\r\n\r\n")

        threading.Thread(target=refuse, daemon=True).start()
        monkeypatch.setenv("https_proxy", f"{scheme}127.0.0.1:{server.getsockname()[1]}")
        for read in (read_file, open_stream):
            with pytest.raises(ZooError, match=r"cannot be used \(.*407 Log in\)$") as error:
                read("https://zoo.invalid/runs.tar.gz")
            assert "s3cr3t" not in str(error.value)
        server.shutdown(socket.SHUT_RDWR)  # or a thread waits there for ever
    assert not slept
    assert [head[:19] for head in came] == [b"CONNECT zoo.invalid"] * 2


def test_a_proxy_of_a_kind_that_cannot_be_used_is_asked_once(monkeypatch, slept):
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:1")
    with pytest.raises(ZooError, match=r"cannot be used \(unknown url type: socks5\)$"):
        open_stream("http://zoo.invalid/runs.tar.gz")
    assert not slept
