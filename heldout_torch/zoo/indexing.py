"""Compiling the manifest of a zoo from a listing of its files and the records of its runs.

A run that the manifest has keeps its record unread as long as the state of its files is the one that was seen then:
size, inode, and times of change on a disk, the ETag in a bucket. A run with another state is read again: its record
alone, if that is newer than the run's other files; otherwise the files are hashed, and the record is written anew.
So is the record of a run of the old format, which has none, and a lost record if the files are as in the manifest.

Several writers may end at the same time. Each lists again after it has written, until the manifest that lies there is
the one that it would write: so the last one to write has seen the runs of all.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from heldout_torch.errors import HeldoutError, ZooError
from heldout_torch.experiments import Experiment, known_experiments
from heldout_torch.storage.listing import ListedFile
from heldout_torch.storage.threads import map_ahead
from heldout_torch.zoo.aux_arrays import read_aux
from heldout_torch.zoo.keys import AUX_FILE, MODEL_FILE, RUN_FILES, RunKey, parse_key
from heldout_torch.zoo.manifest import MANIFEST_FILE, Manifest
from heldout_torch.zoo.records import AGAIN, RECORD_FILE, FileRecord, RunFiles, RunRecord, read_record, record_bytes

if TYPE_CHECKING:
    from heldout_torch.zoo.writing import WritingZoo

ARCHIVE_RECORD = "archive.json"
_PARTS = (*RUN_FILES, RECORD_FILE)
_ROUNDS = 20  # of listing and writing: others may add runs all the time, and some file systems make up inodes
_DAMAGED = ""  # in place of the state of its files, for a run that the manifest keeps though it is damaged

Files = dict[str, ListedFile]  # by name, those of one run


@dataclass(frozen=True)
class Indexed:
    """The result of indexing.

    Attributes:
        manifest: The manifest that lies in the zoo now.
        damaged: Why runs could not be read. One that an earlier manifest has keeps its place in it.
    """

    manifest: Manifest
    damaged: dict[RunKey, str]


def index_zoo(
    zoo: "WritingZoo",
    threads: int | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Indexed:
    """Write the manifest of a zoo, and the records that runs of the old format lack.

    Args:
        zoo: A folder or a bucket that can be written.
        threads: Number of runs read at once; what serves the place well by default.
        progress: Called with the numbers of runs done and in all.

    Raises:
        ZooError: If the zoo cannot be read or written, or an experiment in it is not declared.
    """
    for _ in range(_ROUNDS):
        before = Manifest.if_readable(zoo.read(MANIFEST_FILE))
        found = _compile(zoo, before, threads or zoo.threads, progress)
        data = found.manifest.to_bytes()
        stored = zoo.read(MANIFEST_FILE)  # after the listing: somebody may have written meanwhile
        if data == stored or (stored is None and not found.manifest.runs):
            break
        zoo.write(MANIFEST_FILE, data)
    return found


def is_there(names: Mapping[str, object] | frozenset[str]) -> bool:
    """Return whether a run with these files is there: its record, or in the old format both its files."""
    return RECORD_FILE in names or (AUX_FILE in names and MODEL_FILE in names)


def has_lost_record(manifest: Manifest, key: RunKey) -> bool:
    """Return whether a run that has no record has lost it, by the manifest; one of the old format never had one."""
    seen = manifest.seen.get(key)
    return key in manifest.runs and seen is not None and (seen == _DAMAGED or len(seen.split(" ")) == len(_PARTS))


def runs_of(listing: Mapping[str, ListedFile]) -> dict[RunKey, Files]:
    """Return the runs that a listing shows, in order, with their files."""
    runs: dict[RunKey, Files] = {}
    for path, info in listing.items():
        if (parsed := parse_key(path)) is not None and parsed[1] in _PARTS:
            runs.setdefault(parsed[0], {})[parsed[1]] = info
    return {key: runs[key] for key in sorted(runs) if is_there(runs[key])}


def _compile(zoo: "WritingZoo", old: Manifest, threads: int, progress: Callable[[int, int], object]) -> Indexed:
    listing = zoo.listing()
    runs = runs_of(listing)
    manifest, damaged = Manifest(), dict[RunKey, str]()
    experiments = {name: zoo.experiment(name) for name in sorted({key.experiment for key in runs})}
    for name, experiment in experiments.items():
        if name not in known_experiments():
            manifest.declarations[name] = json.loads(experiment.to_bytes())
        if f"{name}/{ARCHIVE_RECORD}" in listing:
            manifest.archives[name] = _json(zoo, f"{name}/{ARCHIVE_RECORD}")

    def record_of(key: RunKey) -> tuple[RunRecord | None, str]:
        """Return a run's record; of a damaged run that of the old manifest, if any, and what is wrong."""
        if key in old.runs and old.seen.get(key) == _seen(runs[key]):
            return old.runs[key], ""
        try:
            return _read_run(zoo, key, runs[key], old, experiments[key.experiment]), ""
        except HeldoutError as error:
            return old.runs.get(key), str(error)

    for key, (record, error) in zip(runs, map_ahead(record_of, runs, threads), strict=True):
        if record is not None:
            manifest.runs[key] = record
            manifest.seen[key] = _DAMAGED if error else _seen(runs[key])
        if error:
            damaged[key] = error
        progress(len(manifest.runs), len(runs))
    return Indexed(manifest, damaged)


