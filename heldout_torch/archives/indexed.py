"""A packed archive with a seek index as a read-only zoo: single runs are read from it, on disk or over HTTP."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from heldout_torch.archives.convert import convert_parts, epoch_of
from heldout_torch.archives.packed import read_files
from heldout_torch.archives.seek_index import SeekIndex, read_index
from heldout_torch.archives.shared_index import checked_index, index_digest
from heldout_torch.errors import ZooError, printable
from heldout_torch.experiments import Experiment, read_declaration
from heldout_torch.storage.paths import Location, file_name, is_remote
from heldout_torch.storage.threads import processors
from heldout_torch.zoo.aux_arrays import AuxArrays, read_aux
from heldout_torch.zoo.keys import AUX_FILE, RunKey
from heldout_torch.zoo.metadata import RunMetadata
from heldout_torch.zoo.records import FileRecord, RunFiles, RunRecord


class IndexedArchive:
    """An archive, `….tar.gz`, with its seek index.

    Args:
        location: Path or URL of the archive.
        ignore: Patterns such as `model/ema/*` of variables that are left out though they lie under `model/`.
        index: Path or URL of the seek index, with its digest as in `shared_index`; beside the archive by default.

    Attributes:
        location: As given.
        ignore: As given.
        index: As given.
        threads: How many reads at once serve it well.
    """

    def __init__(self, location: str, ignore: Sequence[str] = (), index: Location | None = None) -> None:
        self.ignore, self.index = tuple(ignore), index
        self.location, self.threads = location, processors()
        self._index: SeekIndex | None = None
        self._metadata: dict[RunKey, RunMetadata] = {}  # of runs that were converted
        self._last: tuple[RunKey, dict[str, bytes]] | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"IndexedArchive({printable(self.location)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return IndexedArchive, (self.location, self.ignore, self.index)

    def keys(self, experiment: str | None = None) -> list[RunKey]:
        """Return the runs that are there, as `Zoo.keys`."""
        return sorted(key for key in self._read_index().keys if experiment in (None, key.experiment))

    def __contains__(self, key: RunKey) -> bool:
        return key in self._read_index()

    def experiment(self, name: str) -> Experiment:
        """Return what an experiment's name means; an archive declares none, so the package must know it."""
        return read_declaration(name, None)

    def record(self, key: RunKey) -> RunRecord:
        """Return the files, the epoch and the accuracies of a run, as `Zoo.record`."""
        places = self._places(key)
        files = {name: FileRecord(size, None) for name, (_, size) in sorted(places.items())}
        return RunRecord.of(files, self.aux(key), epoch_of(places))

    def metadata(self, key: RunKey) -> RunMetadata:
        """Return what is known of a run, as `Zoo.metadata`, and of its archive; its checkpoint is converted."""
        if key not in self._metadata:
            self.state(key)
        return replace(self._metadata[key], archive=self._archive_facts())

    def aux(self, key: RunKey) -> AuxArrays:
        """Return the aux arrays of a run, as `Zoo.aux`."""
        return self._aux(key, self._parts(key))

    def state(self, key: RunKey) -> dict[str, Tensor]:
        """Return the tensors of a run's network, as `Zoo.state`.

        Raises:
            ZooError: If the run is not there, or the archive cannot be read.
            CheckpointError: If its checkpoint is damaged, or of another network.
        """
        return self._convert(key, self._parts(key))

    def files(self, key: RunKey) -> RunFiles:
        """Return a run converted, as `Zoo.files`, equal to what any export writes; aux arrays byte for byte."""
        parts = self._parts(key)
        aux = self._aux(key, parts)
        state = self._convert(key, parts)
        return RunFiles.of(self._metadata[key], state, aux, parts[AUX_FILE])

    def read(self, name: str) -> bytes | None:
        """Return None: an archive has no other files than those of runs."""
        return None

    def _read_index(self) -> SeekIndex:
        with self._lock:
            if self._index is None:
                self._index = read_index(self.location, None if self.index is None else checked_index(self.index))
            return self._index

    def _places(self, key: RunKey) -> dict[str, tuple[int, int]]:
        index = self._read_index()
        if key not in index:
            raise ZooError(f"run {key} is not in {self.location}")
        return index.files(key)

    def _parts(self, key: RunKey) -> dict[str, bytes]:
        """Return a run's files; those of the last run are kept, since loading reads the parts of a run in turn."""
        last = self._last
        if last is not None and last[0] == key:
            return last[1]
        self._places(key)
        parts = read_files(self.location, self._read_index(), key, self.experiment(key.experiment))
        self._last = key, parts
        return parts

    def _aux(self, key: RunKey, parts: dict[str, bytes]) -> AuxArrays:
        return read_aux(parts.get(AUX_FILE, b""), self.experiment(key.experiment), f"{self._folder(key)}/{AUX_FILE}")

    def _convert(self, key: RunKey, parts: dict[str, bytes]) -> dict[str, Tensor]:
        state, metadata = convert_parts(parts, self._folder(key), self.experiment(key.experiment), key, self.ignore)
        self._metadata[key] = metadata
        return state

    def _archive_facts(self) -> dict[str, Any]:
        index = self._read_index()
        facts = {"size": index.size, "md5": index.md5, "etag": index.etag, "index_sha256": index_digest(self.index)}
        return {name: value for name, value in facts.items() if value is not None}

    def _folder(self, key: RunKey) -> Path:
        # A path would make `https:/` of a URL, of which then no message leaves out the password.
        return Path(file_name(self.location) if is_remote(self.location) else self.location) / str(key)
