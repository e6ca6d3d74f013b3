"""Write files and folders atomically: a file, or a folder of files, is there whole or not at all.

Writers use a temporary name, which is locked while they live. `remove_stale` removes what killed writers left.
"""

import errno
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from heldout_torch.errors import UnwritableError, ZooError, os_errors
from heldout_torch.storage import posix

PARTIAL = ".partial-"  # how the names of what is not yet whole begin
REPLACED = ".replaced-"  # how the name of a folder begins while another takes its place
_STALE_SECONDS = 3600.0
_UNLOCKED_SECONDS = 86400.0  # where there are no locks, and times may be those of other machines' clocks
_PIECE = 2**18  # bytes written at a time
_TRIES = 100  # to replace a folder that others replace at the same time
_LEFT = re.compile(f"{re.escape(PARTIAL)}[0-9a-f]{{32}}|{re.escape(REPLACED)}.+")
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY)
_REFUSED = (errno.EACCES, errno.EPERM)  # what servers of Windows (SMB) and drivers of FAT say of a place that is taken


def read_bounded(path: Path, limit: int) -> bytes:
    """Read a whole file that may have so many bytes; a larger one is not read, nor what `open_plain` refuses.

    Raises:
        ZooError: If it has more.
        OSError: If it cannot be read.
    """
    with open(path, "rb", opener=open_plain) as file:
        size = os.fstat(file.fileno()).st_size
        if size <= limit:
            data = file.read(size + 1)  # a byte more shows whether it grows; memory for all of `limit` may be much
            if len(data) > size:
                data += file.read(limit + 1 - len(data))
            if len(data) <= limit:
                return data
    raise ZooError(f"{path}: has more than {limit} bytes, the largest size expected")


def open_plain(path: str, flags: int) -> int:
    """Open a file of a disk, as the `opener` of `open`: a pipe would be waited for, and a device may have no end.

    Raises:
        OSError: If it is a pipe or a device, or cannot be opened.
    """
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):  # `open` refuses folders itself
        os.close(descriptor)
        raise OSError(errno.EINVAL, "It is a device or a pipe", path)
    return descriptor


