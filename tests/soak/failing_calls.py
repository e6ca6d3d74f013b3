"""Calls to the operating system of which one fails: the first, the third, … of those that touch a folder."""

import builtins
import contextlib
import errno
import io
import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# What a call fails with: a network file system that lost a file, too many open files, a disk that cannot be read, …
FAULTS = {
    "open to read": (errno.ESTALE, errno.EMFILE, errno.EIO, errno.EACCES),
    "open to write": (errno.EDQUOT, errno.ENAMETOOLONG, errno.EMFILE, errno.EINTR),
    "listdir": (errno.ESTALE, errno.EACCES, errno.EMFILE),
    "scandir": (errno.ESTALE, errno.EACCES, errno.EMFILE),
    "stat": (errno.ESTALE, errno.EACCES, errno.EINTR),
    "lstat": (errno.ESTALE,),
    "rename": (errno.EXDEV, errno.EACCES, errno.ESTALE, errno.EDQUOT),
    "replace": (errno.EXDEV, errno.EACCES, errno.ESTALE, errno.EDQUOT),
    "link": (errno.EPERM, errno.EMLINK),
    "utime": (errno.EPERM, errno.ESTALE),
    "unlink": (errno.EACCES, errno.ESTALE),
    "rmdir": (errno.ENOTEMPTY, errno.EACCES),
    "mkdir": (errno.EDQUOT, errno.EMLINK, errno.ENAMETOOLONG),
    "fsync": (errno.EIO, errno.EDQUOT, errno.EINTR),
}


@contextlib.contextmanager
def calls_below(folder: Path, fault: str = "", number: int = 0, place: int = -1) -> Iterator[Counter[str]]:
    """Count the calls that touch a folder by kind, and let one of them fail.

    Args:
        folder: Where.
        fault: Kind of the call that fails, as in `FAULTS`.
        number: The `errno` that it fails with.
        place: Which of these calls fails, from 0.
    """
    seen, lock = Counter[str](), threading.Lock()

    def told(kind: str, what: Any) -> None:
        path = os.readlink(f"/proc/self/fd/{what}") if isinstance(what, int) else os.fsdecode(what)
        if not path.startswith(str(folder)):
            return
        with lock:
            seen[kind] += 1
            fails = kind == fault and seen[kind] == place + 1
        if fails:
            raise OSError(number, os.strerror(number), path)

    def wrapped(name: str, real: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            what = arguments[0] if arguments else options.get("path", ".")
            if name == "open":
                flags = arguments[1] if len(arguments) > 1 else options.get("mode", options.get("flags", "r"))
                writes = bool(set(flags) & set("wxa+")) if isinstance(flags, str) else bool(flags & 3)
                if not isinstance(what, int):
                    told("open to write" if writes else "open to read", what)
            elif not isinstance(what, int) or name == "fsync":
                told(name, what)
            return real(*arguments, **options)

        return call

    before = [(module, name, getattr(module, name)) for module, name in _PLACES]
    try:
        for module, name, real in before:
            setattr(module, name, wrapped(name, real))
        yield seen
    finally:
        for module, name, real in before:
            setattr(module, name, real)


_PLACES = [
    (builtins, "open"),
    (io, "open"),
    *((os, name) for name in ("open", *(name for name in FAULTS if not name.startswith("open")))),
]
