"""Files and folders that are there whole or not at all, whoever else writes, reads, fails or is killed."""

import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from heldout_torch.errors import DataError, ZooError
from heldout_torch.stats import save_indices
from heldout_torch.storage import posix
from heldout_torch.storage.files import (
    new_file,
    new_folder,
    read_bounded,
    remove_stale,
    write_atomically,
    write_plainly,
)
from heldout_torch.storage.npz import map_npy, read_npy, read_npz
from heldout_torch.storage.urls import read_file
from tests.storage.test_posix import failing

HOURS = 3600.0


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_run(path, data, overwrite=True):
    with new_folder(path, overwrite) as folder:
        write_plainly(folder / "file", data)


def age(path, seconds):
    then = path.stat().st_mtime - seconds
    for file in (path, *path.rglob("*")):
        os.utime(file, (then, then))


@pytest.fixture(params=["exchange", "two renames"])
def way(request, monkeypatch):
    """With the call that exchanges two names, and without."""
    if request.param == "two renames":
        monkeypatch.setattr(posix, "exchange", lambda one, other: False)
    return request.param


def test_a_file_is_read_up_to_the_largest_size(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    assert read_bounded(tmp_path / "file", 5) == b"12345"
    with pytest.raises(ZooError, match=r"file: has more than 4 bytes, the largest size expected"):
        read_bounded(tmp_path / "file", 4)


@pytest.mark.skipif(not Path("/proc/self/smaps").is_file(), reason="no such file system")
def test_a_file_that_is_longer_than_it_says_is_read_no_further():
    """As one that grows; a link may lead to one of the kernel's, which say that they are empty."""
    with pytest.raises(ZooError, match="smaps: has more than 1000 bytes"):
        read_bounded(Path("/proc/self/smaps"), 1000)
    assert read_bounded(Path("/proc/self/stat"), 100_000).startswith(b"%d (" % os.getpid())


def test_a_pipe_or_a_device_in_the_place_of_a_file_is_refused_at_once(tmp_path):
    """Nobody writes into the pipe: whoever opened it would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        for read in (read_bounded, lambda path, limit: read_file(str(path), limit)):
            with pytest.raises((OSError, ZooError), match="It is a device or a pipe"):
                read(path, 5)
        for read in (read_npy, read_npz, map_npy):
            with pytest.raises(DataError, match=r"cannot be read \(It is a device or a pipe\)"):
                read(path)
    with pytest.raises(IsADirectoryError):
        read_bounded(tmp_path, 5)


def test_a_second_writers_folder_stays(tmp_path):
    with new_folder(tmp_path / "run") as ours:
        write_plainly(ours / "file", b"ours")
        write_run(tmp_path / "run", b"theirs", overwrite=False)
    assert contents(tmp_path) == {"run/file": b"theirs"}


def test_a_folder_is_replaced_when_asked(tmp_path, way):
    for data in (b"old", b"new"):
        write_run(tmp_path / "run", data)
    assert contents(tmp_path) == {"run/file": b"new"}
    assert os.listdir(tmp_path) == ["run"]


def test_a_link_stays_and_the_folder_that_it_leads_to_is_replaced(tmp_path, way):
    """Of a run that was moved to another disk."""
    write_run(tmp_path / "disk/run", b"old")
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo/run").symlink_to("../disk/run")
    write_run(tmp_path / "zoo/run", b"new")
    assert (tmp_path / "zoo/run").is_symlink()
    assert contents(tmp_path / "disk") == {"run/file": b"new"}
    (tmp_path / "disk").rename(tmp_path / "gone")
    with pytest.raises(OSError, match=f"It is a link to {tmp_path}/disk/run, which is not there"):
        write_run(tmp_path / "zoo/run", b"newer")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gone", "zoo"]


def test_an_empty_folder_is_nothing_there(tmp_path):
    (tmp_path / "run").mkdir()
    write_run(tmp_path / "run", b"new", overwrite=False)
    assert contents(tmp_path) == {"run/file": b"new"}


def test_a_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(OSError), new_folder(tmp_path / "run") as folder:
        write_plainly(folder / "absent" / "file", b"half")
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError):
        write_atomically(tmp_path / "taken", b"data")
    (tmp_path / "afile").touch()
    with pytest.raises(OSError):
        write_run(tmp_path / "afile", b"data")
    assert sorted(os.listdir(tmp_path)) == ["afile", "taken"]


@pytest.mark.parametrize("folder", [".", "/", "here", "here/.."])
def test_a_folder_in_the_place_of_a_file_is_refused_before_anything_is_written(tmp_path, monkeypatch, folder):
    """What has no name of its own, such as `.`, was a ValueError."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    with pytest.raises(IsADirectoryError), new_file(Path(folder)):
        raise AssertionError("begun")
    with pytest.raises(DataError, match="cannot be written"):
        save_indices(folder, [1], "original")


def test_files_have_the_permissions_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "file", b"")
        write_run(tmp_path / "run", b"")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("file", "run", "run/file")]
    assert modes == [0o640, 0o750, 0o640]


