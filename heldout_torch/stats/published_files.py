"""A checked copy of each published file on this machine: of a local folder, of the cache, or fetched."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from heldout_torch.errors import DataError, ZooError, nearest
from heldout_torch.stats.published_list import PublishedFile, find_published, list_published
from heldout_torch.storage.digests import digest_of, matches
from heldout_torch.storage.files import new_file, remove_stale
from heldout_torch.storage.kinds import stands_in
from heldout_torch.storage.locks import locked
from heldout_torch.storage.offline import check_network
from heldout_torch.storage.paths import Location, environment, local_path
from heldout_torch.storage.progress import Bar
from heldout_torch.storage.urls import read_range
from heldout_torch.zoo.cache import cache_root, unwritable

FOLDER_VARIABLE = "HELDOUT_TORCH_PUBLISHED"
_PIECE = 2**22  # bytes of a request
_MAX_FILE = 2**27  # bytes; the files lie in git repositories, of which the host takes none of more than 100 MB


def fetch_published(name: str, folder: Location | None = None) -> Path:
    """Return the path of a published file on this machine; it is fetched if need be, and checked whenever it is used.

    Args:
        name: Such as `cifar10-cscores`.
        folder: Folder of local copies under their published names. By default the one that `HELDOUT_TORCH_PUBLISHED`
            names, if it has the file, else the package's cache.

    Raises:
        DataError: If there is no such name, or the folder given lacks the file.
        ZooError: If it cannot be fetched, or is not the published one.
    """
    return fetch_file(find_published(name).file, folder)


def fetch_file(file: PublishedFile, folder: Location | None) -> Path:
    """Return the path of one file, as `fetch_published` does."""
    copies = folder if folder is not None else environment(FOLDER_VARIABLE) or None
    local = None if copies is None else local_path(copies)
    if local is not None and (local / file.name).is_file():
        if not matches(local / file.name, file.check):
            differs = f"its {_kind(file)} differs{stands_in(local / file.name)}"
            raise ZooError(f"{local / file.name}: is not the published file, {differs}; remove it")
        return local / file.name
    has_parts = local is not None and bool(file.parts) and all((local / part.name).is_file() for part in file.parts)
    if folder is not None and not has_parts:
        raise DataError(f"{local}: has no {file.name}, the published file name")
    try:
        return _cached(file, local if has_parts else None)
    except ZooError as error:
        if local is None or has_parts:
            raise
        raise ZooError(f"{error}; {local}, which {FOLDER_VARIABLE} names, has no {file.name}") from None


def is_kept(file: PublishedFile) -> bool:
    """Return whether the cache has a file; it is not checked."""
    return (_cache() / file.name).is_file()


def as_file(text: str, dataset: str) -> Path:
    """Return the path that a text names, or that of the published file, if there is no such path but such a name.

    Raises:
        DataError: If there is neither, or what is published is about another data set.
        ZooError: As `fetch_published`.
    """
    path = local_path(text)
    if path.exists():
        return path
    if text in list_published():
        if (other := list_published()[text].dataset) != dataset:
            raise DataError(f"{text}: is about {other}, the runs are about {dataset}")
        return fetch_published(text)
    raise DataError(
        f"{path}: there is no such file, nor is it the name of a published one{nearest(text, list_published())}"
    )


def _cache() -> Path:
    return cache_root() / "published"


def _cached(file: PublishedFile, parts: Path | None) -> Path:
    """Return the cached copy; if there is none, it is fetched, or joined of the parts in a folder."""
    path = _cache() / file.name
    # Also where nothing can be locked: in an image, or of another user.
    if path.is_file() and matches(path, file.check):
        return path
    try:
        (_cache() / ".locks").mkdir(parents=True, exist_ok=True)
        with locked(_cache() / ".locks" / file.name):
            if path.is_file() and matches(path, file.check):
                return path
            _make(path, file, parts)
    except OSError as error:
        raise ZooError(unwritable(error.filename or path, error)) from None
    return path


def _make(path: Path, file: PublishedFile, parts: Path | None) -> None:
    pieces = file.parts or (file,)
    if parts is None:
        otherwise = f"name a folder that has a copy of it in {FOLDER_VARIABLE}"
        check_network(f"{file.name}: is not kept in {_cache()}", otherwise=otherwise)
    total = None if any(piece.size is None for piece in pieces) else sum(piece.size or 0 for piece in pieces)
    with _checked_file(path, file) as target, Bar(f"fetch {file.name}", "B", total, delay=1.0) as bar:
        for piece in pieces:
            data = _download(piece, bar) if parts is None else _read(parts / piece.name)
            if digest_of(data, piece.check) != piece.check:
                where = piece.url if parts is None else parts / piece.name
                raise ZooError(f"{where}: is not the published file, its {_kind(piece)} differs{stands_in(data)}")
            target.write(data)


@contextmanager
def _checked_file(path: Path, file: PublishedFile) -> Iterator[BinaryIO]:
    """Write a file that appears only if what is joined has the published check."""
    remove_stale(path.parent)
    with new_file(path) as target:
        yield target
        if file.parts:  # a file of one part is checked as it comes
            target.flush()
            if not matches(Path(target.name), file.check):
                raise ZooError(f"{file.name}: the joined parts are not the published file, their {_kind(file)} differs")


def _download(file: PublishedFile, bar: Bar) -> bytes:
    if file.url is None:
        raise ZooError(
            f"{file.name}: no address is known for it; name a folder that has it ({FOLDER_VARIABLE}, or folder=)"
        )
    data, end = bytearray(), file.size if file.size is not None else _MAX_FILE
    while len(data) < end:
        start, asked = len(data), min(_PIECE, end - len(data))
        try:
            # The whole file where the server gives no ranges.
            piece = read_range(file.url, start, start + asked, end if not start else None)
        except FileNotFoundError:
            raise ZooError(f"{file.url}: there is no such file; what was published there has moved") from None
        if not piece:
            break
        data += piece
        bar.add(len(piece))
        if len(piece) != asked and digest_of(data, file.check) == file.check:  # all of it, where no size is known
            break
    return bytes(data)


def _read(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(_MAX_FILE + 1)


def _kind(file: PublishedFile) -> str:
    return {"sha256": "SHA-256", "git-blob": "git blob id", "md5": "MD5"}[file.check.partition(":")[0]]
