"""Read and write files on disks, on web servers and in buckets, by path or URL, through fsspec."""

import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from heldout_torch.errors import HeldoutError, ZooError, one_line, os_errors
from heldout_torch.storage import hub, web
from heldout_torch.storage.files import PARTIAL, open_plain, write_atomically
from heldout_torch.storage.offline import check_network
from heldout_torch.storage.paths import file_name, place
from heldout_torch.storage.retries import retried, status_of

_PIECE = 2**23  # bytes asked of a bucket at a time
REQUESTS = 16  # at once, where nobody says how many
_S3 = ("s3", "s3a")
_WEB = ("http", "https", "hf")  # the Hub's files are read from its web server
_BUCKETS = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci"}  # protocols of object stores
MAX_FILE = 2**32  # bytes of one file; the largest model of a run has 0.1 GB


def is_archive(location: object) -> bool:
    """Return whether a location, path or URL, is an archive's by its ending; a URL may be signed after that."""
    return file_name(str(location)).lower().endswith((".tar.gz", ".tgz"))


def open_filesystem(location: str) -> tuple[Any, str]:
    """Return the fsspec file system of a location, and its path there.

    Raises:
        ZooError: If the network may not be used, the protocol is not known, its package is not installed, or refuses.
    """
    check_network(location)
    protocol = location.partition("://")[0].lower()
    try:
        import fsspec

        where = hub.address(location) if location.startswith(hub.HUB) else location
        if protocol in _WEB:  # `url_to_fs` would cut it at `::`, which IPv6 has
            return fsspec.filesystem(where.partition("://")[0].lower(), **_options(protocol)), where
        filesystem, path = fsspec.core.url_to_fs(where, **_options(protocol))
    except HeldoutError:
        raise
    except Exception as error:  # some packages connect already, or open a file, and each raises kinds of its own
        lacks = isinstance(error, ImportError) and error.name in ("fsspec", "aiohttp", "requests")
        hint = "; for web servers: pip install 'fsspec[http]'" if lacks else ""
        raise ZooError(f"{location}: cannot be opened ({one_line(error)}){hint}") from None
    if protocol in _S3:
        filesystem.retries = 1  # tries; what fails is tried again here
    return filesystem, path


def read_file(location: str, limit: int = MAX_FILE) -> bytes:
    """Read a whole file.

    Args:
        location: Path or URL.
        limit: Most bytes that it may have.

    Raises:
        FileNotFoundError: If there is none.
        ZooError: If it has more bytes, or cannot be read, also when tried again.
    """
    found = place(location)
    if isinstance(found, Path):
        data = _read_local(found, 0, limit + 1)
    else:
        filesystem, path = open_filesystem(found)
        if _is_web(found):
            return retried(lambda: web.fetch(filesystem, path, limit), location)
        data = retried(lambda: _cat(filesystem, path, 0, limit + 1), location)
    if len(data) > limit:
        raise ZooError(f"{location}: has more than {limit} bytes, the largest size expected")
    return data


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
    found = place(location)
    if isinstance(found, Path):
        return _read_local(found, start, end)
    filesystem, path = open_filesystem(found)
    if _is_web(found):
        return retried(lambda: web.fetch_range(filesystem, path, start, end, whole_size), location)
    return retried(lambda: _cat(filesystem, path, start, end), location)


def write_file(location: str, data: bytes) -> None:
    """Write a file whole or not at all; folders on the way are made. The last of several writers wins.

    On the disk, and where the protocol can rename (`ftp`, `sftp`, …), a temporary file beside it is written and moved;
    what an object store is given appears whole by itself.

    Raises:
        ZooError: If it cannot be written, also when tried again.
    """
    found = place(location)
    if isinstance(found, Path):
        with os_errors(ZooError, f"{location}: cannot be written"):
            return write_atomically(found, data)
    filesystem, path = open_filesystem(found)
    folder, _, name = path.rpartition("/")
    put = _put_and_rename if _can_rename(filesystem) else _put
    try:
        retried(lambda: put(filesystem, folder, name, data), location)
    except FileNotFoundError as error:
        raise ZooError(f"{location}: cannot be written ({one_line(error)})") from None
    return None


