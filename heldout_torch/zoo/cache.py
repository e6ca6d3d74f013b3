"""Where what was fetched from zoos on web servers and in buckets is kept, and how a file gets there.

The cache lies in `HELDOUT_TORCH_CACHE`, else in `heldout_torch` in the folder of `torch.hub`. Each remote zoo has a
folder there, which is itself a zoo. No file enters it, and none is used from it, without the recorded SHA-256.
"""

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from heldout_torch.errors import ZooError
from heldout_torch.storage.urls import read_range
from heldout_torch.zoo.records import FileRecord

CACHE_VARIABLE = "HELDOUT_TORCH_CACHE"
OFFLINE_VARIABLE = "HELDOUT_TORCH_OFFLINE"
_CHUNK = 2**22  # bytes of a request; what a broken connection costs at most


def cache_root() -> Path:
    """Return the folder of everything that the package keeps."""
    import torch  # only for the folder of torch.hub

    return Path(os.environ.get(CACHE_VARIABLE) or Path(torch.hub.get_dir()) / "heldout_torch")


def cache_folder(location: str) -> Path:
    """Return the folder in which the runs of a remote zoo are kept."""
    location = location.rstrip("/")
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", location.rpartition("/")[2]).strip("-")
    return cache_root() / f"{name}-{hashlib.sha256(location.encode()).hexdigest()[:16]}"


def is_offline() -> bool:
    """Return whether the environment variable `HELDOUT_TORCH_OFFLINE` forbids any use of the network."""
    return os.environ.get(OFFLINE_VARIABLE, "") not in ("", "0")


def locked(root: Path, what: str) -> Any:
    """Return a lock on something in a cached zoo, to be held in a `with` block.

    Raises:
        ZooError: If the cache cannot be written.
    """
    from filelock import FileLock

    folder = root / ".locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ZooError(f"{folder}: cannot be written ({error.strerror}); set {CACHE_VARIABLE}") from None
    return FileLock(folder / what)


def read_cached(path: Path, record: FileRecord) -> bytes | None:
    """Return the contents of a cached file; None if it is not there, or does not have the recorded bytes."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return data if record.matches(data) else None


def download(
    url: str, path: Path, record: FileRecord, incoming: Path, progress: Callable[[int], object] = lambda count: None
) -> bytes:
    """Fetch a file into the cache: into a partial one first, going on where an earlier try stopped.

    Args:
        url: Where the file lies.
        path: Where it goes.
        record: Its size and SHA-256.
        incoming: Folder for the partial file.
        progress: Called with every number of bytes fetched.

    Returns:
        Its contents.

    Raises:
        ZooError: If it cannot be fetched, or does not have the recorded bytes, or the cache cannot be written.
    """
    assert record.sha256 is not None
    partial = incoming / record.sha256  # so that parts of different versions never meet
    try:
        incoming.mkdir(parents=True, exist_ok=True)
        with open(partial, "ab") as file:
            while (have := file.tell()) < record.size:
                data = read_range(url, have, min(have + _CHUNK, record.size), record.size)
                if not data:
                    break
                if len(data) == record.size:  # all of it: a small file, or a server that gives no ranges
                    file.seek(0)
                    file.truncate()
                file.write(data)
                progress(len(data))
            file.flush()
            os.fsync(file.fileno())
    except FileNotFoundError:
        raise ZooError(f"{url}: is recorded, but there is no such file; index the zoo again") from None
    except OSError as error:
        raise ZooError(f"{error.filename or partial}: cannot be written ({error.strerror})") from None
    contents = read_cached(partial, record)
    if contents is None:
        partial.unlink(missing_ok=True)
        raise ZooError(f"{url}: does not have the recorded SHA-256; it is damaged, or the manifest is stale")
    path.parent.mkdir(parents=True, exist_ok=True)
    os.replace(partial, path)
    return contents