def check_writable(folder: Path) -> None:
    """Check that files can be created in a folder, or, if it does not exist yet, in its nearest parent that does.

    It is tried, because permissions say nothing about read-only file systems, nor about the superuser.

    Raises:
        UnwritableError: If they cannot.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise UnwritableError(f"{there}: is a file, expected a folder")
    probe = _temporary(there / "any")
    with os_errors(UnwritableError, f"{folder}: cannot be written, {there} takes no files"):
        with open(probe, "xb"):
            pass
        probe.unlink()


def check_new_file(path: Path) -> None:
    """Check that a file can be written, or replaced, as `check_writable` does of a folder.

    Raises:
        UnwritableError: If it cannot, or there is a folder or a device of that name.
    """
    if path.is_dir():
        raise UnwritableError(f"{path}: is a folder, expected the name of a file to write")
    if path.exists() and not path.is_file():
        raise UnwritableError(f"{path}: is a device or a pipe, expected the name of a file to write")
    check_writable(path.parent)
    if path.exists() and not os.access(path, os.W_OK):
        raise UnwritableError(f"{path}: cannot be written (Permission denied)")


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file whole or not at all. Several writers may write the same path; the last one wins."""
    with new_file(path) as file:
        write_pieces(file, data)


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Make a file appear at once with all its bytes: a temporary one beside it is written, synced, renamed.

    Folders on the way are made. Yields the temporary file, open for writing. A device is not replaced, which the
    superuser could (`/dev/null`).
    """
    if path.is_dir():  # before the work: renaming over it fails only in the end
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "It is a device or a pipe", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        with open(temporary, "xb") as file:
            posix.lock(file.fileno(), wait=False)
            yield file
            file.flush()
            posix.sync_file(file.fileno())
        os.replace(temporary, path)  # Windows renames no open file
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    posix.sync(path.parent)


def write_plainly(path: Path, data: bytes) -> None:
    """Write a file of a `new_folder`, which waits for the disk when all its files are written."""
    with open(path, "wb") as file:
        write_pieces(file, data)


@contextmanager
def new_folder(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """Make a folder appear at once with all its files.

    Yields a temporary folder beside `path`. When the block ends, and the disk has all that lies in it, the folder moves
    to `path`. If another writer was first, its folder stays and ours is dropped, unless `overwrite`.
    A folder that is overwritten changes places with the new one, so a reader always finds one of them. Where the file
    system has no such call, it is renamed first: for a moment there is none, and the old one comes back if the new one
    cannot be moved, or, after a kill, when somebody writes to `path` or calls `remove_stale`.
    A link stays, and the folder that it leads to is replaced: it may be on another disk.
    """
    if linked := path.is_symlink():
        path = Path(os.path.realpath(path))
    _put_back(path)
    if linked and not path.exists():
        raise OSError(errno.ENOENT, f"It is a link to {path}, which is not there")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    temporary.mkdir()
    try:
        with _held(temporary):
            yield temporary
            # One after the other when all are written: the first one makes the file system write its journal.
            for folder, _, names in os.walk(temporary, topdown=False):
                for name in (*names, ""):
                    posix.sync(Path(folder, name))
            _move(temporary, path, overwrite)
        posix.sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_stale(folder: Path) -> None:
    """Remove what killed writers left in a folder, and put back what they were replacing.

    A temporary is removed if nobody holds its lock and it is an hour old by the clock of the file system, whose times
    these are, not by that of this machine; a day old where the file system has no locks. What others own, and may not
    be removed, stays.
    """
    try:
        names = [name for name in os.listdir(folder) if _LEFT.fullmatch(name)]
    except OSError:  # no folder, or not readable: the next write will say so
        return
    for name in names:
        if name.startswith(REPLACED):
            _put_back(folder / name.removeprefix(REPLACED))
    now = _clock(folder) if names else None
    for path in (folder / name for name in names):
        with suppress(OSError):  # others cleaned up, or we may not
            age = 0.0 if now is None else now - _last_change(path)
            if age > _STALE_SECONDS and _is_free(path, age > _UNLOCKED_SECONDS):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()


def write_pieces(file: BinaryIO, data: bytes | memoryview) -> None:
    """Write in pieces: for one call of many megabytes Linux looks for memory in one piece, which can take ten times."""
    pieces = memoryview(data)
    for start in range(0, len(pieces), _PIECE):
        file.write(pieces[start : start + _PIECE])


def _temporary(path: Path) -> Path:
    return path.with_name(f"{PARTIAL}{uuid.uuid4().hex}")


def _move(temporary: Path, path: Path, overwrite: bool) -> None:
    """Move a folder to its place. What was there, if it is replaced, is at `temporary` afterwards, or gone."""
    for _ in range(_TRIES):
        try:
            return os.rename(temporary, path)  # also over an empty folder
        except OSError as error:
            if not _is_taken(path, error):
                raise
        if not overwrite:
            return None
        with suppress(FileNotFoundError):  # somebody else is replacing it, too
            if posix.exchange(temporary, path):
                return None
            old = path.with_name(REPLACED + path.name)
            try:
                _set_aside(path, old)
            except OSError as error:
                if error.errno in _TAKEN:  # somebody else's is there now
                    continue
                raise
            try:
                os.rename(temporary, path)
            except OSError as error:
                _put_back(path)
                if error.errno not in _TAKEN:
                    raise
            else:
                shutil.rmtree(old, ignore_errors=True)
                return None
    raise OSError(errno.EBUSY, "other processes keep replacing it", str(path))


def _is_taken(path: Path, error: OSError) -> bool:
    """Return whether a folder could not be moved to a place because another folder, with something in it, is there."""
    if error.errno in _REFUSED:
        return path.is_dir() and any(path.iterdir())
    return error.errno in _TAKEN and not path.is_file()


def _set_aside(path: Path, old: Path) -> None:
    shutil.rmtree(old, ignore_errors=True)  # of an earlier replacement that went well, for `path` is there
    try:
        os.rename(path, old)
    except OSError as error:
        if error.errno != errno.EXDEV:  # in a container: a folder of the image cannot be renamed, only removed
            raise
        shutil.copytree(path, old, symlinks=True)
        shutil.rmtree(path)


def _put_back(path: Path) -> None:
    """Put back a folder under its name whose replacement was interrupted."""
    old = path.with_name(REPLACED + path.name)
    if old.is_dir() and not path.exists():
        with suppress(OSError):  # somebody else did
            os.rename(old, path)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, where folders can be opened and locked."""
    if os.name == "nt":
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        posix.lock(descriptor, wait=False)
        yield
    finally:
        os.close(descriptor)


def _is_free(path: Path, without_locks: bool) -> bool:
    """Return whether nobody holds the lock of a temporary; where there are no locks, what is given."""
    if os.name == "nt":
        return without_locks
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        free = posix.lock(descriptor, wait=False)
        return without_locks if free is None else free
    finally:
        os.close(descriptor)


def _clock(folder: Path) -> float | None:
    """Return what the file system takes for now; None where nothing can be written."""
    probe = _temporary(folder / "any")
    try:
        with open(probe, "xb"):
            return probe.stat().st_mtime
    except OSError:
        return None
    finally:
        with suppress(OSError):
            probe.unlink()


def _last_change(path: Path) -> float:
    files = [path, *path.iterdir()] if path.is_dir() else [path]
    return max(file.lstat().st_mtime for file in files)
