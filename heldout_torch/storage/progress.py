"""Progress on standard error, drawn by a thread that does nothing else, so that it can neither stop nor hang the work.

Whoever works only adds numbers. On a terminal a line is drawn again and again in place; elsewhere a line is written
every half minute. A terminal that is gone ends the drawing; one that takes no more output is not waited for.
"""

import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Self, TypeVar

T = TypeVar("T")
Progress = Callable[[float], object]  # called with how much was done since its last call

_REDRAW = 0.1  # seconds, on a terminal
EVERY = 30.0  # seconds, elsewhere
PATIENCE = 5.0  # seconds that the end of the work waits for the last lines

_one_at_a_time = threading.Lock()  # held by the bar that is drawn; one within another is not
_quiet = threading.Event()


def set_quiet(quiet: bool) -> None:
    """Draw no bars in this process, or draw them again."""
    if quiet:
        _quiet.set()
    else:
        _quiet.clear()


def tracked(steps: Iterable[T], what: str, unit: str, total: float | None = None) -> Iterator[T]:
    """Yield from an iterable, with a bar if that takes more than a second."""
    with Bar(what, unit, total, delay=1.0) as bar:
        for step in steps:
            yield step
            bar.add()


def tell(line: str) -> None:
    """Write a line to standard error, unless `set_quiet` forbids bars."""
    if not _quiet.is_set():
        _write(line + "\n", sys.stderr)


class Bar:
    """A progress bar on standard error, while a `with` block lasts.

    Args:
        what: Name of the work.
        unit: What is counted, such as `run`, or `B` for bytes.
        total: How much there is to do, if that is known; may be set later.
        delay: Seconds of work that pass before anything is drawn; such a bar leaves no trace on a terminal.

    Attributes:
        total: How much there is to do; None if that is not known.
        done: How much was counted.
        note: Shown at the end of the line.
    """

    def __init__(self, what: str, unit: str, total: float | None = None, delay: float = 0.0) -> None:
        self.total, self.done, self.note = total, 0.0, ""
        self._what, self._unit, self._delay = what, unit, delay
        self._lock = threading.Lock()
        # Texts and the stream for each; None ends the drawing.
        self._lines: queue.SimpleQueue[tuple[str, Any] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._drawn = 0  # letters of the line that is shown
        self._gone = False

    def add(self, amount: float = 1) -> None:
        """Count more as done; any thread may call this, and it never waits."""
        with self._lock:
            self.done += amount

    def print(self, line: str, stream: Any = None) -> None:
        """Write a line of its own, by default to standard error; lines come out in order, and are not waited for."""
        if self._thread is None:
            _write(line + "\n", stream or sys.stderr)
        else:
            self._lines.put((line, stream or sys.stderr))

    def __enter__(self) -> Self:
        if sys.stderr is not None and _one_at_a_time.acquire(blocking=False):
            self._began = time.monotonic()
            self._thread = threading.Thread(target=self._draw_all, args=(sys.stderr,), name="progress", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._lines.put(None)
            try:
                self._thread.join(PATIENCE)
            finally:
                self._thread = None
                _one_at_a_time.release()

    def _draw_all(self, stream: Any) -> None:
        terminal = _is_terminal(stream)
        due = self._began + max(self._delay, 0 if terminal else EVERY)
        while True:
            item: tuple[str, Any] | None = ("", None)
            with suppress(queue.Empty):
                item = self._lines.get(timeout=_REDRAW)
                self._erase(stream)
            if item is None:
                break
            if item[1] is not None:
                _write(item[0] + "\n", item[1])
            if time.monotonic() < due or self._gone or _quiet.is_set() or not self._lines.empty():
                continue
            if terminal:
                self._draw(stream)
            else:
                self._gone, due = not _write(self._line() + "\n", stream), time.monotonic() + EVERY
        if terminal and not self._delay and not self._gone and not _quiet.is_set():
            _write(self._line()[: _columns(stream)] + "\n", stream)

    def _draw(self, stream: Any) -> None:
        line = self._line()[: _columns(stream)]
        self._gone = not _write("\r" + line.ljust(self._drawn), stream)
        self._drawn = len(line)

    def _erase(self, stream: Any) -> None:
        if self._drawn and not self._gone:
            self._gone = not _write("\r" + " " * self._drawn + "\r", stream)
        self._drawn = 0

    def _line(self) -> str:
        total, seconds = self.total, time.monotonic() - self._began
        done = self.done
        if total and done > total * (1 - 1e-6):  # shares do not add up to the whole exactly
            done = total
        whole = _short(int(done))  # training counts shares of a run
        parts = [f"{whole} {self._unit}"]
        if total:
            parts = [f"{int(100 * done / total):3d}% {whole}/{_short(total)} {self._unit}"]
        parts.append(_clock(seconds))
        if done:
            parts.append(f"{_short(done / max(seconds, 1e-3))} {self._unit}/s")
            if total and done < total:
                parts.append(f"{_clock(seconds * (total - done) / done)} left")
        return f"{self._what}: " + ", ".join([*parts, *filter(None, [self.note])])


def _short(number: float) -> str:
    if number < 10_000:
        return f"{number:.0f}" if number == int(number) else f"{number:.{1 if number >= 1 else 2}f}"
    for prefix in "kMGT":
        number /= 1000
        if number < 1000 or prefix == "T":
            break
    return f"{number:.{1 if number < 100 else 0}f}{prefix}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _is_terminal(stream: Any) -> bool:
    """Return whether a line there can be drawn again in place; in a notebook it can."""
    try:
        return stream.isatty() or type(stream).__module__.startswith("ipykernel")
    except ValueError:  # closed
        return False


def _columns(stream: Any) -> int:
    try:
        return (os.get_terminal_size(stream.fileno()).columns or 80) - 1
    except (AttributeError, OSError, ValueError):
        return 79


def _write(text: str, stream: Any) -> bool:
    """Write to a stream; return whether there is still somebody who reads it.

    The process's own streams are written to past their buffers: a thread that hangs in a write holds the buffer's
    lock, and at its end Python would abort over it.
    """
    try:
        if stream is not None and stream in (sys.__stderr__, sys.__stdout__):
            data = text.encode(stream.encoding or "utf-8", "backslashreplace")
            while data:
                data = data[os.write(stream.fileno(), data) :]
        elif stream is not None:
            stream.write(text)
            stream.flush()
    except BlockingIOError:  # it takes no more now
        return True
    except (OSError, ValueError):  # the terminal, or the reader, is gone; or the stream is closed
        return False
    return True