def _read_run(zoo: "WritingZoo", key: RunKey, files: Files, old: Manifest, experiment: Experiment) -> RunRecord:
    """Read a run's record if that is enough, else hash the run's files and write the record anew."""
    record = metadata = None
    if RECORD_FILE in files and (data := zoo.read(f"{key}/{RECORD_FILE}")) is not None:
        record, metadata = read_record(data, key, f"{zoo.location}/{key}/{RECORD_FILE}")
        if _fits(record, files) and not _changed_since(files, old.seen.get(key)):
            return record
    where = f"{zoo.location}/{key}"
    contents = {}
    for name in RUN_FILES if record is None else record.files:
        data = zoo.read(f"{key}/{name}") if name in files else None
        if data is None:
            raise ZooError(f"{where}/{name}: is missing; {AGAIN}")
        contents[name] = data
    if record is None and has_lost_record(old, key) and (wrong := old.runs[key].wrong(contents)):
        raise ZooError(
            f"{where}: {RECORD_FILE} is missing, and {' and '.join(wrong)} not as in {MANIFEST_FILE}; {AGAIN}"
        )
    if MODEL_FILE in contents:
        run = RunFiles.unrecorded(contents, key, experiment, where)
        record, metadata = run.record, run.metadata
    else:
        assert metadata is not None
        aux = read_aux(contents[AUX_FILE], experiment, f"{where}/{AUX_FILE}")
        record = RunRecord.of({AUX_FILE: FileRecord.of(contents[AUX_FILE])}, aux, metadata.epoch, metadata.dtype)
    zoo.write(f"{key}/{RECORD_FILE}", record_bytes(record, metadata))
    return record


def _fits(record: RunRecord | None, files: Mapping[str, ListedFile]) -> bool:
    """Return whether a record is about files of these names and sizes."""
    there = {name: info.size for name, info in files.items() if name != RECORD_FILE}
    return record is not None and {name: file.size for name, file in record.files.items()} == there


def _changed_since(files: Files, seen: str | None) -> bool:
    """Return whether a file of the run changed after its record was written, as far as the place can tell."""
    record = files[RECORD_FILE]
    if seen == _DAMAGED:  # whatever became of it since
        return True
    if record.changed is not None and any((info.changed or 0) > record.changed for info in files.values()):
        return True
    # A bucket has no order of changes, and a clock may have been put back. If the record is the one seen before,
    # another file changed after it.
    return seen is not None and seen.split(" ")[-1] == _digest(record)


def _seen(files: Files) -> str:
    return " ".join(_digest(files[name]) for name in _PARTS if name in files)


def _digest(info: ListedFile) -> str:
    return hashlib.sha256(info.signature.encode()).hexdigest()[:8]


def _json(zoo: "WritingZoo", name: str) -> Any:
    try:
        return json.loads(zoo.read(name) or b"null")
    except (ValueError, RecursionError):
        return None  # a damaged one must not keep the runs from being listed
