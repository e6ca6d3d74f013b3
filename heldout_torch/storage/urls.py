"""Bytes of files on disks, web servers and in buckets, named by path or URL, through fsspec."""

import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from heldout_torch.errors import ZooError
from heldout_torch.storage.files import PARTIAL, write_atomically

REQUESTS = 16  # at once, where nobody says how many
_WAITS = (0.2, 1.0, 3.0)  # seconds before each further try
_NO_RANGES = "the server does not answer range requests; copy the file to a disk first"

T = TypeVar("T")


def is_archive(location: object) -> bool:
    """Tell whether a location, path or URL, is an archive's by its ending."""
    return str(location).endswith((".tar.gz", ".tgz"))


def open_filesystem(location: str) -> tuple[Any, str]:
    """Give the fsspec file system of a location, and its path there.

    Raises:
        ZooError: If the protocol is not known, or its package is not installed.
    """
    import fsspec

    try:
        filesystem, path = fsspec.core.url_to_fs(location)
    except (ImportError, ValueError) as error:
        raise ZooError(f"{location}: cannot be opened ({' '.join(str(error).split())})") from None
    return filesystem, path


def is_disk(filesystem: Any) -> bool:
    """Whether an fsspec file system is the machine's own."""
    from fsspec.implementations.local import LocalFileSystem

    return isinstance(filesystem, LocalFileSystem)


def read_file(location: str) -> bytes:
    """Read a whole file.

    Raises:
        FileNotFoundError: If there is none.
        ZooError: If it cannot be read, also when tried again.
    """
    filesystem, path = open_filesystem(location)
    return retried(lambda: filesystem.cat_file(path), location)


def read_range(location: str, start: int, end: int, whole_size: int | None = None) -> bytes:
    """Read bytes `start` to `end` of a file; fewer where it ends before.

    Args:
        location: Path or URL.
        start: First byte.
        end: Byte after the last.
        whole_size: Size of the file, if the caller takes the whole file from a server that cannot give ranges.

    Raises:
        FileNotFoundError: If there is no such file.
        ZooError: If it cannot be read, also when tried again, or the server gives no ranges.
    """
    filesystem, path = open_filesystem(location)
    data = retried(lambda: filesystem.cat_file(path, start=start, end=end), location)
    if len(data) > end - start and len(data) != whole_size:
        raise ZooError(f"{location}: {_NO_RANGES}")
    return data


def write_file(location: str, data: bytes) -> None:
    """Write a file whole or not at all; folders on the way are made. The last of several writers wins.

    On the disk, and where the protocol can rename (`ftp`, `sftp`, …), a temporary file beside it is written and moved;
    what an object store is given appears whole by itself.

    Raises:
        ZooError: If it cannot be written, also when tried again.
    """
    filesystem, path = open_filesystem(location)
    if is_disk(filesystem):
        try:
            return write_atomically(Path(path), data)
        except OSError as error:
            raise ZooError(f"{location}: cannot be written ({error.strerror})") from None
    folder, _, name = path.rpartition("/")
    put = _put_and_rename if _can_rename(filesystem) else _put
    try:
        retried(lambda: put(filesystem, folder, name, data), location)
    except FileNotFoundError as error:
        raise ZooError(f"{location}: cannot be written ({' '.join(str(error).split())})") from None
    return None


def remove_file(location: str) -> None:
    """Remove a file, if there is one.

    Raises:
        ZooError: If it cannot be removed, also when tried again.
    """
    filesystem, path = open_filesystem(location)

    def remove() -> None:
        if filesystem.exists(path):
            filesystem.rm_file(path)

    with suppress(FileNotFoundError):  # somebody else may be quicker
        retried(remove, location)


def check_ranges(location: str, size: int) -> None:
    """Check that a web server answers range requests, before a large file's range is asked for and all of it comes.

    Args:
        location: Path or URL; only web servers are asked.
        size: The file's, in bytes.

    Raises:
        FileNotFoundError: If there is no such file.
        ZooError: If the server does not.
    """
    if not location.startswith(("http://", "https://")):
        return
    filesystem, path = open_filesystem(location)

    def read_last_byte() -> None:
        with filesystem.open(path, size=size, cache_type="none") as file:
            file.seek(size - 1)
            try:
                file.read(1)
            except ValueError:
                raise ZooError(f"{location}: {_NO_RANGES}") from None

    retried(read_last_byte, location)


def retried(action: Callable[[], T], location: str) -> T:
    """Do something far away, again when it fails.

    Raises:
        FileNotFoundError: At once, if that is why.
        ZooError: If every try fails.
    """
    for wait in (*_WAITS, None):
        try:
            return action()
        except (FileNotFoundError, ZooError):
            raise
        except Exception as error:  # each protocol's package raises kinds of its own
            if wait is None:
                reason = " ".join(str(error).split()) or type(error).__name__
                raise ZooError(f"{location}: cannot be reached, tried {len(_WAITS) + 1} times ({reason})") from None
            time.sleep(wait)
    raise AssertionError("unreachable")


def _can_rename(filesystem: Any) -> bool:
    """Tell whether a file system has a move of its own; the others copy, as object stores must."""
    from fsspec.spec import AbstractFileSystem

    return type(filesystem).mv is not AbstractFileSystem.mv


def _put(filesystem: Any, folder: str, name: str, data: bytes) -> None:
    try:
        filesystem.pipe_file(f"{folder}/{name}", data)
    except FileNotFoundError:  # in few object stores something must be made first, and to ask costs a request a file
        filesystem.makedirs(folder, exist_ok=True)
        filesystem.pipe_file(f"{folder}/{name}", data)


def _put_and_rename(filesystem: Any, folder: str, name: str, data: bytes) -> None:
    filesystem.makedirs(folder, exist_ok=True)
    temporary = f"{folder}/{PARTIAL}{uuid.uuid4().hex}"
    filesystem.pipe_file(temporary, data)
    try:
        filesystem.mv(temporary, f"{folder}/{name}")
    except Exception:  # some do not move a file over another
        filesystem.rm_file(f"{folder}/{name}")
        filesystem.mv(temporary, f"{folder}/{name}")
