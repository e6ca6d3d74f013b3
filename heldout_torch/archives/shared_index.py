"""A seek index from somebody else, named by path or URL and its SHA-256: `https://…/x.seek#sha256=…`.

A seek index must be trusted like weights: a forged one can name other bytes, even bytes with valid checksums.
"""

import hashlib
import re
from pathlib import Path

from heldout_torch.archives.ranges import READ
from heldout_torch.archives.remote_stream import open_stream
from heldout_torch.errors import ZooError, warn
from heldout_torch.storage.files import new_file, remove_stale
from heldout_torch.storage.offline import is_offline
from heldout_torch.storage.paths import Location, is_remote, place
from heldout_torch.storage.urls import MAX_FILE
from heldout_torch.zoo.cache import cache_root, unwritable

_MARK = "#sha256="


def checked_index(name: Location) -> str:
    """Return where an index can be read.

    If the name has a digest, the index is read and compared; from a URL it is fetched into the cache once. Without a
    digest it is used unchecked, with a warning.

    Raises:
        ZooError: If the digest is not valid, or the file cannot be read or has another digest.
    """
    location, digest = _split(name)
    if digest is None:
        warn(f"the seek index {name} is used unchecked; to check it, add its SHA-256: {_MARK}…", stacklevel=2)
        return location
    if not is_remote(location):
        _check(location, digest)
        return location
    kept = cache_root() / "seek-indices" / f"{digest}.seek"
    if kept.is_file():
        try:
            _check(str(kept), digest)
            return str(kept)
        except ZooError:  # damaged, and a good one can be fetched
            if is_offline():
                raise
    try:
        _fetch(location, digest, kept)
    except OSError as error:
        raise ZooError(unwritable(kept, error)) from None
    return str(kept)


def index_digest(name: Location | None) -> str | None:
    """Return the SHA-256 that a `checked_index` is named with; None if it is named without."""
    return None if name is None else _split(name)[1]


def _split(name: Location) -> tuple[str, str | None]:
    location, mark, digest = (name if isinstance(name, str) else str(place(name))).strip().partition(_MARK)
    where = str(place(location))
    # A web server is not told what stands behind it, so nothing would be checked; in a bucket it may be in a name.
    if not mark and "#" in where and where.startswith(("http://", "https://")):
        raise ZooError(f"{where}: expected {_MARK}… and 64 hexadecimal digits after the address")
    if mark and not re.fullmatch("[0-9a-fA-F]{64}", digest):
        raise ZooError(f"{name}: expected 64 hexadecimal digits after {_MARK}")
    return where, digest.lower() if mark else None


def _fetch(location: str, digest: str, kept: Path) -> None:
    stream, found, size = open_stream(location).stream, hashlib.sha256(), 0
    remove_stale(kept.parent)
    with stream, new_file(kept) as file:
        while data := stream.read(READ):
            if (size := size + len(data)) > MAX_FILE:
                raise ZooError(f"{location}: has more than {MAX_FILE} bytes, the largest size expected")
            found.update(data)
            file.write(data)
        if found.hexdigest() != digest:
            raise ZooError(_other(location, digest, found.hexdigest()))


def _check(path: str, digest: str) -> None:
    stream = open_stream(path).stream
    with stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
    if found != digest:
        raise ZooError(_other(path, digest, found))


def _other(location: str, digest: str, found: str) -> str:
    return f"{location}: has SHA-256 {found}, expected {digest}; it is a different index, or damaged"
