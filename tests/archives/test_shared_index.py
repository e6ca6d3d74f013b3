"""A seek index that lies elsewhere: found, checked by its digest, and taken at its word only with a warning."""

import hashlib
import pickle
import shutil

import pytest

from heldout_torch import DataError, ZooError, list_runs, load_run
from heldout_torch.archives import shared_index
from heldout_torch.archives.build_index import build_index
from heldout_torch.archives.indexed import IndexedArchive
from heldout_torch.cli import main
from heldout_torch.zoo.open import open_zoo
from tests.helpers.archives import EXPERIMENT, multiply, pack
from tests.helpers.server import Server


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """Archive, index in a folder of its own, and the index's digest; the cache is the test's own."""
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path / "cache"))
    archive = pack(multiply(tmp_path / "tree", 20), tmp_path / "x.tar.gz")
    build_index(archive, spacing=2**16)
    (tmp_path / "elsewhere").mkdir()
    index = (tmp_path / "x.tar.gz.seek").rename(tmp_path / "elsewhere" / "mine.seek")
    return archive, index, hashlib.sha256(index.read_bytes()).hexdigest()


def test_an_index_elsewhere_serves_checked_by_its_digest(shared):
    archive, index, digest = shared
    run = load_run(EXPERIMENT, 0.7, 3, zoo=archive, index=f"{index}#sha256={digest}")
    assert run.metadata.run == 3
    opened = pickle.loads(pickle.dumps(IndexedArchive(str(archive), index=f"{index}#sha256={digest}")))
    assert len(list_runs(opened)) == 20


def test_an_index_by_url_is_fetched_once_and_hashed_whenever_it_is_used(shared, tmp_path, monkeypatch):
    archive, _index, digest = shared
    with Server(tmp_path).running() as server:
        name = f"{server.url}/elsewhere/mine.seek#sha256={digest}"
        for number in (3, 4):
            run = load_run(EXPERIMENT, 0.7, number, zoo=f"{server.url}/{archive.name}", index=name)
            assert run.metadata.run == number
        assert server.requests["elsewhere/mine.seek"] == 1
        (kept,) = (tmp_path / "cache").rglob("*.seek")
        data = bytearray(kept.read_bytes())
        data[-1] ^= 1
        kept.write_bytes(data)
        monkeypatch.setenv("HELDOUT_TORCH_OFFLINE", "1")
        with pytest.raises(ZooError, match="it is a different index, or damaged"):
            load_run(EXPERIMENT, 0.7, 5, zoo=archive, index=name)
        monkeypatch.delenv("HELDOUT_TORCH_OFFLINE")
        assert load_run(EXPERIMENT, 0.7, 5, zoo=archive, index=name).metadata.run == 5  # there is a good one
        assert server.requests["elsewhere/mine.seek"] == 2
        assert hashlib.sha256(kept.read_bytes()).hexdigest() == digest


def test_an_index_that_cannot_be_kept_or_has_no_end_is_one_line(shared, tmp_path, monkeypatch):
    archive, index, digest = shared
    with Server(tmp_path).running() as server:
        name = f"{server.url}/elsewhere/mine.seek#sha256={digest}"
        with monkeypatch.context() as patch:
            patch.setattr(shared_index, "MAX_FILE", index.stat().st_size - 1)
            with pytest.raises(ZooError, match=r"mine\.seek: has more than \d+ bytes, the largest size expected"):
                load_run(EXPERIMENT, 0.7, 3, zoo=archive, index=name)
        (tmp_path / "cache").mkdir(exist_ok=True)
        shutil.rmtree(tmp_path / "cache/seek-indices", ignore_errors=True)
        (tmp_path / "cache/seek-indices").write_bytes(b"")  # no folder can be made there
        with pytest.raises(ZooError, match=f"{digest}.seek: cannot be written .*set HELDOUT_TORCH_CACHE to a folder"):
            load_run(EXPERIMENT, 0.7, 3, zoo=archive, index=name)


def test_another_index_than_named_is_refused_and_not_kept(shared, tmp_path):
    archive, index, digest = shared
    index.write_bytes(index.read_bytes() + b"more")
    with pytest.raises(ZooError, match=f"expected {digest}; it is a different index"):
        load_run(EXPERIMENT, 0.7, 3, zoo=archive, index=f"{index}#sha256={digest}")
    with Server(tmp_path).running() as server:
        name = f"{server.url}/elsewhere/mine.seek#sha256={digest}"
        with pytest.raises(ZooError, match="it is a different index, or damaged"):
            load_run(EXPERIMENT, 0.7, 3, zoo=archive, index=name)
    assert not list((tmp_path / "cache").rglob("*.seek"))
    with pytest.raises(ZooError, match="expected 64 hexadecimal digits"):
        load_run(EXPERIMENT, 0.7, 3, zoo=archive, index=f"{index}#sha256=abc")


