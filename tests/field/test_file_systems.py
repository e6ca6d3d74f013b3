"""Full and read-only disks, another user's files: what was there stays, nothing half-written stays, one OSError."""

import errno
import fcntl
import os
import resource
import shutil
import subprocess

import numpy as np
import pytest

from heldout_torch.cli import main
from heldout_torch.errors import DataError
from heldout_torch.evaluation import verification_log
from heldout_torch.stats.output_files import start_outputs
from heldout_torch.stats.run_table import RunTable
from heldout_torch.stats.score_files import Scores, save_scores
from heldout_torch.storage.files import new_folder, remove_stale, write_atomically, write_plainly
from heldout_torch.storage.locks import append_line, locked
from heldout_torch.storage.npz import read_npz
from heldout_torch.zoo import sample_zoo
from heldout_torch.zoo.cache import cache_folder
from tests.helpers.archives import EXPERIMENT
from tests.helpers.server import Server
from tests.storage.test_files import HOURS, age, contents, write_run

LEFT = f".partial-{1:032x}"
BIG = bytes(2**21)


@pytest.mark.parametrize(
    "name",
    ["manifest.json", f"{EXPERIMENT}/experiment.json", f"{EXPERIMENT}/archive.json", f"{EXPERIMENT}/0.7/3/run.json"],
)
def test_a_pipe_in_the_place_of_a_file_of_a_zoo_is_named_and_not_waited_for(name, tmp_path, capsys):
    """An archive that somebody unpacks can hold one."""
    zoo = tmp_path / "zoo"
    assert main(["export", str(sample_zoo()), "--zoo", str(zoo)]) == 0
    (zoo / name).unlink(missing_ok=True)
    os.mkfifo(zoo / name)
    assert main(["zoo", "index", str(zoo)]) == 1
    assert f"{zoo / name}: cannot be read (It is a device or a pipe)" in capsys.readouterr().err


def test_a_full_disk_leaves_what_was_there(mounted):
    place = mounted("size=1m")
    write_run(place / "run", b"old")
    write_atomically(place / "file", b"old")
    for write in (
        lambda: write_run(place / "run", BIG),
        lambda: write_run(place / "new/run", BIG),
        lambda: write_atomically(place / "file", BIG),
        lambda: write_atomically(place / "other", BIG),
    ):
        with pytest.raises(OSError) as error:
            write()
        assert error.value.errno == errno.ENOSPC
    assert contents(place) == {"run/file": b"old", "file": b"old"}
    write_run(place / "run", b"new")
    assert contents(place) == {"run/file": b"new", "file": b"old"}


def test_a_table_whose_last_bytes_find_no_room_is_not_there(tmp_path):
    """NumPy's own writing leaves the last bytes of a file to a buffer, and is not told if they are not taken."""
    table = RunTable.from_arrays(*np.ones((2, 2, 500), bool), np.ones((2, 10), bool))  # files of 4128 and 208 bytes
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))  # as `ulimit -f`
        with pytest.raises(DataError, match=r"table: cannot be written \(File too large\)"):
            table.save(tmp_path / "table")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())
    table.save(tmp_path / "table")
    assert RunTable.load(tmp_path / "table").keys == table.keys


def test_a_disk_without_inodes_leaves_what_was_there(mounted):
    place = mounted("size=1m,nr_inodes=4")
    write_run(place / "run", b"old")
    with pytest.raises(OSError) as error:
        write_run(place / "run", b"new")
    assert error.value.errno == errno.ENOSPC
    assert contents(place) == {"run/file": b"old"}


def test_a_line_that_a_full_disk_cut_is_ended_before_the_next(mounted):
    place = mounted("size=64k")
    append_line(place / "log", b"first")
    with pytest.raises(OSError, match="No space"):
        append_line(place / "log", bytes([65]) * 2**17)
    os.truncate(place / "log", 20_000)
    append_line(place / "log", b"last")
    lines = (place / "log").read_bytes().split(b"\n")
    assert (lines[0], lines[-2], lines[-1]) == (b"first", b"last", b"")


def test_a_read_only_disk_is_read_and_not_written(mounted):
    place = mounted("size=1m")
    write_run(place / "run", b"old")
    (place / LEFT).mkdir()
    age(place / LEFT, 2 * HOURS)
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)
    remove_stale(place)
    for write in (
        lambda: write_run(place / "run", b"new"),
        lambda: write_atomically(place / "file", b"new"),
        lambda: append_line(place / "log", b"new"),
        lambda: locked(place / "lock").__enter__(),
    ):
        with pytest.raises(OSError) as error:
            write()
        assert error.value.errno == errno.EROFS
    assert contents(place) == {"run/file": b"old"}


