"""A zoo in a data set of the Hugging Face Hub, `hf://datasets/USER/NAME`.

It is read like a zoo on a web server. The Hub allows about 128 commits an hour, so runs are held back until there are
enough for a commit. Large files are uploaded before the commit, so memory is bounded. The record of a run is in the
same commit as its files. The last commit of a `with` block has the manifest and the data set's card.
"""

import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Self

from heldout_torch.errors import HeldoutError, ZooError, counted
from heldout_torch.storage import hub
from heldout_torch.storage.listing import ListedFile
from heldout_torch.storage.offline import check_network
from heldout_torch.zoo.card import CARD_FILE, card, is_generated
from heldout_torch.zoo.indexing import runs_of
from heldout_torch.zoo.keys import MODEL_FILE, RunKey
from heldout_torch.zoo.manifest import MANIFEST_FILE, Manifest
from heldout_torch.zoo.records import RECORD_FILE, RunFiles
from heldout_torch.zoo.web import WebZoo
from heldout_torch.zoo.writing import WritingZoo

RUNS = 200  # of a commit
HELD = 2**28  # bytes held before they are sent ahead of their commit


class HubZoo(WebZoo, WritingZoo):
    """A zoo on the Hub: read through the cache, as on a web server, and written in few commits.

    The files have the same names and bytes as in a folder.
    """

    def __init__(self, location: str, offline: bool) -> None:
        super().__init__(location, offline)
        if hub.split(self.location)[2]:
            raise ZooError(f"{self.location}: is within a data set of the Hub, expected hf://datasets/USER/NAME")
        self._writing = threading.RLock()
        self._begun = False
        self._failure: ZooError | None = None  # of this block, after which nothing more is sent
        self._names: dict[str, dict[RunKey, frozenset[str]]] = {}  # of files by run, by ratio folder, as listed
        self._kept: dict[str, bytes] = {}  # records that were written here: indexing need not fetch them
        self._held = 0  # bytes of files of runs that are not sent yet
        self._begin_batch()

    def keys(self, experiment: str | None = None) -> list[RunKey]:
        """Return the runs that are there, as `Zoo.keys`: by a listing as long as there is no manifest."""
        if self._offline or self._known_manifest(needed=False).runs:
            return super().keys(experiment)
        try:
            there = runs_of(self.listing())
        except HeldoutError:  # without the package, or the right to list, a manifest is needed, as this says
            return super().keys(experiment)
        return [key for key in there if experiment in (None, key.experiment)]

    def put_files(self, run: RunFiles, overwrite: bool = False) -> bool:
        """File a run whose files are given, as `WritableZoo.put_files`: others see it after its batch's commit."""
        key = run.metadata.key
        with self._writing:
            if key in self._runs:
                self._commit()  # what was put may be asked for
            there = self._folder(key)
            filed = self._what_to_file(run, there.get(key), overwrite)
            if filed is None:
                return False
            for name, data in filed.in_order():
                self._additions.append(hub.addition(self.location, f"{key}/{name}", data))
                self._held += len(data)
                if name == RECORD_FILE:
                    self._kept[f"{key}/{name}"] = data
            self._runs.add(key)
            there[key] = frozenset(name for name, _ in filed.in_order())
            self._records.pop(key, None)
            self._cache.remove(f"{key}/{RECORD_FILE}")
            if len(self._runs) >= RUNS or not self._begun:
                self._commit()
            elif self._held >= HELD:
                self._try(lambda: hub.upload(self.location, self._additions))
                self._held = 0
        return True

    def missing(self, keys: Iterable[RunKey], model: bool = True) -> list[RunKey]:
        """Return the runs that are not there, or lack a model if one is wanted, as `WritableZoo.missing`."""
        wanted = list(keys)
        with self._writing:
            one_of = {(key.experiment, key.subset_ratio): key for key in wanted}  # each folder is listed once
            there = {place: self._folder(key) for place, key in one_of.items()}
        names = {key: there[key.experiment, key.subset_ratio].get(key) for key in wanted}
        return [key for key in wanted if (found := names[key]) is None or (model and MODEL_FILE not in found)]

    def read(self, name: str) -> bytes | None:
        """Return the contents of a file of the zoo, also of one that is held back; None if there is none."""
        for files in (self._files, self._kept):
            if (data := files.get(name)) is not None:
                return data
        return super().read(name)

    def write(self, name: str, data: bytes) -> None:
        """Hold back a file of the zoo, as `WritableZoo.write`; the manifest ends a batch, and the card goes with it."""
        with self._writing:
            self._files[name] = data
            if name.endswith(f"/{RECORD_FILE}"):
                self._kept[name] = data
            if name == MANIFEST_FILE:
                self._write_card(data)
            if name == MANIFEST_FILE or not self._begun:
                self._commit()

    def listing(self) -> dict[str, ListedFile]:
        """Return what is known of the zoo's files, by path."""
        return {name: ListedFile(size, f"{size}-{oid}") for name, (size, oid) in hub.list_files(self.location).items()}

    def check_online(self) -> None:
        """Check what can be checked without a request.

        Raises:
            ZooError: If the network is switched off, or the package is missing.
        """
        check_network(f"{self.location}: cannot be written", self._offline)
        hub.check_package(self.location)

    def __enter__(self) -> Self:
        """Begin to write.

        Raises:
            ZooError: If nothing can be written.
        """
        self.check_online()
        hub.check_access(self.location)
        self._begun, self._failure = True, None
        return self

    def __exit__(self, kind: object = None, *others: object) -> None:
        """Commit what is held back, then the manifest and the card; not if the Hub refused a commit."""
        try:
            with suppress(*[ZooError] if kind is not None else []):
                self._commit()
                super().__exit__(kind, *others)
                self._commit()  # what was written without any change of the manifest
        finally:
            self._begun, self._failure = False, None
            self._names.clear()
            self._begin_batch()

    def _begin_batch(self) -> None:
        self._runs: set[RunKey] = set()
        self._additions: list[Any] = []  # files of the runs, of which the large ones may be sent already
        self._held = 0
        self._files: dict[str, bytes] = {}  # other files, by name

    def _commit(self) -> None:
        """Make one commit of what is held back, if that is anything."""
        with self._writing:
            files = [hub.addition(self.location, name, data) for name, data in self._files.items()]
            if not self._additions and not files:
                return
            summary = (
                f"Add {counted(len(self._runs), 'run')}" if self._runs else f"Update {', '.join(self._files)}"[:100]
            )
            self._try(lambda: hub.commit(self.location, [*self._additions, *files], summary))
            self._begin_batch()
        with self._lock:
            self._manifest = None

    def _try(self, action: Any) -> None:
        if self._failure is not None:
            raise self._failure  # other threads wait for their turn, and would wait for the Hub again
        try:
            action()
        except ZooError as error:
            if self._begun:
                self._failure = error
            else:
                self._begin_batch()  # of a single call, which may be made again
            raise

    def _folder(self, key: RunKey) -> dict[RunKey, frozenset[str]]:
        """Return the names of the files of all runs of a run's ratio that are there, listed once in a block."""
        folder = f"{key.experiment}/{key.subset_ratio!r}"
        if folder not in self._names or not self._begun:
            listed = hub.list_files(f"{self.location}/{folder}")
            found = runs_of({name: ListedFile(size, oid) for name, (size, oid) in listed.items()})
            self._names[folder] = {run: frozenset(files) for run, files in found.items()}
        return self._names[folder]

    def _write_card(self, manifest: bytes) -> None:
        """Hold back the card, unless somebody wrote one of their own."""
        there = self.read(CARD_FILE)
        if there is None or is_generated(there):
            found = Manifest.from_bytes(manifest, MANIFEST_FILE)
            names = sorted({key.experiment for key in found.runs})
            self._files[CARD_FILE] = card(found, {name: self.experiment(name) for name in names}, self.location)
