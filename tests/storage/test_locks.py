"""Locks: one holder, bounded waiting with a word, nobody waits where there are none; lines that never mix."""

import subprocess
import sys
import threading

import pytest

from heldout_torch.errors import ZooError
from heldout_torch.storage import locks
from heldout_torch.storage.locks import append_line, locked
from tests.storage.test_posix import ABSENT, failing


def test_a_second_holder_waits_for_the_first(tmp_path):
    order, inside = [], threading.Event()

    def first():
        with locked(tmp_path / "lock") as held:
            inside.set()
            order.append(held)
            threading.Event().wait(0.2)
            order.append("first ends")

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait(10)
    with locked(tmp_path / "lock"):
        order.append("second")
    thread.join()
    assert order == [True, "first ends", "second"]


def test_waiting_is_told_and_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "TOLD_AFTER", 0.0)
    told = []
    with locked(tmp_path / "lock"), pytest.raises(ZooError, match="lock: another process has held this lock for"):  # noqa: SIM117
        with locked(tmp_path / "lock", told.append, patience=0.4):
            raise AssertionError("two holders")
    assert len(told) == 1
    assert "waiting for another process" in told[0]


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    code = "import os, sys; from heldout_torch.storage.locks import locked\n"
    code += "from pathlib import Path\nwith locked(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "lock")], timeout=60)
    with locked(tmp_path / "lock", patience=0) as held:
        assert held


@pytest.mark.parametrize("name", ABSENT)
def test_without_locks_nobody_waits(name, tmp_path, monkeypatch):
    monkeypatch.setattr("fcntl.flock", failing(name))
    with locked(tmp_path / "lock") as one, locked(tmp_path / "lock") as other:
        assert (one, other) == (False, False)
    append_line(tmp_path / "log", b"line")
    append_line(tmp_path / "log", b"another")
    assert (tmp_path / "log").read_bytes() == b"line\nanother\n"


@pytest.mark.parametrize("flock", [True, False])
def test_lines_of_several_writers_do_not_mix(flock, tmp_path, monkeypatch):
    if not flock:
        monkeypatch.setattr("fcntl.flock", failing("ENOLCK"))
    lines = [bytes([letter]) * 5000 for letter in range(ord("a"), ord("i"))]
    threads = [
        threading.Thread(target=lambda line=line: [append_line(tmp_path / "a/log", line) for _ in range(20)])
        for line in lines
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted((tmp_path / "a/log").read_bytes().split()) == sorted(lines * 20)


def test_a_line_left_unfinished_is_ended_first(tmp_path):
    (tmp_path / "log").write_bytes(b"whole\nhal")
    append_line(tmp_path / "log", b"next")
    assert (tmp_path / "log").read_bytes() == b"whole\nhal\nnext\n"
