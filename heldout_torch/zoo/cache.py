"""The cache of files that were fetched from zoos on web servers and in buckets.

The cache is the folder `HELDOUT_TORCH_CACHE`, else `heldout_torch` in the folder of `torch.hub`. Each remote zoo has a
folder there, which is itself a zoo. A file is put there, and used from there, only if it has the recorded SHA-256.
"""

import errno
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from heldout_torch.errors import UnwritableError, ZooError, warn
from heldout_torch.storage import posix
from heldout_torch.storage.digests import place_digest
from heldout_torch.storage.files import read_bounded, remove_stale, write_atomically
from heldout_torch.storage.kinds import stands_in
from heldout_torch.storage.locks import locked
from heldout_torch.storage.paths import environment, extended, local_path
from heldout_torch.storage.urls import read_file, read_range
from heldout_torch.zoo.file_limits import file_limit
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.records import MAX_RECORD, RECORD_FILE, FileRecord, RunRecord, read_record
from heldout_torch.zoo.run_folders import experiment_folders, run_folders

CACHE_VARIABLE = "HELDOUT_TORCH_CACHE"
CHUNK = 2**22  # bytes of a request; what a broken connection costs at most

Progress = Callable[[int], object]  # called with the number of bytes of each answer
Fetch = Callable[[str, FileRecord], bytes]  # returns the contents of a file of the zoo, as `Cache.fetch`


def cache_root() -> Path:
    """Return the folder of everything that the package keeps."""
    import torch  # only for the folder of torch.hub

    if named := environment(CACHE_VARIABLE):
        return local_path(named)
    folder = Path(torch.hub.get_dir()) / "heldout_torch"
    # Of a user without a home (a container's, by number only) torch says ~, which would be a folder wherever one is.
    # Nothing can be written in the root folder, so nothing is kept, and what needs the cache says so.
    return Path("/", folder) if folder.parts[0].startswith("~") else folder


def cache_folder(location: str) -> Path:
    """Return the folder in which the runs of a remote zoo are kept."""
    location = location.rstrip("/")
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", location.partition("?")[0].rpartition("/")[2].rpartition("@")[2]).strip("-")
    return cache_root() / f"{name}-{place_digest(location)}"


def unwritable(where: object, error: OSError, so: str = "") -> str:
    """Return the error of a cache that cannot be written: where, why, the consequence, and what to do."""
    return f"{where}: cannot be written ({error.strerror}){so}; set {CACHE_VARIABLE} to a folder of your own"


@contextmanager
def recorded_file(url: str) -> Iterator[str]:
    """Yield the URL of a recorded file for a block that reads it.

    Raises:
        ZooError: If the server does not have it.
    """
    try:
        yield url
    except FileNotFoundError:
        raise ZooError(f"{url}: is recorded, but there is no such file; index the zoo again") from None


