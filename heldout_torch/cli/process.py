"""What the process of a command is to the system: its signals and its standard files."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_HANGUP = getattr(signal, "SIGHUP", signal.SIGTERM)  # Windows has none


class Terminated(KeyboardInterrupt):
    """The process was asked to end, or its terminal was closed; work that an interruption ends, this ends as well.

    Attributes:
        status: Exit status of the process, 128 and the number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.status = 128 + number


@contextmanager
def signals_end_work() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP end the work within the block in an orderly way, and a second Ctrl-C at once.

    A signal that is ignored (in a background job, under `nohup`) stays so.

    Raises:
        KeyboardInterrupt: At SIGINT.
        Terminated: At SIGTERM, and at SIGHUP, which comes when the terminal is closed.
    """
    if threading.current_thread() is not threading.main_thread():  # signals are none of its business
        yield
        return
    came: list[int] = []

    def end(number: int, _: FrameType | None) -> None:
        came.append(number)
        for each in before:
            # Managers repeat SIGTERM while they wait, and a shell and its terminal each send SIGHUP; whoever presses
            # Ctrl-C, or does it again, means it.
            signal.signal(each, signal.SIG_DFL if signal.SIGINT in (number, each) else signal.SIG_IGN)
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)

    numbers = (signal.SIGINT, signal.SIGTERM, _HANGUP)
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
            if os.open(os.devnull, os.O_RDWR) == number and getattr(sys, name) is None:
                setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115
