"""Writing, listing and removing by path or URL: whole files, also where a protocol's own write is not atomic.

Also of storage/listing.py.
"""

import os
import threading
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from heldout_torch import ZooError, list_runs
from heldout_torch.storage import retries
from heldout_torch.storage.listing import list_file, list_files
from heldout_torch.storage.urls import is_archive, read_file, remove_file, write_file
from heldout_torch.zoo.open import open_writable


class RenamingFileSystem(MemoryFileSystem):
    """As one on `ftp` or `sftp`: a write can stop in the middle, folders must be made, and files can be moved."""

    protocol = "renaming"
    store, pseudo_dirs = {}, [""]
    broken, replaces = False, True

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        if not self.isdir(path.rpartition("/")[0]):
            raise FileNotFoundError(path)
        super().pipe_file(path, value[: len(value) // 2])
        if RenamingFileSystem.broken:
            raise ConnectionError("lost")
        super().pipe_file(path, value)

    def mv(self, path1, path2, **kwargs):
        if self.exists(path2) and not self.replaces:
            raise FileExistsError(path2)
        self.cp_file(path1, path2)
        self.rm_file(path1)


@pytest.fixture
def place(request, tmp_path):
    if request.param == "s3":
        return f"{request.getfixturevalue('bucket')}/folder"
    if request.param == "renaming":
        fsspec.register_implementation("renaming", RenamingFileSystem, clobber=True)
        RenamingFileSystem.store.clear()
        RenamingFileSystem.pseudo_dirs[:] = [""]
    return {
        "folder": f"{tmp_path}/zoo", "file": f"file://{tmp_path}/zoo", "memory": f"memory://{tmp_path.name}/zoo",
        "renaming": "renaming://zoo",
    }[request.param]  # fmt: skip


def sizes(location):
    return {name: file.size for name, file in list_files(location).items()}


everywhere = pytest.mark.parametrize("place", ["folder", "file", "memory", "renaming", "s3"], indirect=True)


def test_an_archive_is_known_by_its_ending_before_a_urls_query():
    for location in ("a.tar.gz", "what? #1.tgz", "https://h/a.TGZ?sig=x/y", "s3://b/a.tar.gz", Path("a?b.tar.gz")):
        assert is_archive(location), location
    for location in ("a.tar.gz?x", "https://h/a?b=a.tar.gz", "https://h/zoo", "zoo"):
        assert not is_archive(location), location


@everywhere
def test_what_is_written_is_listed_read_replaced_and_removed(place):
    assert list_files(place) == {}
    write_file(f"{place}/a/b/one", b"1")
    write_file(f"{place}/a/two", b"22")
    assert sizes(place) == {"a/b/one": 1, "a/two": 2}
    write_file(f"{place}/a/two", b"333")
    assert sizes(f"{place}/a") == {"b/one": 1, "two": 3}
    assert read_file(f"{place}/a/two") == b"333"
    remove_file(f"{place}/a/two")
    remove_file(f"{place}/a/two")
    assert sizes(place) == {"a/b/one": 1}
    with pytest.raises(FileNotFoundError):
        read_file(f"{place}/a/two")


@everywhere
def test_a_listing_does_not_hide_what_others_write_later(place, tmp_path):
    write_file(f"{place}/a/one", b"1")
    assert sizes(place) == {"a/one": 1}
    if place.startswith("s3"):
        fsspec.filesystem("s3", skip_instance_cache=True).pipe_file(f"{place}/a/two", b"22")
    elif not place.startswith(("memory", "renaming")):
        (tmp_path / "zoo/a/two").write_bytes(b"22")
    else:
        write_file(f"{place}/a/two", b"22")
    assert read_file(f"{place}/a/two") == b"22"
    assert sizes(place) == {"a/one": 1, "a/two": 2}


@pytest.mark.parametrize("replaces", [True, False])
@pytest.mark.parametrize("place", ["renaming"], indirect=True)
def test_a_write_that_breaks_leaves_the_old_file(place, replaces, monkeypatch):
    monkeypatch.setattr(retries, "WAITS", (0.01,))
    monkeypatch.setattr(RenamingFileSystem, "replaces", replaces)
    write_file(f"{place}/a", b"old one")
    monkeypatch.setattr(RenamingFileSystem, "broken", True)
    with pytest.raises(ZooError, match=r"renaming://zoo/a: cannot be reached, tried 2 times \(lost\)"):
        write_file(f"{place}/a", b"new one")
    assert read_file(f"{place}/a") == b"old one"
    monkeypatch.setattr(RenamingFileSystem, "broken", False)
    write_file(f"{place}/a", b"new one")
    assert read_file(f"{place}/a") == b"new one"


@pytest.mark.parametrize("place", ["folder", "file"], indirect=True)
def test_a_reader_never_sees_half_a_file(place):
    small, large = b"a" * 10, b"b" * 30_000_000
    write_file(f"{place}/file", small)
    writer = threading.Thread(target=lambda: [write_file(f"{place}/file", data) for data in (large, small) * 3])
    writer.start()
    seen = set()
    while writer.is_alive():
        seen.add(len(read_file(f"{place}/file")))
    assert seen <= {len(small), len(large)}


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for location in (f"{tmp_path}/file/a", f"file://{tmp_path}/file/a"):
        with pytest.raises(ZooError, match=r"file/a: cannot be written \((File exists|Not a directory)\)"):
            write_file(location, b"")


class RefusingFileSystem(MemoryFileSystem):
    """As those that connect, or open an archive, when they are made."""

    protocol = "refusing"

    def __init__(self, *given, **named):
        raise ConnectionRefusedError(111, "Connection refused")


def test_a_file_system_that_cannot_be_made_is_one_line():
    fsspec.register_implementation("refusing", RefusingFileSystem, clobber=True)
    for use in (list_runs, open_writable, read_file, lambda place: write_file(place, b"")):
        with pytest.raises(ZooError, match=r"refusing://host/.*: cannot be opened \(.*Connection refused\)"):
            use("refusing://host/zoo")


def test_a_bucket_that_does_not_take_anything_is_one_line(bucket, turn_off_server):
    turn_off_server()
    with pytest.raises(ZooError, match=r"/a: cannot be reached, tried 4 times") as error:
        write_file(f"{bucket}/a", b"")
    assert "\n" not in str(error.value)


@everywhere
def test_a_listing_tells_a_file_that_was_replaced_by_one_of_the_same_size(place):
    write_file(f"{place}/a/one", b"1")
    write_file(f"{place}/a/two", b"2")
    before = list_files(place)
    assert list_files(place) == before
    write_file(f"{place}/a/two", b"3")
    after = list_files(place)
    assert after["a/one"] == before["a/one"]
    assert after["a/two"].size == before["a/two"].size
    assert after["a/two"].signature != before["a/two"].signature


def test_a_file_replaced_by_one_of_the_same_time_differs(tmp_path):
    for name in ("old", "new"):
        (tmp_path / name).write_bytes(name.encode())
        os.utime(tmp_path / name, ns=(10**18, 10**18))
    old = list_files(str(tmp_path))["old"]
    assert list_file(tmp_path / "old") == old
    os.replace(tmp_path / "new", tmp_path / "old")  # as `cp -p` and `rsync -t` do
    assert list_files(str(tmp_path))["old"].signature != old.signature


def test_links_are_followed_but_not_round_and_temporaries_not_shown(tmp_path):
    (tmp_path / "real/run").mkdir(parents=True)
    (tmp_path / "real/run/file").write_bytes(b"12")
    (tmp_path / "real/run/.partial-1").write_bytes(b"")
    (tmp_path / "real/.partial-2").mkdir()
    (tmp_path / "real/.partial-2/file").write_bytes(b"")
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo/linked").symlink_to("../real")
    (tmp_path / "real/up").symlink_to("../zoo")
    (tmp_path / "zoo/lost").symlink_to("nowhere")
    assert sizes(str(tmp_path / "zoo")) == {"linked/run/file": 2}
    assert sizes(str(tmp_path / "zoo/linked/run/file")) == {}
