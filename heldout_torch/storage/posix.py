"""Calls that not every operating system or file system has; where one is missing, work goes on without it."""

import ctypes
import errno
import os
import sys
import tempfile
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# What file systems answer that do not have a call (Lustre, FUSE, NFS, overlays), and kernels that do not know it.
_ABSENT = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.ENOLCK, errno.EBADF}
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


def lock(descriptor: int, wait: bool = True) -> bool | None:
    """Lock an open file or folder against other processes and threads that lock it, until it is closed.

    Args:
        descriptor: Of the open file; each `open` of it is a holder of its own.
        wait: Wait until nobody else holds it.

    Returns:
        Whether it is locked; False if somebody else holds it; None where the file system has no locks.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        if error.errno in _ABSENT:
            return None
        raise
    return True


def exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two files or folders of one file system at once, so that neither is ever missing.

    Returns:
        Whether it was done; False where the system or the file system cannot.

    Raises:
        OSError: If it can, and it fails.
    """
    if _renameat2 is None:
        return False
    if _renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _ABSENT or number == errno.EXDEV:  # EXDEV: a folder of an overlay's lower layer
        return False
    raise OSError(number, os.strerror(number), str(one), None, str(other))


def reserve(folder: Path, size: int) -> IO[bytes]:
    """Take space of a folder's disk, until the file without a name that is returned is closed, or the process ends.

    Where the system or the file system cannot, none is taken.

    Args:
        folder: Where.
        size: Bytes.

    Raises:
        OSError: If the disk, or a quota, does not have them.
    """
    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno not in _ABSENT | {errno.EFBIG}:  # EFBIG: a limit of single files, which says nothing of the disk
            file.close()
            raise
    return file


def sync_file(descriptor: int) -> None:
    """Wait until the disk has an open file; file systems without a disk need not."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise


def sync(path: Path) -> None:
    """Wait until the disk has a file, or the names in a folder; not on Windows, which opens no folders."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        sync_file(descriptor)
    finally:
        os.close(descriptor)


def _find_renameat2() -> "ctypes._NamedFuncPointer | None":
    if sys.platform != "linux":
        return None
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2  # glibc 2.28, musl 1.2.4
    except (OSError, AttributeError):
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return function


_renameat2 = _find_renameat2()
