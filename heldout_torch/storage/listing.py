"""List the files below a folder, local or remote, with signatures that show whether a file was replaced."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from heldout_torch.errors import ZooError, os_errors
from heldout_torch.storage.files import PARTIAL
from heldout_torch.storage.paths import place
from heldout_torch.storage.retries import retried
from heldout_torch.storage.urls import open_filesystem

# What file systems of fsspec call the sign of a file's contents (best first), and when it was written.
_SIGNS = ("ETag", "etag", "generation", "md5Hash", "content_md5", "uid", "ino")
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "modified", "created")
_MAX_DEPTH = 32


class ListedFile(NamedTuple):
    """A file as a listing shows it.

    Attributes:
        size: In bytes.
        signature: Differs after the file was replaced, also by one of the same size. On a disk it is made of size,
            inode and times; elsewhere of the ETag, or of the time if there is none. Empty if the place has neither:
            then only reading the file shows whether it was replaced.
        changed: On a disk, when it changed last, in nanoseconds by the clock of its file system; None elsewhere.
    """

    size: int
    signature: str
    changed: int | None = None


def list_files(location: str) -> dict[str, ListedFile]:
    """List all files below a folder as they are now, not as an earlier listing saw them.

    Temporary files of writers are left out. On a disk links are followed.

    Returns:
        The files by path below the folder, such as `0.7/12/model.safetensors`; nothing if there is no folder.

    Raises:
        ZooError: If it cannot be listed, also when tried again.
    """
    where = place(location)
    found: dict[str, ListedFile] = {}
    if isinstance(where, Path):
        with os_errors(ZooError, "cannot be listed", location):
            _walk(where, "", [], found)
        return found
    filesystem, path = open_filesystem(where)

    def find() -> dict[str, Any]:
        filesystem.invalidate_cache()
        try:
            return filesystem.find(path, detail=True)
        finally:
            filesystem.invalidate_cache()  # or files that come later could not be read: the listing lacks them

    try:
        start = len(path.rstrip("/")) + 1
        for name, info in retried(find, location).items():
            below = name[start:]
            if below and PARTIAL not in below:
                found[below] = ListedFile(info["size"], _signature(info))
    except FileNotFoundError:
        pass
    return found


def list_file(path: Path) -> ListedFile:
    """Return what `list_files` would say of one file on a disk.

    Raises:
        OSError: If there is none, or it cannot be looked at.
    """
    return _listed(os.stat(path))


def _listed(status: os.stat_result) -> ListedFile:
    sign = f"{status.st_size}-{status.st_ino}-{status.st_mtime_ns}-{status.st_ctime_ns}"
    return ListedFile(status.st_size, sign, status.st_ctime_ns)


def _walk(folder: Path, prefix: str, above: list[tuple[int, int]], found: dict[str, ListedFile]) -> None:
    """Add the files of a folder; `above` are the folders on the way, which a link may lead back to."""
    try:
        status = folder.stat()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):  # none, or somebody was quicker
        return
    here = (status.st_dev, status.st_ino)
    if here in above or len(above) > _MAX_DEPTH:
        return
    for entry in entries:
        if entry.name.startswith(PARTIAL):
            continue
        if entry.is_dir():
            _walk(folder / entry.name, f"{prefix}{entry.name}/", [*above, here], found)
            continue
        try:
            found[prefix + entry.name] = _listed(entry.stat())
        except FileNotFoundError:  # somebody was quicker, or a link to nothing
            continue


def _signature(info: dict[str, Any]) -> str:
    for names in (_SIGNS, _TIMES):
        for name in names:
            if info.get(name):
                return f"{info['size']}-{str(info[name]).strip(chr(34))}"
    return ""
