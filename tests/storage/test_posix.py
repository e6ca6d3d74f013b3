"""What a system or a file system cannot do is said, not raised."""

import errno
import os
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

import pytest

from heldout_torch.storage import posix

ABSENT = ["ENOLCK", "ENOSYS", "EOPNOTSUPP", "EINVAL"]


def failing(name):
    def fail(*_):
        raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)))

    return fail


@pytest.fixture
def pair(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    return tmp_path / "one", tmp_path / "other"


def test_folders_are_exchanged(pair):
    assert posix.exchange(*pair)
    assert [os.listdir(path) for path in pair] == [["other"], ["one"]]


def test_what_cannot_be_exchanged_is_left(pair):
    with pytest.raises(FileNotFoundError):
        posix.exchange(pair[0], pair[0].with_name("missing"))
    assert [os.listdir(path) for path in pair] == [["one"], ["other"]]


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="needs a second file system")
def test_two_file_systems_do_not_exchange(pair):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        if os.stat(other).st_dev == os.stat(pair[0]).st_dev:
            pytest.skip("needs a second file system")
        assert not posix.exchange(pair[0], Path(other))


def test_systems_without_exchange_and_locks_say_so(tmp_path):
    code = """
import os, sys
sys.platform, sys.modules["fcntl"] = "other", None
from pathlib import Path
from heldout_torch.storage import posix
here = Path(sys.argv[1])
assert posix.exchange(here, here) is False
assert posix.lock(os.open(here, os.O_RDONLY)) is None
posix.sync(here)
os.name = "nt"
posix.sync("where folders cannot be opened")
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=60)


def test_a_lock_has_one_holder(tmp_path):
    with open(tmp_path / "lock", "w") as one, open(tmp_path / "lock") as other:
        assert posix.lock(one.fileno(), wait=False) is True
        assert posix.lock(one.fileno(), wait=False) is True
        assert posix.lock(other.fileno(), wait=False) is False
        one.close()
        assert posix.lock(other.fileno()) is True


@pytest.mark.parametrize("name", ABSENT)
def test_file_systems_without_locks_say_so(name, tmp_path, monkeypatch):
    monkeypatch.setattr("fcntl.flock", failing(name))
    with open(tmp_path / "lock", "w") as file:
        assert posix.lock(file.fileno()) is None


def test_other_failures_of_locks_are_raised(tmp_path, monkeypatch):
    monkeypatch.setattr("fcntl.flock", failing("EIO"))
    with open(tmp_path / "lock", "w") as file, pytest.raises(OSError, match="Input/output"):
        posix.lock(file.fileno())


def test_file_systems_without_a_disk_need_no_sync(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", failing("EINVAL"))
    posix.sync(tmp_path)
    monkeypatch.setattr("os.fsync", failing("EIO"))
    with pytest.raises(OSError, match="Input/output"):
        posix.sync(tmp_path)


def test_space_is_held_until_the_file_is_closed_and_leaves_nothing(tmp_path):
    with posix.reserve(tmp_path, 1 << 20) as held:
        assert os.fstat(held.fileno()).st_blocks * 512 >= 1 << 20
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "told"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EOPNOTSUPP, False), (errno.EFBIG, False)]
)
def test_a_disk_or_a_quota_that_has_no_space_says_so_and_one_that_cannot_hold_any_does_not(
    tmp_path, monkeypatch, number, told
):
    def refuse(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(OSError, match=os.strerror(number)) if told else nullcontext():
        posix.reserve(tmp_path, 100).close()
