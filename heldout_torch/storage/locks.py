"""File locks between processes; on file systems without locks, nobody waits."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from heldout_torch.errors import ZooError
from heldout_torch.storage import posix

_POLL = 0.05  # seconds between tries
TOLD_AFTER = 5.0
_PATIENCE = 1800.0


@contextmanager
def locked(
    path: Path, waiting: Callable[[str], object] = lambda message: None, patience: float = _PATIENCE
) -> Iterator[bool]:
    """Hold a lock file while a block runs. It is made if need be, and stays; a killed holder holds it no longer.

    Args:
        path: The lock file; its folder must be there.
        waiting: Called with one line when somebody else has held it for some seconds.
        patience: Seconds after which waiting ends.

    Yields:
        Whether the lock is held. False where the file system has none: others may then be doing the same.

    Raises:
        ZooError: If somebody else holds it for too long.
        OSError: If the file cannot be made.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        start, told = time.monotonic(), False
        while (held := posix.lock(descriptor, wait=False)) is False:
            waited = time.monotonic() - start
            if waited > patience:
                raise ZooError(f"{path}: another process has held this lock for {waited:.0f} s; end it, then try again")
            if waited > TOLD_AFTER and not told:
                told = True
                waiting(f"{path}: waiting for another process that holds this lock")
            time.sleep(_POLL)
        yield bool(held)
    finally:
        os.close(descriptor)


def append_line(path: Path, line: bytes) -> None:
    """Append a line to a file that several processes append to, and wait until the disk has it.

    A line that a killed process left unfinished is ended first. Without locks the line still goes in one write to
    the file's end, which local file systems do not interleave.

    Args:
        path: The file; it and its folder are made if need be.
        line: Without its end.

    Raises:
        OSError: If it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b", buffering=0) as file:
        posix.lock(file.fileno())
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
        begin = b"\n" if size and file.read(1) != b"\n" else b""
        rest = begin + line + b"\n"
        while rest:  # once, but for full disks
            rest = rest[os.write(file.fileno(), rest) :]
        posix.sync_file(file.fileno())