def remove_file(location: str) -> None:
    """Remove a file, if there is one.

    Raises:
        ZooError: If it cannot be removed, also when tried again.
    """
    found = place(location)
    if isinstance(found, Path):
        with os_errors(ZooError, f"{location}: cannot be removed"):
            return found.unlink(missing_ok=True)
    filesystem, path = open_filesystem(found)

    def remove() -> None:
        if filesystem.exists(path):
            filesystem.rm_file(path)

    with suppress(FileNotFoundError):  # somebody else may be quicker
        retried(remove, location)
    return None


def check_ranges(location: str, size: int) -> None:
    """Check that a web server answers range requests.

    Args:
        location: Path or URL; only web servers are asked.
        size: The file's, in bytes.

    Raises:
        FileNotFoundError: If there is no such file.
        ZooError: If the server does not.
    """
    if _is_web(location):
        read_range(location, size - 1, size)


def _is_web(location: str) -> bool:
    return location.lower().startswith(tuple(f"{protocol}://" for protocol in _WEB))


def _options(protocol: str) -> dict[str, Any]:
    """Return what a file system is made with; what fsspec's own configuration says counts more."""
    from fsspec.config import conf

    if protocol in _WEB:
        made: dict[str, Any] = {
            "client_kwargs": {**web.client_options(), **conf.get(protocol, {}).get("client_kwargs", {})}
        }
        if protocol == "hf" and (token := hub.token()) is not None:
            made["headers"] = {"Authorization": f"Bearer {token}"}
        return made
    if protocol in _S3:
        options = {"connect_timeout": web.SILENCE, "read_timeout": web.SILENCE, "retries": {"max_attempts": 1}}
        return {"config_kwargs": {**options, **conf.get(protocol, {}).get("config_kwargs", {})}}
    return {}


def _read_local(path: Path, start: int, end: int) -> bytes:
    try:
        with open(path, "rb", opener=open_plain) as file:
            file.seek(start)
            return file.read(max(end - start, 0))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ZooError(f"{path}: cannot be read ({error.strerror})") from None


def _cat(filesystem: Any, path: str, start: int, end: int) -> bytes:
    """Read in pieces, each of which must come in time."""
    data = bytearray()
    for position in range(start, end, _PIECE):
        wanted = min(_PIECE, end - position)
        try:
            piece = filesystem.cat_file(path, start=position, end=position + wanted, **_patience(filesystem, wanted))
        except Exception as error:
            if status_of(error) != 416:
                raise
            piece = b""  # it begins after the file's end, as in an empty file
        data += piece
        if len(piece) < wanted:
            break
    return bytes(data)


def _patience(filesystem: Any, size: int) -> dict[str, float]:
    """Return the argument that ends what takes too long for so many bytes, where the protocol's package has one."""
    return {"timeout": web.SILENCE + size / web.SLOWEST} if getattr(filesystem, "async_impl", False) else {}


def _can_rename(filesystem: Any) -> bool:
    """Return whether a file system has a move of its own; the others copy, as object stores must."""
    from fsspec.spec import AbstractFileSystem

    return type(filesystem).mv is not AbstractFileSystem.mv


def _put(filesystem: Any, folder: str, name: str, data: bytes) -> None:
    patience = _patience(filesystem, len(data))
    try:
        filesystem.pipe_file(f"{folder}/{name}", data, **patience)
    except FileNotFoundError:  # in few places something must be made first, and to ask costs a request a file
        if _BUCKETS & set([filesystem.protocol] if isinstance(filesystem.protocol, str) else filesystem.protocol):
            raise  # a bucket of a misspelt name is not made
        filesystem.makedirs(folder, exist_ok=True)
        filesystem.pipe_file(f"{folder}/{name}", data, **patience)


def _put_and_rename(filesystem: Any, folder: str, name: str, data: bytes) -> None:
    filesystem.makedirs(folder, exist_ok=True)
    temporary = f"{folder}/{PARTIAL}{uuid.uuid4().hex}"
    filesystem.pipe_file(temporary, data)
    try:
        filesystem.mv(temporary, f"{folder}/{name}")
    except Exception:  # some do not move a file over another
        filesystem.rm_file(f"{folder}/{name}")
        filesystem.mv(temporary, f"{folder}/{name}")
