"""A zoo on a web server, which can only be read.

A run is fetched once into a local cache, see `heldout_torch.zoo.cache`. To load one run, only its record and its files
are requested. The manifest is requested once, if all runs have to be known, or if a run has no record.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor

from heldout_torch.errors import RefusedError, UnwritableError, ZooError, printable
from heldout_torch.experiments import DEFINITION_FILE, Experiment, known_experiments, read_declaration
from heldout_torch.storage.offline import check_network, is_offline, why_offline
from heldout_torch.storage.urls import REQUESTS, read_file, read_range
from heldout_torch.zoo.aux_arrays import AuxArrays, read_aux
from heldout_torch.zoo.cache import Cache, Fetch, Progress, recorded_file
from heldout_torch.zoo.file_limits import file_limit
from heldout_torch.zoo.keys import AUX_FILE, MODEL_FILE, RUN_FILES, RunKey
from heldout_torch.zoo.manifest import MANIFEST_FILE, Manifest
from heldout_torch.zoo.metadata import RunMetadata
from heldout_torch.zoo.model_file import FIRST_BYTES, header_size, read_model, read_model_header
from heldout_torch.zoo.records import AGAIN, RECORD_FILE, TRIES, RunFiles, RunRecord, read_record, record_bytes

_WAIT = 0.02  # seconds, longer before each further try


class WebZoo:
    """A zoo under a URL, read through the cache.

    Args:
        location: Such as `https://…`, `s3://…`, `gs://…`.
        offline: Use only what is cached, as the environment variable `HELDOUT_TORCH_OFFLINE` demands, too.

    Attributes:
        location: The URL, without a slash at its end.
        threads: How many requests at once serve it well.
    """

    def __init__(self, location: str, offline: bool) -> None:
        self.location, self.threads = location.rstrip("/"), REQUESTS
        self._offline = offline or is_offline()
        self._cache = Cache(self.location)
        self._manifest: Manifest | None = None
        self._records: dict[RunKey, tuple[RunRecord, RunMetadata]] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({printable(self.location)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.location, self._offline)

    def keys(self, experiment: str | None = None) -> list[RunKey]:
        """Return the runs that are there, as `Zoo.keys`: by the manifest, since a web server cannot be listed."""
        return sorted(key for key in self._known_manifest().runs if experiment in (None, key.experiment))

    def __contains__(self, key: RunKey) -> bool:
        return self._find(key) is not None

    def experiment(self, name: str) -> Experiment:
        """Return what an experiment's name means here, as `Zoo.experiment`."""
        if name in known_experiments():
            return known_experiments()[name]
        path, where = f"{name}/{DEFINITION_FILE}", self._cache.url(f"{name}/{DEFINITION_FILE}")
        kept = self._cache.read(path)
        if not self._offline and self._manifest is not None and name in self._manifest.declarations:
            declared = read_declaration(name, json.dumps(self._manifest.declarations[name]).encode(), where)
            if kept != declared.to_bytes():  # it may be older than the zoo
                self._cache.keep(path, declared.to_bytes())
            return declared
        if kept is not None:
            with self._damage_passes():
                return read_declaration(name, kept, f"{self._cache.root}/{path}")
        if not self._offline and (data := self.read(path)) is not None:
            declared = read_declaration(name, data, where)
            self._cache.keep(path, declared.to_bytes())
            return declared
        declaration = self._known_manifest(needed=False).declarations.get(name)
        return read_declaration(name, None if declaration is None else json.dumps(declaration).encode(), where)

    def record(self, key: RunKey) -> RunRecord:
        """Return the record of a run, as `Zoo.record`."""
        found = self._find(key)
        if found is None:
            raise self._not_there(key)
        return found

    def metadata(self, key: RunKey) -> RunMetadata:
        """Return what is known of a run, as `Zoo.metadata`; of one that has no record, from its model's header."""
        recorded = self._recorded(key)
        if recorded is not None:
            return recorded[1]
        path = f"{key}/{MODEL_FILE}"
        where = self._cache.url(path)
        self.record(key)  # or the run is not there
        head = self._cache.read(path)
        if head is None:
            check_network(f"run {key} of {self.location} is not in the cache {self._cache.root}", self._offline)
            with recorded_file(where):
                head = read_range(where, 0, FIRST_BYTES)
                if len(head) < (size := header_size(head)):
                    head += read_range(where, len(head), size)
        return read_model_header(head, key, where)

    def aux(self, key: RunKey) -> AuxArrays:
        """Return the aux arrays of a run, as `Zoo.aux`; they are fetched into the cache, without the model."""
        data, where = self._contents(key, [AUX_FILE])[AUX_FILE], self._cache.url(f"{key}/{AUX_FILE}")
        try:
            return read_aux(data, self.experiment(key.experiment), where)
        except ZooError:
            if self._offline:
                raise
        # The declaration that is kept may be older than the zoo.
        self._cache.remove(f"{key.experiment}/{DEFINITION_FILE}")
        return read_aux(data, self.experiment(key.experiment), where)

    def state(self, key: RunKey) -> dict[str, Tensor]:
        """Return the tensors of a run's network, as `Zoo.state`; the model is fetched into the cache."""
        data = self._contents(key, [MODEL_FILE])[MODEL_FILE]
        return read_model(data, key, self._cache.url(f"{key}/{MODEL_FILE}"))[0]

    def fetch(self, key: RunKey, progress: Progress, needed: bool = False) -> None:
        """Fetch a run into the cache unless it is there, whole and with the recorded bytes.

        Args:
            key: The run.
            progress: Called with every number of bytes fetched.
            needed: Whether it must be kept; by default a cache that cannot be written is a warning.

        Raises:
            UnwritableError: If it must be kept, and cannot be.
            ZooError: If the run is not in the zoo, cannot be fetched, or never has the recorded bytes.
        """
        fetch = partial(self._cache.fetch, progress=progress, needed=needed)
        contents = self._contents(key, list(self.record(key).files), fetch)
        if MODEL_FILE in contents:
            metadata = read_model_header(contents[MODEL_FILE], key, self._cache.url(f"{key}/{MODEL_FILE}"))
            data = record_bytes(self.record(key), metadata)
            if self._cache.read(f"{key}/{RECORD_FILE}") != data:
                self._cache.keep(f"{key}/{RECORD_FILE}", data, needed)

    def files(self, key: RunKey) -> RunFiles:
        """Return a run's files as they are in the zoo now, offline in the cache, checked against its record."""
        if self._offline:
            contents = self._contents(key, list(self.record(key).files))
            return RunFiles.recorded(self.metadata(key), self.record(key), contents, self._cache.url(str(key)))
        for attempt in range(TRIES):  # somebody may replace the run while it is read, file by file
            time.sleep(_WAIT * attempt)
            record = self._find(key, fresh=True)
            if record is None:
                raise self._not_there(key)
            contents = {name: self.read(f"{key}/{name}") or b"" for name in record.files}
            wrong = record.wrong(contents)
            if not wrong:
                return RunFiles.recorded(self.metadata(key), record, contents, self._cache.url(str(key)))
        raise ZooError(f"{self._cache.url(str(key))}: {', '.join(wrong)} not as recorded; {AGAIN}")

    def read(self, name: str) -> bytes | None:
        """Return the contents of a file of the zoo, offline of one that is cached; None if there is none."""
        if self._offline:
            return self._cache.read(name)
        try:
            return read_file(self._cache.url(name), file_limit(name))
        except FileNotFoundError:
            return None
        except RefusedError:  # a bucket says so of what is not there, to those whom it shows no list
            if name == MANIFEST_FILE or name.endswith(RUN_FILES) or not self._known_manifest(needed=False).runs:
                raise
            return None

    def _find(self, key: RunKey, fresh: bool = False) -> RunRecord | None:
        """Return a run's record: the cached one unless a fresh one is wanted, its own, or the manifest's."""
        if not fresh and self._manifest is not None and key in self._manifest.runs:
            return self._manifest.runs[key]
        if (recorded := self._recorded(key, fresh)) is not None:
            return recorded[0]
        if fresh:
            with self._lock:
                self._manifest = None
        known = self._known_manifest(needed=False).runs
        if key not in known and not self._offline and (run := self._unrecorded(key)) is not None:
            self._records[key] = run.record, run.metadata  # not into the manifest, which would list it alone
            return run.record
        return known.get(key)

    def _recorded(self, key: RunKey, fresh: bool = False) -> tuple[RunRecord, RunMetadata] | None:
        """Return what a run's own record says: the one met before or cached, unless a fresh one is wanted."""
        if not fresh and key in self._records:
            return self._records[key]
        name = f"{key}/{RECORD_FILE}"
        data = None if fresh else self._cache.read(name)
        if data is not None:
            with self._damage_passes():
                self._records[key] = read_record(data, key, f"{self._cache.root}/{name}")
                return self._records[key]
        data = None if self._offline else self.read(name)
        if data is None:
            return None
        self._records[key] = read_record(data, key, self._cache.url(name))
        return self._records[key]

    @contextmanager
    def _damage_passes(self) -> Iterator[None]:
        """Ignore that a cached file is damaged, which the block reads; an error offline, where no other can be had."""
        try:
            yield
        except ZooError:
            if self._offline:
                raise

    def _unrecorded(self, key: RunKey) -> RunFiles | None:
        """Return a run of the old format that the manifest does not know; None if its files are not there."""
        contents = {}
        for name in RUN_FILES:
            if (data := self.read(f"{key}/{name}")) is None:
                return None
            contents[name] = data
        return RunFiles.unrecorded(contents, key, self.experiment(key.experiment), self._cache.url(str(key)))

    def _contents(self, key: RunKey, names: list[str], fetch: Fetch | None = None) -> dict[str, bytes]:
        """Return the contents of a run's files, fetched where need be, by default by `Cache.fetch`."""
        record, fetch = self.record(key), fetch or self._cache.fetch
        try:
            return {name: self._fetched(key, name, record, fetch) for name in names}
        except UnwritableError:
            raise
        except ZooError:
            fresh = None if self._offline else self._find(key, fresh=True)
            if fresh is None or fresh == record:
                raise
        # What was known of the run is older than the zoo.
        self._cache.remove(f"{key}/{RECORD_FILE}")
        with self._lock:
            if self._manifest is not None and key in self._manifest.runs:
                self._manifest.runs[key] = fresh
        return {name: self._fetched(key, name, fresh, fetch) for name in names}

    def _fetched(self, key: RunKey, name: str, record: RunRecord, fetch: Fetch) -> bytes:
        if name not in record.files:
            raise ZooError(
                f"run {key} in {self.location} has only aux arrays: statistics can use it, but it has no model"
            )
        path = f"{key}/{name}"
        data = self._cache.kept(path, record.files[name])
        if data is None and self._offline:
            raise self._not_there(key)
        return fetch(path, record.files[name]) if data is None else data

    def _not_there(self, key: RunKey) -> ZooError:
        if self._offline:
            root = self._cache.root
            return ZooError(f"run {key} of {self.location} is not in the cache {root}, and {why_offline()}")
        return ZooError(f"run {key} is not in {self.location}")

    def _known_manifest(self, needed: bool = True) -> Manifest:
        """Return the manifest, fetched once; offline the cached one. An empty one if it is missing and not needed."""
        with self._lock:
            if self._manifest is None or (needed and not self._manifest.runs):  # an empty one may be a missing one
                self._manifest = self._offline_manifest() if self._offline else self._fetch_manifest(needed)
            return self._manifest

    def _fetch_manifest(self, needed: bool) -> Manifest:
        where = self._cache.url(MANIFEST_FILE)
        data = self.read(MANIFEST_FILE)
        if data is None:
            if needed:
                raise ZooError(
                    f"{where}: there is no such file; a zoo on a web server needs a manifest, made by: "
                    "heldout zoo index ZOO"
                )
            return Manifest()
        manifest = Manifest.from_bytes(data, where)
        self._cache.keep(MANIFEST_FILE, data)
        return manifest

    def _offline_manifest(self) -> Manifest:
        data = self._cache.read(MANIFEST_FILE)
        if data is not None:
            return Manifest.from_bytes(data, f"{self._cache.root}/{MANIFEST_FILE}")
        runs = self._cache.records()
        if not runs:
            root = self._cache.root
            raise ZooError(f"{self.location}: nothing of this zoo is cached in {root}, and {why_offline()}")
        return Manifest(runs)
