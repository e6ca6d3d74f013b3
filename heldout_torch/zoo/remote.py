"""Zoos on web servers and in buckets: a run is fetched once into a local cache, which is itself a zoo.

The cache lies in `HELDOUT_TORCH_CACHE`, else in `heldout_torch` in the folder of `torch.hub`. Each remote zoo has a
folder there with its manifest. The cached manifest serves as long as what it says about a run fits the files; otherwise
it is fetched again. No file enters the cache, and none is used from it, unless its SHA-256 is the manifest's.
"""

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from filelock import FileLock

from heldout_torch.errors import ZooError
from heldout_torch.experiments import DEFINITION_FILE, Experiment, known_experiments
from heldout_torch.storage.files import write_atomically
from heldout_torch.storage.urls import read_file, read_range
from heldout_torch.zoo.keys import AUX_FILE, RunKey, run_path
from heldout_torch.zoo.manifest import MANIFEST_FILE, RUN_FILES, FileRecord, Manifest

CACHE_VARIABLE = "HELDOUT_TORCH_CACHE"
OFFLINE_VARIABLE = "HELDOUT_TORCH_OFFLINE"
_CHUNK = 2**22  # bytes of a request; what a broken connection costs at most


def cache_folder(zoo: str) -> Path:
    """Give the folder in which the runs of a remote zoo are kept."""
    zoo = zoo.rstrip("/")
    base = os.environ.get(CACHE_VARIABLE) or Path(torch.hub.get_dir()) / "heldout_torch"
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", zoo.rpartition("/")[2]).strip("-")
    return Path(base) / f"{name}-{hashlib.sha256(zoo.encode()).hexdigest()[:16]}"


def is_offline() -> bool:
    """Tell whether the environment variable `HELDOUT_TORCH_OFFLINE` forbids any use of the network."""
    return os.environ.get(OFFLINE_VARIABLE, "") not in ("", "0")


def fetch_manifest(zoo: str, offline: bool = False, renew: bool = True) -> Manifest:
    """Give the manifest of a remote zoo.

    Args:
        zoo: URL of the zoo.
        offline: Take the cached one.
        renew: Fetch it even if there is a cached one.

    Raises:
        ZooError: If it cannot be had, or is damaged.
    """
    path = cache_folder(zoo) / MANIFEST_FILE
    url = f"{zoo.rstrip('/')}/{MANIFEST_FILE}"
    with _locked(zoo, "manifest"):
        if path.is_file() and (offline or not renew):
            return Manifest.from_bytes(path.read_bytes(), str(path))
        if offline:
            raise ZooError(f"{zoo}: nothing of this zoo is cached in {path.parent}, and the network is switched off")
        try:
            data = read_file(url)
        except FileNotFoundError:
            raise ZooError(f"{url}: there is no such file; a zoo needs one, made by: heldout zoo index ZOO") from None
        manifest = Manifest.from_bytes(data, url)
        write_atomically(path, data)
    return manifest


def fetch_run(
    zoo: str, key: RunKey, offline: bool = False, progress: Callable[[int], object] = lambda count: None
) -> Path:
    """See that a run of a remote zoo is in the cache, whole and with the right bytes.

    Args:
        zoo: URL of the zoo.
        key: The run.
        offline: Use only what is cached.
        progress: Called with every number of bytes fetched.

    Returns:
        The folder of the cached zoo, to be read like any zoo.

    Raises:
        ZooError: If the run is not in the zoo, cannot be fetched, or never has the bytes of the manifest.
    """
    offline = offline or is_offline()
    root = cache_folder(zoo)
    with _locked(zoo, str(key).replace("/", "_")):
        fresh = not (root / MANIFEST_FILE).is_file()
        manifest = fetch_manifest(zoo, offline, renew=False)
        try:
            _fetch_files(zoo, root, key, manifest, offline, RUN_FILES, progress)
        except ZooError:
            if offline or fresh:
                raise
            # The cached manifest may be older than the zoo.
            _fetch_files(zoo, root, key, fetch_manifest(zoo), offline, RUN_FILES, progress)
    return root


def fetch_aux(zoo: str, key: RunKey, manifest: Manifest) -> Path:
    """See that the aux arrays of a run of a remote zoo are in the cache, with the right bytes, without its model.

    Args:
        zoo: URL of the zoo.
        key: The run.
        manifest: The zoo's, as `fetch_manifest` gave it: for many runs, it is read once.

    Returns:
        The folder of the cached zoo.

    Raises:
        ZooError: As `fetch_run`.
    """
    root = cache_folder(zoo)
    with _locked(zoo, str(key).replace("/", "_")):
        _fetch_files(zoo, root, key, manifest, is_offline(), (AUX_FILE,), lambda count: None)
    return root


def _fetch_files(
    zoo: str,
    root: Path,
    key: RunKey,
    manifest: Manifest,
    offline: bool,
    names: Sequence[str],
    progress: Callable[[int], object],
) -> None:
    record = manifest.runs.get(key)
    if record is None:
        raise ZooError(f"run {key} is not in {zoo}; heldout_torch.list_runs({zoo!r}) lists what is there")
    folder = run_path(root, key)
    if key.experiment not in known_experiments() and key.experiment in manifest.declarations:
        where = f"{zoo}: {MANIFEST_FILE}"
        experiment = Experiment.from_json(key.experiment, manifest.declarations[key.experiment], where)
        if not FileRecord.of(experiment.to_bytes()).matches(folder.parent.parent / DEFINITION_FILE):
            experiment.write(folder.parent.parent)
    for name in names:
        if record.files[name].matches(folder / name):
            continue
        if offline:
            raise ZooError(f"run {key} of {zoo} is not in the cache {root}, and the network is switched off")
        url = f"{zoo.rstrip('/')}/{key}/{name}"
        _download(url, folder / name, record.files[name], root / ".incoming" / str(key), progress)


def _download(url: str, path: Path, record: FileRecord, incoming: Path, progress: Callable[[int], object]) -> None:
    """Fetch a file into a partial one, going on where an earlier try stopped; move it into place when it is right."""
    incoming.mkdir(parents=True, exist_ok=True)
    partial = incoming / record.sha256  # so that parts of different versions never meet
    try:
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
        raise ZooError(f"{url}: is in the manifest, but there is no such file; index the zoo again") from None
    except OSError as error:
        raise ZooError(f"{error.filename or partial}: cannot be written ({error.strerror})") from None
    if not record.matches(partial):
        partial.unlink()
        raise ZooError(f"{url}: does not have the SHA-256 of the manifest; it is damaged, or the manifest is stale")
    path.parent.mkdir(parents=True, exist_ok=True)
    os.replace(partial, path)


def _locked(zoo: str, what: str) -> FileLock:
    folder = cache_folder(zoo) / ".locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ZooError(f"{folder}: cannot be written ({error.strerror}); set {CACHE_VARIABLE}") from None
    return FileLock(folder / what)
