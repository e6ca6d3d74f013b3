"""`manifest.json` at the root of a zoo: every run's files with their hashes, and what is known of the run.

    {"format_version": 1, "experiments": {"cifar10-inception": {
        "declaration": null,
        "archive": {"md5": "…", "name": "cifar10-inception.tar.gz", "size": 239000000000, "verified": true},
        "runs": {"0.7": {"12": {
            "accuracy": [0.99, 0.84, 0.86],
            "epoch": 80,
            "files": {"aux_arrays.npz": [91000, "<sha256>"], "model.safetensors": [7600000, "<sha256>"]}}}}}}}

About 270 bytes a run. `declaration` is the `experiment.json` of an experiment that the package does not declare.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from heldout_torch.archives.stream import ARCHIVE_RECORD
from heldout_torch.errors import ZooError
from heldout_torch.experiments import DEFINITION_FILE, declared_in, known_experiments
from heldout_torch.storage.files import write_atomically
from heldout_torch.zoo.aux_arrays import AuxArrays
from heldout_torch.zoo.keys import AUX_FILE, MODEL_FILE, RunFolder, RunKey, find_runs, make_key, run_path
from heldout_torch.zoo.run_folder import read_metadata, read_run_aux

MANIFEST_FILE = "manifest.json"
FORMAT_VERSION = 1
RUN_FILES = (AUX_FILE, MODEL_FILE)  # the model last: with it a run counts as there
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class FileRecord:
    """A file's size in bytes and its SHA-256 in hexadecimal digits."""

    size: int
    sha256: str

    @classmethod
    def of(cls, data: bytes) -> Self:
        """Make the record of a file's contents."""
        return cls(len(data), hashlib.sha256(data).hexdigest())

    def matches(self, path: Path) -> bool:
        """Tell whether a file is there with these bytes; all of them are read."""
        try:
            if path.stat().st_size != self.size:
                return False
            with open(path, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
        except FileNotFoundError:
            return False


@dataclass(frozen=True)
class RunRecord:
    """What a manifest says about one run.

    Attributes:
        files: `model.safetensors` and `aux_arrays.npz`.
        epoch: Epochs trained; None if not known.
        accuracy: Share, 0 to 1, of the train, removed and test examples that it classifies correctly, from its aux
            arrays; None where there are no such examples.
    """

    files: dict[str, FileRecord]
    epoch: int | None
    accuracy: tuple[float | None, float | None, float | None]

    @classmethod
    def of(cls, files: dict[str, FileRecord], aux: AuxArrays, epoch: int | None) -> Self:
        """Make the record of a run from its files and what they hold."""
        parts = (aux.correctness_train, aux.correctness_removed, aux.correctness_test)
        train, removed, test = (round(float(np.mean(part)), 6) if len(part) else None for part in parts)
        return cls(files, epoch, (train, removed, test))

    @property
    def size(self) -> int:
        """Bytes of both files."""
        return sum(file.size for file in self.files.values())


@dataclass
class Manifest:
    """A zoo's manifest.

    Attributes:
        runs: Records by run, in order.
        declarations: By experiment, the contents of its `experiment.json`, where it has one.
        archives: By experiment, the contents of its `archive.json`, where it has one.
    """

    runs: dict[RunKey, RunRecord] = field(default_factory=dict)
    declarations: dict[str, Any] = field(default_factory=dict)
    archives: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> Self:
        """Read a manifest, trusting nothing in it.

        Args:
            data: Contents of the file.
            name: What errors call it.

        Raises:
            ZooError: If it is damaged or of another format.
        """
        manifest = cls()
        try:
            table = json.loads(data)
            if table["format_version"] != FORMAT_VERSION:
                raise ZooError(
                    f"{name}: has format version {table['format_version']!r}, this package reads {FORMAT_VERSION}"
                )
            for experiment, part in table["experiments"].items():
                for key, record in (
                    (make_key(experiment, float(r), int(n)), record)
                    for r, runs in part["runs"].items()
                    for n, record in runs.items()
                ):
                    manifest.runs[key] = _read_record(record)
                if part["declaration"] is not None:
                    manifest.declarations[experiment] = part["declaration"]
                if part["archive"] is not None:
                    manifest.archives[experiment] = part["archive"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ZooError(f"{name}: is no readable manifest ({type(error).__name__}: {error})") from None
        return manifest

    def to_bytes(self) -> bytes:
        """Give the contents of the file; equal manifests give equal bytes."""
        experiments: dict[str, Any] = {}
        for key in sorted(self.runs):
            experiment = experiments.setdefault(
                key.experiment,
                {
                    "archive": self.archives.get(key.experiment),
                    "declaration": self.declarations.get(key.experiment),
                    "runs": {},
                },
            )
            record = self.runs[key]
            experiment["runs"].setdefault(repr(key.subset_ratio), {})[str(key.run)] = {
                "accuracy": record.accuracy,
                "epoch": record.epoch,
                "files": {name: [file.size, file.sha256] for name, file in sorted(record.files.items())},
            }
        table = {"format_version": FORMAT_VERSION, "experiments": experiments}
        return json.dumps(table, separators=(",", ":")).encode() + b"\n"


def read_manifest(zoo: Path) -> Manifest:
    """Read the manifest of a local zoo.

    Raises:
        ZooError: If there is none, or it is damaged.
    """
    path = zoo / MANIFEST_FILE
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ZooError(f"{path}: cannot be read ({error.strerror}); make it with: heldout zoo index {zoo}") from None
    return Manifest.from_bytes(data, str(path))


def index_zoo(
    zoo: Path, workers: int = 1, progress: Callable[[int, int], object] = lambda done, total: None
) -> Manifest:
    """Write the manifest of a local zoo.

    A run of an earlier manifest of which nothing is newer than that manifest keeps its record unread, so indexing
    again after more runs came is quick, and so is going on after an interruption.

    Args:
        zoo: Folder of the zoo.
        workers: Number of threads that hash.
        progress: Called with the numbers of runs done and in all.

    Raises:
        ZooError: If a run is damaged, or the zoo cannot be read or written.
    """
    path = zoo / MANIFEST_FILE
    old, written = (read_manifest(zoo), path.stat().st_mtime_ns) if path.is_file() else (Manifest(), 0)
    found = [run for run in find_runs(zoo) if run.in_zoo]
    if not found:
        raise ZooError(f"{zoo}: is no zoo, it holds no <experiment>/<subset_ratio>/<run>/{MODEL_FILE}")
    manifest = Manifest()
    for name in sorted({run.key.experiment for run in found}):
        if name not in known_experiments():
            declared_in(name, zoo / name)
            manifest.declarations[name] = json.loads((zoo / name / DEFINITION_FILE).read_bytes())
        if (zoo / name / ARCHIVE_RECORD).is_file():
            manifest.archives[name] = json.loads((zoo / name / ARCHIVE_RECORD).read_bytes())

    def record(run: RunFolder) -> RunRecord:
        kept = old.runs.get(run.key)
        return kept if kept is not None and _newest(run.path) < written else _make_record(zoo, run)

    try:
        with ThreadPoolExecutor(workers) as pool:
            try:
                for run, made in zip(found, pool.map(record, found), strict=True):
                    manifest.runs[run.key] = made
                    progress(len(manifest.runs), len(found))
            finally:
                pool.shutdown(cancel_futures=True)
    finally:
        write_atomically(path, manifest.to_bytes())
    return manifest


def check_zoo(zoo: Path, workers: int = 1) -> Iterator[tuple[RunKey, str | None]]:
    """Compare every byte of a local zoo with its manifest.

    Yields:
        Each run of the manifest and each other run that is there, with what is wrong with it; None if nothing is.

    Raises:
        ZooError: If there is no manifest, or the zoo cannot be read.
    """
    manifest = read_manifest(zoo)

    def check(item: tuple[RunKey, RunRecord]) -> tuple[RunKey, str | None]:
        key, record = item
        wrong = [name for name, file in record.files.items() if not file.matches(run_path(zoo, key) / name)]
        return key, f"{', '.join(wrong)} not as in the manifest; export or fetch the run again" if wrong else None

    with ThreadPoolExecutor(workers) as pool:
        try:
            yield from pool.map(check, manifest.runs.items())
        finally:
            pool.shutdown(cancel_futures=True)
    for run in find_runs(zoo):
        if run.in_zoo and run.key not in manifest.runs:
            yield run.key, f"is not in the manifest; run: heldout zoo index {zoo}"


def _make_record(zoo: Path, run: RunFolder) -> RunRecord:
    files = {}
    for name in RUN_FILES:
        try:
            with open(run.path / name, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                files[name] = FileRecord(file.tell(), digest)
        except OSError as error:
            raise ZooError(f"{run.path / name}: cannot be read ({error.strerror})") from None
    return RunRecord.of(files, read_run_aux(zoo, run), read_metadata(run).epoch)


def _read_record(record: Any) -> RunRecord:
    files = {name: FileRecord(size, sha256) for name, (size, sha256) in record["files"].items()}
    if set(files) != set(RUN_FILES):
        raise ValueError(f"a run has files {sorted(files)}")
    for file in files.values():
        if type(file.size) is not int or file.size < 0 or not _SHA256.fullmatch(file.sha256):
            raise ValueError(f"{file} is no size and SHA-256")
    train, removed, test = record["accuracy"]
    for value in (train, removed, test):
        if value is not None and not (isinstance(value, (int, float)) and 0 <= value <= 1):
            raise ValueError(f"accuracy is {value!r}")
    epoch = record["epoch"]
    if epoch is not None and type(epoch) is not int:
        raise ValueError(f"epoch is {epoch!r}")
    return RunRecord(files, epoch, (train, removed, test))


def _newest(folder: Path) -> int:
    """Give the time of a run's last change; moving the folder into place counts."""
    return max(folder.stat().st_ctime_ns, *((folder / name).stat().st_mtime_ns for name in RUN_FILES))
