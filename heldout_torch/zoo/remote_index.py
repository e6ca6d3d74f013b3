"""The manifest of a zoo under a URL, made from a listing of what is there."""

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from heldout_torch.archives.convert import read_aux
from heldout_torch.archives.stream import ARCHIVE_RECORD
from heldout_torch.errors import ZooError
from heldout_torch.experiments import DEFINITION_FILE, Experiment, known_experiments, read_declaration
from heldout_torch.storage.listing import ListedFile, list_files
from heldout_torch.storage.urls import REQUESTS, read_file, write_file
from heldout_torch.zoo.keys import AUX_FILE, MODEL_FILE, RunKey, make_key
from heldout_torch.zoo.manifest import MANIFEST_FILE, RUN_FILES, FileRecord, Manifest, RunRecord
from heldout_torch.zoo.store import check_model


def index_remote(
    zoo: str,
    workers: int = REQUESTS,
    progress: Callable[[int, int], object] = lambda done, total: None,
    written: Mapping[RunKey, RunRecord] | None = None,
) -> Manifest:
    """Write the manifest of a remote zoo.

    The files are listed once. A run that the caller wrote, or that an earlier manifest has, keeps its record unread if
    its files have the sizes of that record; the others are read and hashed. So when several trainers end at the same
    time, the last one to list names the runs of all; if it is not the last one to write, calling this again mends it.

    Args:
        zoo: URL of the zoo.
        workers: Number of runs read at once.
        progress: Called with the numbers of runs done and in all.
        written: Records of runs that the caller has just written.

    Returns:
        The manifest. Where there is no run, nothing is written, unless there was a manifest before.

    Raises:
        ZooError: If a run is damaged, the manifest then names the others that are known to be good; or if the zoo
            cannot be read or written.
    """
    zoo, files = zoo.rstrip("/"), list_files(zoo.rstrip("/"))
    keys = sorted(filter(None, map(_key, files)))
    location = f"{zoo}/{MANIFEST_FILE}"
    before = read_file(location) if MANIFEST_FILE in files else None
    old = Manifest() if before is None else Manifest.from_bytes(before, location)
    manifest, experiments = Manifest(), {}
    for name in sorted({key.experiment for key in keys}):
        experiments[name], declaration = _experiment(zoo, name, files, old)
        if declaration is not None:
            manifest.declarations[name] = declaration
        if (archive := _json(zoo, f"{name}/{ARCHIVE_RECORD}", files, old.archives.get(name))) is not None:
            manifest.archives[name] = archive

    def fits(key: RunKey, record: RunRecord) -> bool:
        return all(
            (there := files.get(f"{key}/{name}")) and there.size == file.size for name, file in record.files.items()
        )

    for key in keys:
        for source in (written or {}, old.runs):
            if key not in manifest.runs and key in source and fits(key, source[key]):
                manifest.runs[key] = source[key]
    unread = [key for key in keys if key not in manifest.runs]
    progress(len(manifest.runs), len(keys))
    try:
        with ThreadPoolExecutor(workers) as pool:
            try:
                records = pool.map(lambda key: _read_record(zoo, key, experiments[key.experiment]), unread)
                for key, record in zip(unread, records, strict=True):
                    manifest.runs[key] = record
                    progress(len(manifest.runs), len(keys))
            finally:
                pool.shutdown(cancel_futures=True)
    finally:
        manifest.runs = dict(sorted(manifest.runs.items()))
        data = manifest.to_bytes()
        if data != before and (manifest.runs or before is not None):
            write_file(location, data)
    return manifest


@contextmanager
def manifest_renewed(zoo: str | Path) -> Iterator[dict[RunKey, RunRecord]]:
    """Bring the manifest of a remote zoo up to date when the block ends, also when it fails or is interrupted.

    Yields a dictionary for the records of the runs that the block writes. A folder's manifest is left alone.

    Raises:
        ZooError: As `index_remote`, if the block itself went well.
    """
    written: dict[RunKey, RunRecord] = {}
    try:
        yield written
    except BaseException:
        if not isinstance(zoo, Path):
            with suppress(ZooError):  # what happened before is what is told
                index_remote(zoo, written=written)
        raise
    if not isinstance(zoo, Path):
        index_remote(zoo, written=written)


def _key(path: str) -> RunKey | None:
    """Give the run whose model a file is; None for any other file."""
    try:
        experiment, ratio, run, _ = path.split("/")
        key = make_key(experiment, float(ratio), int(run))
    except (ValueError, ZooError):
        return None
    return key if path == f"{key}/{MODEL_FILE}" else None


def _experiment(zoo: str, name: str, files: Mapping[str, ListedFile], old: Manifest) -> tuple[Experiment, Any]:
    """Find an experiment, and its declaration if the package does not know it."""
    if name in known_experiments():
        return known_experiments()[name], None
    declaration = _json(zoo, f"{name}/{DEFINITION_FILE}", files, old.declarations.get(name))
    data = None if declaration is None else json.dumps(declaration).encode()
    return read_declaration(name, data, f"{zoo}/{name}/{DEFINITION_FILE}"), declaration


def _json(zoo: str, path: str, files: Mapping[str, ListedFile], otherwise: Any) -> Any:
    if path not in files:
        return otherwise
    try:
        return json.loads(read_file(f"{zoo}/{path}"))
    except (FileNotFoundError, ValueError) as error:
        raise ZooError(f"{zoo}/{path}: cannot be read as JSON ({error})") from None


def _read_record(zoo: str, key: RunKey, experiment: Experiment) -> RunRecord:
    data = {}
    for name in RUN_FILES:
        try:
            data[name] = read_file(f"{zoo}/{key}/{name}")
        except FileNotFoundError:
            raise ZooError(f"{zoo}/{key}/{name}: there is no such file") from None
    aux = read_aux(data[AUX_FILE], experiment, f"{zoo}/{key}/{AUX_FILE}")
    metadata = check_model(data[MODEL_FILE], key, f"{zoo}/{key}/{MODEL_FILE}")
    return RunRecord.of({name: FileRecord.of(contents) for name, contents in data.items()}, aux, metadata.epoch)
