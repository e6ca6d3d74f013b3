"""Progress is told, and can neither stop nor hang the work, whatever becomes of the terminal."""

import io
import os
import pty
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from heldout_torch.storage import progress
from heldout_torch.storage.progress import Bar, set_quiet, tell, tracked
from tests.helpers.process import wait_for
from tests.helpers.terminal import on_terminal

WORK = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from heldout_torch.storage.progress import Bar
with Bar("work", "run", 40) as bar, ThreadPoolExecutor(4) as pool:
    for _ in pool.map(lambda i: (time.sleep(0.02), bar.add(), bar.print(f"error: {i} " + "x" * 5000)), range(40)):
        pass
print("done")
"""


def test_on_a_terminal_one_line_is_drawn_in_place_and_others_stand_above_it():
    code = WORK.replace('"x" * 5000', "'\\n'").replace("0.02", "0.1")
    seen, output = on_terminal([sys.executable, "-c", code])
    assert output == "done\n"
    lines = [line.rpartition("\r")[2] or line for line in seen.replace("\r\n", "\n").splitlines()]
    assert sum(line.startswith("error: ") for line in lines) == 40
    assert lines[-1].startswith("work: 100% 40/40 run, 0:0")
    assert "left" in seen


@pytest.fixture
def clock(monkeypatch):
    """The time that bars see, in seconds, which stands still unless a test changes it."""
    now = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_elsewhere_a_line_is_written_every_while(monkeypatch, clock):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with Bar("work", "B", 3e6) as bar:
        bar.note = "loss 0.5"
        for line in (1, 2):
            bar.add(1_000_000)
            clock[0] += 31
            wait_for(lambda line=line: stream.getvalue().count("\n") == line)
    assert stream.getvalue().splitlines() == [
        "work:  33% 1.0M/3.0M B, 0:31, 32.3k B/s, 1:02 left, loss 0.5",
        "work:  66% 2.0M/3.0M B, 1:02, 32.3k B/s, 0:31 left, loss 0.5",
    ]


def test_quick_work_elsewhere_writes_nothing_but_its_lines(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with Bar("work", "run", 2) as bar:
        bar.print("error: first")
        bar.print("error: second")
        bar.add(2)
    assert stream.getvalue() == "error: first\nerror: second\n"


def test_quiet_draws_nothing_but_lines(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "EVERY", 0.0)
    set_quiet(True)
    try:
        with Bar("work", "run") as bar:
            tell("compiling")
            time.sleep(0.3)
            bar.print("error: shown")
    finally:
        set_quiet(False)
    assert stream.getvalue() == "error: shown\n"


def test_shares_of_runs_are_told_as_whole_runs(monkeypatch, clock):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with Bar("train", "run", 400) as bar:
        bar.add(66.9)
        clock[0] += progress.EVERY
        wait_for(stream.getvalue)
    assert stream.getvalue().startswith("train:  16% 66/400 run, ")


def test_a_bar_within_another_draws_nothing(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "EVERY", 0.2)
    with Bar("outer", "run"), Bar("inner", "B") as inner:
        wait_for(lambda: stream.getvalue().count("outer") > 1)
        inner.print("from inside")
    assert "inner" not in stream.getvalue()
    assert "from inside\n" in stream.getvalue()


def test_a_reader_that_is_gone_ends_the_bar_and_not_the_work():
    ours, theirs = os.pipe()
    os.close(ours)
    process = subprocess.run(
        [sys.executable, "-c", WORK], stdout=subprocess.PIPE, stderr=theirs, timeout=60, check=True
    )
    os.close(theirs)
    assert process.stdout == b"done\n"


def test_a_reader_that_does_not_read_is_not_waited_for():
    ours, theirs = os.pipe()  # 64 kB of the 200 kB fit in
    begun = time.monotonic()
    process = subprocess.run(
        [sys.executable, "-c", WORK], stdout=subprocess.PIPE, stderr=theirs, timeout=60, check=True
    )
    assert process.stdout == b"done\n"
    assert time.monotonic() - begun > progress.PATIENCE  # or the pipe had room, and this shows nothing
    os.close(ours)
    os.close(theirs)


def test_a_terminal_that_hangs_up_ends_the_bar_and_not_the_work():
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", WORK], stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    os.read(ours, 100)
    os.close(ours)
    assert process.communicate(timeout=60)[0] == b"done\n"
    assert process.returncode == 0


def test_closed_standard_error_is_no_matter():
    command = f"{sys.executable} -c '{WORK}' 2>&-"
    assert subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, timeout=60, check=True).stdout == b"done\n"


def test_adding_never_waits_for_the_drawing(monkeypatch):
    entered, leave = threading.Event(), threading.Event()

    class Stuck(io.StringIO):
        def write(self, text):
            entered.set()
            leave.wait(30)

    monkeypatch.setattr(sys, "stderr", Stuck())
    monkeypatch.setattr(progress, "EVERY", 0.0)
    monkeypatch.setattr(progress, "PATIENCE", 0.1)
    with Bar("work", "run") as bar:
        assert entered.wait(10)
        for _ in range(1000):
            bar.add()
    leave.set()


def test_iterables_are_tracked(capsys):
    assert list(tracked(iter("abc"), "letters", "letter")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("number", "text"),
    [(9.25, "9.2"), (0.25, "0.25"), (9999, "9999"), (10_000, "10.0k"), (12345, "12.3k"), (3e15, "3000T")],
)
def test_numbers_are_short(number, text, monkeypatch):
    stream = io.StringIO()
    stream.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", stream)
    with Bar("work", "B", number):
        pass
    assert stream.getvalue().startswith(f"work:   0% 0/{text} B")


def test_shares_that_add_up_are_the_whole(monkeypatch, clock):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with Bar("work", "run", 4) as bar:
        for _ in range(40):
            bar.add(0.1 - 1e-9)
        clock[0] += progress.EVERY
        wait_for(stream.getvalue)
    assert stream.getvalue().splitlines()[-1].startswith("work: 100% 4/4 run")


class Terminal(io.StringIO):
    """What a terminal shows of what it is sent, of which `\\r` and `\\n` move the cursor."""

    def isatty(self):
        return True

    def lines(self):
        shown, column = [""], 0
        for letter in self.getvalue():
            if letter == "\n":
                shown.append("")
            if letter in "\r\n":
                column = 0
                continue
            shown[-1] = shown[-1][:column] + letter + shown[-1][column + 1 :]
            column += 1
        return [line.rstrip() for line in shown]


def test_a_line_that_gets_shorter_leaves_nothing_of_the_longer_one(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Bar("work", "run", 4) as bar:
        for bar.note in ("a long note", "short"):
            wait_for(lambda: bar.note in terminal.getvalue())
            assert terminal.lines()[0].endswith(f", {bar.note}")
        bar.print("error: one")
        wait_for(lambda: len(terminal.lines()) == 2 and terminal.lines()[1])
        above, line = terminal.lines()
    assert (above, line[:21]) == ("error: one", "work:   0% 0/4 run, 0")


def test_a_line_is_no_longer_than_the_terminal_is_wide(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Bar("work", "run") as bar:
        bar.note = "x" * 500
        wait_for(terminal.getvalue)
    assert max(map(len, terminal.getvalue().replace("\n", "\r").split("\r"))) == 79


def test_what_may_be_quick_is_drawn_late_and_leaves_nothing_on_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Bar("work", "run", delay=60.0):
        time.sleep(0.3)
    assert terminal.getvalue() == ""
    with Bar("work", "run", delay=0.1):
        wait_for(terminal.getvalue)
    assert terminal.lines() == [""]


def test_hours_are_told_and_how_many_are_left(monkeypatch, clock):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Bar("work", "run", 4) as bar:
        bar.add()
        clock[0] += 3 * 3600 + 125
        wait_for(lambda: "3:02:05" in terminal.getvalue())
        assert terminal.lines()[0] == "work:  25% 1/4 run, 3:02:05, 0.00 run/s, 9:06:15 left"


@pytest.mark.parametrize("closed", [True, False])
def test_without_standard_error_lines_for_others_are_written(monkeypatch, closed):
    gone, output = io.StringIO(), io.StringIO()
    gone.close()
    monkeypatch.setattr(sys, "stderr", gone if closed else None)
    with Bar("work", "run") as bar:
        bar.print("error: one")
        bar.print("a result", output)
    assert output.getvalue() == "a result\n"


@pytest.mark.parametrize(("error", "tried"), [(OSError, False), (BlockingIOError, True)])
def test_a_terminal_that_is_gone_is_written_to_once_and_one_that_is_busy_again(monkeypatch, error, tried):
    writes = []

    class Full(Terminal):
        def write(self, text):
            writes.append(text)
            raise error

    monkeypatch.setattr(sys, "stderr", Full())
    with Bar("work", "run"):
        wait_for(lambda: len(writes) > tried)
        time.sleep(0 if tried else 0.5)
    assert (len(writes) > 1) == tried


def test_a_terminal_that_takes_a_line_in_pieces_gets_all_of_it(monkeypatch, tmp_path):
    write = os.write
    with open(tmp_path / "shown", "w") as file:
        monkeypatch.setattr(sys, "stderr", file)
        monkeypatch.setattr(sys, "__stderr__", file)
        monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
        tell("compiling")
    assert (tmp_path / "shown").read_text() == "compiling\n"