def test_another_users_leavings_and_folders_stay(open_folder, as_nobody):
    write_run(open_folder / "run", b"old")
    (open_folder / LEFT).mkdir()
    age(open_folder / LEFT, 2 * HOURS)
    assert as_nobody(lambda: remove_stale(open_folder)) == "None"
    assert as_nobody(lambda: contents(open_folder / "run")) == "{'file': b'old'}"
    assert "PermissionError" in as_nobody(lambda: write_run(open_folder / "run", b"new"))
    assert contents(open_folder) == {"run/file": b"old"}
    secret = open_folder / "a.npz"
    secret.touch(0o600)
    assert as_nobody(lambda: read_npz(secret)) == f"DataError: {secret}: cannot be read (Permission denied)"


def test_a_shared_folder_takes_what_two_users_write(open_folder, as_nobody):
    os.chmod(open_folder, 0o777)
    before = os.umask(0)
    try:
        write_run(open_folder / "run", b"mine")
        assert as_nobody(lambda: write_run(open_folder / "run", b"theirs")) == "None"
        with locked(open_folder / "lock"):
            assert "another process has held this lock" in as_nobody(
                lambda: locked(open_folder / "lock", patience=0.2).__enter__()
            )
    finally:
        os.umask(before)
    assert contents(open_folder / "run") == {"file": b"theirs"}


def write_and_fail(folder, cause):
    write_plainly(folder / "file", b"")
    raise cause


def test_an_interrupted_block_leaves_nothing(tmp_path):
    for cause in (KeyboardInterrupt, InterruptedError, DataError("why")):
        with pytest.raises((KeyboardInterrupt, InterruptedError, DataError)), new_folder(tmp_path / "run") as folder:
            write_and_fail(folder, cause)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: save_scores(folder / "scores.npz", Scores(np.zeros(3), order="original")),
        lambda folder: start_outputs(folder / "outputs", ["e/0.5/0"], 3, 2),
    ],
)
def test_what_a_killed_writer_left_goes_with_the_next_one(tmp_path, write):
    write(tmp_path)
    folder = tmp_path / "e/0.5" if (tmp_path / "e").is_dir() else tmp_path
    (folder / LEFT).mkdir()
    age(folder / LEFT, 2 * HOURS)
    for path in folder.iterdir():
        if path.is_dir() and path.name != LEFT:
            shutil.rmtree(path)
    write(tmp_path)
    assert LEFT not in os.listdir(folder)


@pytest.mark.parametrize("name", ["ENOLCK", "ENOSYS", "EOPNOTSUPP"])
def test_where_nothing_can_be_locked_verifications_are_kept_all_the_same(name, tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)))

    monkeypatch.setattr(fcntl, "flock", fail)
    words = f"verify {sample_zoo()} --runs 0-1 --results {tmp_path}/log.jsonl".split()
    assert main(words) == 0
    before = (tmp_path / "log.jsonl").read_bytes()
    assert before.count(b"\n") == 2
    assert main(words) == 0  # each was known
    assert (tmp_path / "log.jsonl").read_bytes() == before
    assert capsys.readouterr().err == ""


def test_a_cache_of_which_a_part_lies_on_another_disk_takes_files(tmp_path, mounted, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(cache))
    monkeypatch.delenv("HELDOUT_TORCH_OFFLINE", raising=False)
    assert main(["export", str(sample_zoo()), "--zoo", str(tmp_path / "zoo"), "--runs", "0"]) == 0
    with Server(tmp_path / "zoo").running() as server:
        folder = cache_folder(server.url)
        folder.mkdir(parents=True)
        (folder / EXPERIMENT).symlink_to(mounted("size=2m"))
        assert main(["zoo", "pull", server.url]) == 0
        assert main(["zoo", "pull", server.url]) == 0
        assert server.requests[f"{EXPERIMENT}/0.7/0/model.safetensors"] == 1
    assert contents(folder / EXPERIMENT) == contents(tmp_path / "zoo" / EXPERIMENT)
    assert not list((folder / ".incoming").rglob("*.npz/*"))


@pytest.mark.parametrize("named", [True, False])
def test_a_log_that_takes_no_more_ends_a_verification_only_if_it_was_named(tmp_path, monkeypatch, capsys, named):
    def fail(path, line):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(verification_log, "append_line", fail)
    words = ["--results", str(tmp_path / "log.jsonl")] if named else []
    assert main(["verify", str(sample_zoo()), "--runs", "0-1", *words]) == named
    told = capsys.readouterr()
    assert told.err.count("No space left on device") == 1
    assert ("2 runs verified, 0 with mismatches, 0 failed" in told.out) != named
    assert ("results are not kept: " in told.err) != named
