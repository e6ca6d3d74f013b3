"""Bytes of files on disks, web servers and in buckets, named by path or URL, through fsspec."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from heldout_torch.errors import ZooError

_WAITS = (0.2, 1.0, 3.0)  # seconds before each further try
_NO_RANGES = "the server does not answer range requests; copy the file to a disk first"

T = TypeVar("T")


def is_remote(location: object) -> bool:
    """Tell whether a location is a URL (`https://…`, `s3://…`), not a path."""
    return "://" in str(location)


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
