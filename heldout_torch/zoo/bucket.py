"""A zoo in a bucket, or under any other URL that fsspec can list and write."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Self

from heldout_torch.errors import UnwritableError, ZooError
from heldout_torch.storage.listing import ListedFile, list_files
from heldout_torch.storage.offline import check_network
from heldout_torch.storage.urls import open_filesystem, remove_file, write_file
from heldout_torch.zoo.indexing import Files, is_there, runs_of
from heldout_torch.zoo.keys import MODEL_FILE, RunKey
from heldout_torch.zoo.records import RECORD_FILE, RunFiles
from heldout_torch.zoo.web import WebZoo
from heldout_torch.zoo.writing import WritingZoo


class BucketZoo(WebZoo, WritingZoo):
    """A zoo in a bucket: read through the cache, as on a web server, and also listed and written.

    The files have the same names and bytes as in a folder.
    """

    def keys(self, experiment: str | None = None) -> list[RunKey]:
        """Return the runs that are there, as `Zoo.keys`: by a listing.

        A bucket that lets files be read and not be listed is like a web server.
        """
        if self._offline:
            return super().keys(experiment)
        manifest = self._known_manifest(needed=False)  # many records with one request
        try:
            if experiment is None:
                return sorted(runs_of(self.listing()))
            listing = list_files(f"{self.location}/{experiment}")
        except ZooError:
            if not manifest.runs:
                raise
            return super().keys(experiment)
        return sorted(runs_of({f"{experiment}/{path}": info for path, info in listing.items()}))

    def put_files(self, run: RunFiles, overwrite: bool = False) -> bool:
        """File a run whose files are given, as `WritableZoo.put_files`: its record comes last."""
        key = run.metadata.key
        names = frozenset(list_files(f"{self.location}/{key}"))
        filed = self._what_to_file(run, names if is_there(names) else None, overwrite)
        if filed is None:
            return False
        for name, data in filed.in_order():
            self.write(f"{key}/{name}", data)
        self._records.pop(key, None)
        self._cache.remove(f"{key}/{RECORD_FILE}")
        return True

    def missing(self, keys: Iterable[RunKey], model: bool = True) -> list[RunKey]:
        """Return the runs that are not there, or lack a model if one is wanted, as `WritableZoo.missing`."""
        wanted = list(keys)
        there = dict[RunKey, Files]()
        for folder in sorted({f"{key.experiment}/{key.subset_ratio!r}" for key in wanted}):
            listing = list_files(f"{self.location}/{folder}")
            there |= runs_of({f"{folder}/{path}": info for path, info in listing.items()})
        return [key for key in wanted if key not in there or (model and MODEL_FILE not in there[key])]

    def write(self, name: str, data: bytes) -> None:
        """Write a file of the zoo, as `WritableZoo.write`."""
        try:
            write_file(f"{self.location}/{name}", data)
        except ZooError as error:
            raise UnwritableError(str(error)) from None

    def listing(self) -> dict[str, ListedFile]:
        """Return what is known of the zoo's files, by path."""
        return list_files(self.location)

    def check_online(self) -> None:
        """Check what can be checked without a request.

        Raises:
            ZooError: If the network is switched off, or the package of the protocol is missing.
        """
        check_network(f"{self.location}: cannot be written", self._offline)
        open_filesystem(self.location)

    def __enter__(self) -> Self:
        """Begin to write.

        Raises:
            ZooError: If nothing can be written.
        """
        self.check_online()
        try:
            self.write(".probe", b"")
        except ZooError as error:
            raise ZooError(f"{self.location}: cannot be written: {error}") from None
        with suppress(ZooError):  # some may write and not remove
            remove_file(f"{self.location}/.probe")
        return self