def test_a_reader_beside_overwriters_always_finds_a_whole_folder(tmp_path):
    if not posix.exchange(*[(tmp_path / name).mkdir() or tmp_path / name for name in "ab"]):
        pytest.skip("this file system cannot exchange names")
    write_run(tmp_path / "run", b"x")
    writers = [
        threading.Thread(target=lambda letter=letter: [write_run(tmp_path / "run", letter) for _ in range(20)])
        for letter in (b"y", b"z")
    ]
    for writer in writers:
        writer.start()
    reads = 0
    while any(writer.is_alive() for writer in writers):
        descriptor = os.open(tmp_path / "run", os.O_RDONLY)
        os.close(descriptor)
        reads += 1
    assert reads
    assert contents(tmp_path / "run")["file"] in (b"y", b"z")
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "run"]


def test_overwriters_at_once_lose_nothing(tmp_path, way):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: write_run(tmp_path / "run", b"%d" % i), range(40)))
    assert list(contents(tmp_path)) == ["run/file"]
    assert os.listdir(tmp_path) == ["run"]


def test_a_folder_that_cannot_be_moved_into_place_leaves_the_old_one(tmp_path, monkeypatch):
    monkeypatch.setattr(posix, "exchange", lambda one, other: False)
    write_run(tmp_path / "run", b"old")
    real = os.rename

    def rename(source, target):
        if ".partial-" in str(source) and ".replaced-run" in os.listdir(tmp_path):
            failing("EIO")()
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(OSError, match="Input/output"):
        write_run(tmp_path / "run", b"new")
    assert contents(tmp_path) == {"run/file": b"old"}


def test_a_folder_that_the_disk_does_not_move_is_an_error_not_a_second_writers(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "rename", failing("EIO"))
    with pytest.raises(OSError, match="Input/output"):
        write_run(tmp_path / "run", b"new", overwrite=False)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("answer", ["EACCES", "EPERM"])
def test_a_folder_is_replaced_where_a_disk_calls_a_place_that_is_taken_forbidden(tmp_path, monkeypatch, answer):
    monkeypatch.setattr(posix, "exchange", lambda one, other: False)
    real = os.rename
    monkeypatch.setattr(os, "rename", lambda a, b: failing(answer)() if Path(b).exists() else real(a, b))  # SMB
    write_run(tmp_path / "run", b"old")
    write_run(tmp_path / "run", b"new")
    write_run(tmp_path / "run", b"late", overwrite=False)
    assert contents(tmp_path) == {"run/file": b"new"}
    monkeypatch.setattr(os, "rename", failing(answer))
    with pytest.raises(OSError, match=r"not permitted|denied"):
        write_run(tmp_path / "run", b"newer")
    with pytest.raises(OSError, match=r"not permitted|denied"):
        write_run(tmp_path / "another", b"new", overwrite=False)
    assert contents(tmp_path) == {"run/file": b"new"}


KILLED = """
import os, sys
from pathlib import Path
from heldout_torch.stats import save_indices
from heldout_torch.storage import posix
from heldout_torch.storage.files import new_folder, write_plainly
posix.exchange = lambda one, other: False
real = os.rename
def rename(source, target):
    if ".partial-" in str(source) and target.exists() is False:
        os.kill(os.getpid(), 9)
    real(source, target)
os.rename = rename
with new_folder(Path(sys.argv[1]), overwrite=True) as folder:
    write_plainly(folder / "file", b"new")
"""


@pytest.mark.parametrize("then", ["write", "overwrite", "remove_stale"])
def test_what_a_killed_overwriter_was_replacing_comes_back(tmp_path, then):
    write_run(tmp_path / "run", b"old")
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "run")], timeout=60)
    assert not (tmp_path / "run").exists()
    if then == "remove_stale":
        remove_stale(tmp_path)
    elif then == "write":
        write_run(tmp_path / "run", b"other", overwrite=False)
    else:
        write_run(tmp_path / "run", b"other")
    assert contents(tmp_path / "run") == {"file": b"other" if then == "overwrite" else b"old"}
    assert not (tmp_path / ".replaced-run").exists()


def test_a_folder_of_a_containers_image_is_replaced(tmp_path, monkeypatch):
    write_run(tmp_path / "run", b"old")
    real = os.rename
    monkeypatch.setattr(posix, "exchange", lambda one, other: False)
    monkeypatch.setattr(os, "rename", lambda a, b: failing("EXDEV")() if a == tmp_path / "run" else real(a, b))
    write_run(tmp_path / "run", b"new")
    assert contents(tmp_path) == {"run/file": b"new"}