class Cache:
    """The cache of one remote zoo.

    Args:
        location: The zoo's URL.

    Attributes:
        root: The folder; it need not exist.
    """

    def __init__(self, location: str) -> None:
        self.root = cache_folder(location)
        self._location = location

    def url(self, name: str) -> str:
        """Return the address of a file of the zoo."""
        return extended(self._location, f"/{name}")

    def read(self, name: str) -> bytes | None:
        """Return the contents of a small file that is kept; None if it is not, or cannot be read."""
        try:
            return read_bounded(self.root / name, file_limit(name))
        except (OSError, ZooError):
            return None

    def keep(self, name: str, data: bytes, needed: bool = False) -> None:
        """Keep a small file. A cache that cannot be written keeps nothing; if it is `needed`, that is an error.

        Raises:
            UnwritableError: If it is needed and cannot be written.
        """
        remove_stale((self.root / name).parent)
        try:
            write_atomically(self.root / name, data)
        except OSError as error:
            if needed:
                raise UnwritableError(unwritable(error.filename or self.root, error)) from None

    def remove(self, name: str) -> None:
        """Keep a file no longer."""
        with suppress(OSError):
            (self.root / name).unlink(missing_ok=True)

    def records(self) -> dict[RunKey, RunRecord]:
        """Return the records of the runs that are kept whole, in order."""
        found = {}
        for name, folder in (experiment_folders(self.root) if self.root.is_dir() else {}).items():
            for key, path in run_folders(name, folder):
                with suppress(ZooError, OSError):
                    found[key] = read_record(read_bounded(path / RECORD_FILE, MAX_RECORD), key, str(path))[0]
        return dict(sorted(found.items()))

    def kept(self, name: str, file: FileRecord) -> bytes | None:
        """Return the contents of a kept file; None if it is not there, or does not have the recorded bytes."""
        data = self.read(name)
        return data if data is not None and file.matches(data) else None

    def fetch(
        self, name: str, file: FileRecord, progress: Progress = lambda count: None, needed: bool = False
    ) -> bytes:
        """Return the contents of a file of the zoo, which is fetched unless it is kept.

        Args:
            name: Its path in the zoo.
            file: Its size and SHA-256.
            progress: Called with every number of bytes fetched.
            needed: Whether it must be kept; by default it is returned all the same, with a warning.

        Raises:
            UnwritableError: If it must be kept, and cannot be.
            ZooError: If it cannot be fetched, does not have the recorded bytes, or is recorded with more than any has.
        """
        if file.size > file_limit(name):
            raise ZooError(f"{self.url(name)}: cannot have {file.size} bytes, as it is recorded to have")
        try:
            with self._locked(name) as shared:
                data = self.kept(name, file)
                return self._download(name, file, shared, progress) if data is None else data
        except OSError as error:
            if needed:
                raise UnwritableError(unwritable(error.filename or self.root, error)) from None
            warn(unwritable(error.filename or self.root, error, ", so fetched files are not kept"), stacklevel=2)
        with recorded_file(self.url(name)) as url:
            data = read_file(url, file.size)
        progress(len(data))
        return self._checked(name, file, data)

    def _locked(self, name: str) -> AbstractContextManager[bool]:
        """Hold the lock on a file, as `locked`."""
        folder = self.root / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        return locked(folder / name.replace("/", "_"), warn)

    def _download(self, name: str, file: FileRecord, shared: bool, progress: Progress) -> bytes:
        """Fetch a file into a partial one, going on where an earlier try stopped; it moves into place when whole."""
        url, folder = self.url(name), self.root / ".incoming" / name
        # By its hash, so that parts of different versions never meet; without a lock, of this process alone.
        partial = folder / (str(file.sha256) if shared else f"{file.sha256}-{uuid.uuid4().hex}")
        folder.mkdir(parents=True, exist_ok=True)
        with open(partial, "ab") as target:
            while (have := target.tell()) < file.size:
                with recorded_file(url):
                    data = read_range(url, have, min(have + CHUNK, file.size), file.size)
                if not data:
                    break
                if len(data) == file.size:  # all of it: a small file, or a server that gives no ranges
                    target.seek(0)
                    target.truncate()
                target.write(data)
                progress(len(data))
            target.flush()
            posix.sync_file(target.fileno())
        try:
            contents = self._checked(name, file, partial.read_bytes())
        except ZooError:
            partial.unlink(missing_ok=True)
            raise
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.replace(partial, self.root / name)
        except OSError as error:
            if error.errno != errno.EXDEV:  # somebody put the folder of an experiment on another disk
                raise
            write_atomically(self.root / name, contents)
            partial.unlink()
        if shared:  # nobody else fetches this file; parts of other versions of it are of no use
            shutil.rmtree(folder, ignore_errors=True)
        return contents

    def _checked(self, name: str, file: FileRecord, data: bytes) -> bytes:
        if not file.matches(data):
            why = stands_in(data) or "; it is damaged, or the manifest is out of date"
            raise ZooError(f"{self.url(name)}: does not have the recorded SHA-256{why}")
        return data
