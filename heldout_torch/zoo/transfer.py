"""Many runs at once: from a remote zoo into the cache, and from a local zoo to a remote one."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from heldout_torch.archives.stream import ARCHIVE_RECORD
from heldout_torch.errors import ZooError
from heldout_torch.experiments import DEFINITION_FILE
from heldout_torch.storage.urls import read_file, write_file
from heldout_torch.zoo.keys import RunKey, run_path
from heldout_torch.zoo.manifest import MANIFEST_FILE, RUN_FILES, Manifest, read_manifest
from heldout_torch.zoo.remote import fetch_run
from heldout_torch.zoo.store import open_zoo

_BATCH = 64  # runs between two writings of the remote manifest, which is what an interrupted push goes on from


def pull_runs(
    zoo: str, keys: Sequence[RunKey], workers: int, progress: Callable[[int], object]
) -> Iterator[tuple[RunKey, str | None]]:
    """Fetch runs of a remote zoo into the cache, several at a time; what is there already is checked.

    Args:
        zoo: URL of the zoo.
        keys: The runs.
        workers: Number of downloads at once.
        progress: Called with every number of bytes fetched.

    Yields:
        Each run as it is finished, and why it could not be fetched; None if it could.
    """
    with ThreadPoolExecutor(workers) as pool:
        try:
            futures = {pool.submit(fetch_run, zoo, key, False, progress): key for key in keys}
            for future in as_completed(futures):
                error = future.exception()
                if error is not None and not isinstance(error, ZooError):
                    raise error
                yield futures[future], None if error is None else str(error)
        finally:
            pool.shutdown(cancel_futures=True)


def push_zoo(zoo: Path, remote: str, workers: int, progress: Callable[[int], object]) -> int:
    """Copy the runs of a local zoo that a remote one lacks, or has otherwise, to it.

    The remote manifest names a run only once its files are there, so others can use the zoo all the time, and an
    interrupted push goes on.

    Args:
        zoo: Folder of the zoo, indexed.
        remote: URL or folder that becomes, or already is, a copy.
        workers: Number of uploads at once.
        progress: Called with the size of every run that is there.

    Returns:
        Number of runs copied.

    Raises:
        ZooError: If the zoo is not as its manifest says, or the remote one cannot be written.
    """
    local, remote = read_manifest(zoo), str(open_zoo(remote))
    try:
        there = Manifest.from_bytes(read_file(f"{remote}/{MANIFEST_FILE}"), f"{remote}/{MANIFEST_FILE}")
    except FileNotFoundError:
        there = Manifest()
    missing = [key for key, record in local.runs.items() if there.runs.get(key) != record]
    progress(sum(record.size for key, record in local.runs.items() if there.runs.get(key) == record))
    there.declarations |= local.declarations
    there.archives |= local.archives

    def copy(key: RunKey) -> RunKey:
        for name in RUN_FILES:
            data = (run_path(zoo, key) / name).read_bytes()
            if hashlib.sha256(data).hexdigest() != local.runs[key].files[name].sha256:
                raise ZooError(f"{run_path(zoo, key) / name}: is not as in the manifest; run: heldout zoo index {zoo}")
            write_file(f"{remote}/{key}/{name}", data)
        return key

    with ThreadPoolExecutor(workers) as pool:
        try:
            for name in sorted({key.experiment for key in missing}):
                for path in (zoo / name / DEFINITION_FILE, zoo / name / ARCHIVE_RECORD):
                    if path.is_file():
                        write_file(f"{remote}/{name}/{path.name}", path.read_bytes())
            for start in range(0, len(missing), _BATCH):
                for key in pool.map(copy, missing[start : start + _BATCH]):
                    there.runs[key] = local.runs[key]
                    progress(local.runs[key].size)
                write_file(f"{remote}/{MANIFEST_FILE}", there.to_bytes())
        except OSError as error:
            raise ZooError(f"{error.filename}: cannot be read ({error.strerror})") from None
        finally:
            pool.shutdown(cancel_futures=True)
    return len(missing)
