"""What the process of a command is to the system: its signals and its standard files."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """The process was asked to end (SIGTERM); work that an interruption ends, this ends as well."""


@contextmanager
def signals_end_work() -> Iterator[None]:
    """Let SIGINT and SIGTERM end the work within the block in an orderly way, and a second Ctrl-C at once.

    A signal that is ignored (in a background job, under `nohup`) stays so.

    Raises:
        KeyboardInterrupt: At SIGINT.
        Terminated: At SIGTERM.
    """
    if threading.current_thread() is not threading.main_thread():  # signals are none of its business
        yield
        return
    came: list[int] = []

    def end(number: int, _: FrameType | None) -> None:
        came.append(number)
        for each in before:
            # Managers repeat SIGTERM while they wait; whoever presses Ctrl-C again means it.
            signal.signal(each, signal.SIG_IGN if number == each == signal.SIGTERM else signal.SIG_DFL)
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {each: handler for each in numbers if (handler := signal.getsignal(each)) not in (signal.SIG_IGN, None)}
    for each in before:
        signal.signal(each, end)
    try:
        yield
    finally:
        if not came:  # else the process ends now, and a second Ctrl-C still counts
            for each, handler in before.items():
                signal.signal(each, handler)


def standard_files_open() -> None:
    """Open what a shell closed (`2>&-`) on the null device, or the next file opened would be taken for it."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            if os.open(os.devnull, os.O_RDWR) == number and number and getattr(sys, name) is None:
                setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115