def test_leavings_of_killed_writers_go_after_an_hour(tmp_path):
    new = f".partial-{2:032x}"
    for name, seconds in ((f".partial-{1:032x}", 2 * HOURS), (new, 10), (f"{new}-of-others", 2 * HOURS)):
        (tmp_path / name).mkdir()
        age(tmp_path / name, seconds)
    file = tmp_path / f".partial-{3:032x}"
    file.touch()
    age(file, 2 * HOURS)
    write_run(tmp_path / "run", b"run")
    (tmp_path / ".replaced-run").mkdir()
    age(tmp_path / ".replaced-run", 2 * HOURS)
    remove_stale(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [new, f"{new}-of-others", "run"]
    remove_stale(tmp_path / "missing")


def test_a_clock_two_hours_ahead_makes_nothing_stale(tmp_path, monkeypatch):
    now = __import__("time").time
    with new_folder(tmp_path / "run") as folder:
        write_plainly(folder / "file", b"whole")
        monkeypatch.setattr("time.time", lambda: now() + 2 * HOURS)
        monkeypatch.setattr("fcntl.flock", failing("ENOLCK"))
        remove_stale(tmp_path)
    assert contents(tmp_path) == {"run/file": b"whole"}


def test_a_slow_writer_is_no_leaving(tmp_path):
    with new_folder(tmp_path / "run") as folder:
        write_plainly(folder / "file", b"whole")
        age(folder, 2 * HOURS)
        remove_stale(tmp_path)
    assert contents(tmp_path) == {"run/file": b"whole"}


def test_a_slow_writer_of_a_file_is_none_either(tmp_path):
    with new_file(tmp_path / "file") as file:
        file.write(b"whole")
        file.flush()
        age(tmp_path / os.listdir(tmp_path)[0], 2 * HOURS)
        remove_stale(tmp_path)
    assert contents(tmp_path) == {"file": b"whole"}


def test_where_there_are_no_locks_leavings_go_after_a_day(tmp_path, monkeypatch):
    monkeypatch.setattr("fcntl.flock", failing("ENOLCK"))
    of_hours, of_days, in_use = (tmp_path / f".partial-{i:032x}" for i in range(3))
    for folder, seconds in ((of_hours, 2 * HOURS), (of_days, 48 * HOURS), (in_use, 48 * HOURS)):
        folder.mkdir()
        (folder / "file").touch()
        age(folder, seconds)
    (in_use / "file").write_bytes(b"half")
    remove_stale(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [of_hours.name, in_use.name]


def test_leavings_that_may_not_be_removed_stay(tmp_path, monkeypatch):
    path = tmp_path / f".partial-{1:032x}"
    path.touch()
    age(path, 2 * HOURS)
    monkeypatch.setattr("pathlib.Path.unlink", failing("EACCES"))
    remove_stale(tmp_path)
    assert path.name in os.listdir(tmp_path)


def test_a_place_without_locks_and_syncing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("fcntl.flock", failing("ENOSYS"))
    monkeypatch.setattr("os.fsync", failing("EINVAL"))
    write_run(tmp_path / "run", b"run")
    write_atomically(tmp_path / "run/other", b"file")
    assert contents(tmp_path) == {"run/file": b"run", "run/other": b"file"}


def test_the_disk_has_all_of_a_file_before_it_appears(tmp_path, monkeypatch):
    there = []
    monkeypatch.setattr(os, "fsync", lambda file: there.append((os.fstat(file), (tmp_path / "file").exists())))
    write_atomically(tmp_path / "file", b"whole")
    (file, before), (folder, after) = there
    assert (file.st_ino, file.st_size, before) == ((tmp_path / "file").stat().st_ino, 5, False)
    assert (folder.st_ino, after) == (tmp_path.stat().st_ino, True)


def test_the_disk_has_all_of_a_folder_before_it_appears(tmp_path, monkeypatch):
    there = []

    def sync(path):
        there.append((path.name, path.stat().st_ino, (tmp_path / "run").exists()))

    monkeypatch.setattr(posix, "sync", sync)
    with new_folder(tmp_path / "run") as folder:
        (folder / "part").mkdir()
        for name in ("one", "part/two"):
            write_plainly(folder / name, b"whole")
    inodes = {path.stat().st_ino for path in [tmp_path / "run", *(tmp_path / "run").rglob("*")]}
    assert {inode for _, inode, appeared in there if not appeared} == inodes
    assert there[-1] == (tmp_path.name, tmp_path.stat().st_ino, True)