def test_without_a_digest_a_line_says_whose_word_is_taken(shared):
    archive, index, _ = shared
    with pytest.warns(UserWarning, match="mine.seek is used unchecked"):
        assert load_run(EXPERIMENT, 0.7, 3, zoo=archive, index=str(index)).metadata.run == 3


def test_an_index_is_named_as_other_files_are(shared, monkeypatch):
    """A path was an AttributeError, `file://` and `~` were not found, a digest in capitals was none."""
    archive, index, digest = shared
    monkeypatch.setenv("HOME", str(index.parent))
    with pytest.raises(DataError, match="3 is not a path"):
        load_run(EXPERIMENT, 0.7, 3, zoo=archive, index=3)
    for name in (index, f"file://{index}", f"~/{index.name}"):
        with pytest.warns(UserWarning, match="mine.seek is used unchecked"):
            load_run(EXPERIMENT, 0.7, 3, zoo=archive, index=name)
        for mark in (f"#sha256={digest}", f"#sha256={digest.upper()}\n"):
            run = load_run(EXPERIMENT, 0.7, 3, zoo=archive, index=f"{name}{mark}")
            assert run.metadata.archive["index_sha256"] == digest


@pytest.mark.parametrize("name", ["download.php?id=3", "x.tar.gz.part", "archive"])
def test_an_archive_whose_index_is_named_may_have_any_name(shared, tmp_path, name):
    """It was no archive, said the error."""
    archive, index, digest = shared
    moved = archive.rename(tmp_path / name.partition("?")[0])
    with Server(tmp_path).running() as server:
        for place in (moved, f"{server.url}/{name}"):
            assert load_run(EXPERIMENT, 0.7, 3, zoo=place, index=f"{index}#sha256={digest}").metadata.run == 3
        for place in (tmp_path / "none", f"{server.url}/none"):
            with pytest.raises(ZooError, match="there is no such archive"):
                load_run(EXPERIMENT, 0.7, 3, zoo=place, index=f"{index}#sha256={digest}")
    with pytest.raises(ZooError, match="is a folder, only an archive has a seek index"):
        load_run(EXPERIMENT, 0.7, 3, zoo=tmp_path, index=index)


@pytest.mark.parametrize("mark", ["#SHA256=", "#sha256:", "#md5=", "#"])
def test_a_digest_that_would_not_be_compared_is_refused(shared, tmp_path, mark):
    """A server is not told what stands after `#`, so the file was used unchecked."""
    archive, _, digest = shared
    with Server(tmp_path).running() as server:
        with pytest.raises(ZooError, match="expected #sha256=… and 64 hexadecimal digits after the address"):
            load_run(EXPERIMENT, 0.7, 3, zoo=archive, index=f"{server.url}/elsewhere/mine.seek{mark}{digest}")
        assert not server.requests


def test_an_index_made_by_address_is_the_one_made_on_the_disk(shared, tmp_path):
    archive, index, _ = shared
    with Server(tmp_path).running() as server:
        url = f"{server.url}/{archive.name}"
        with pytest.raises(ZooError, match="name a file for it, out=FILE"):
            build_index(url)
        build_index(url, spacing=2**16, out=tmp_path / "by-address.seek")
    assert (tmp_path / "by-address.seek").read_bytes() == index.read_bytes()


def test_the_verb_takes_an_address_a_spacing_and_a_file(shared, tmp_path, capsys):
    archive, index, _ = shared
    with Server(tmp_path).running() as server:
        url = f"{server.url}/{archive.name}"
        out = str(tmp_path / "by-verb.seek")
        assert main(["archive", "index", url]) == 1
        assert main(["archive", "index", url, "--out", "s3://bucket/x.seek"]) == 1
        assert main(["archive", "index", url, "--out", out, "--spacing", "65536"]) == 0
    assert f"indexed 20 runs in {out}" in capsys.readouterr().out
    assert (tmp_path / "by-verb.seek").read_bytes() == index.read_bytes()


def test_only_archives_have_an_index(tmp_path):
    with pytest.raises(ZooError, match="is a folder, only an archive has a seek index"):
        open_zoo(tmp_path, index="x.seek")


def test_an_experiments_folder_behind_a_link_goes_by_the_links_name(tmp_path):
    """Today by its target's."""
    tree = multiply(tmp_path / "tree", 1)
    (tree / EXPERIMENT).rename(tmp_path / "scratch17")
    (tmp_path / EXPERIMENT).symlink_to(tmp_path / "scratch17")
    assert {key.experiment for key in list_runs(tmp_path / EXPERIMENT)} == {EXPERIMENT}
