"""A zoo in a folder."""

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from heldout_torch.errors import UnwritableError, ZooError, os_errors
from heldout_torch.experiments import DEFINITION_FILE, Experiment, declared_in
from heldout_torch.storage.files import (
    check_writable,
    new_folder,
    open_plain,
    read_bounded,
    remove_stale,
    write_atomically,
    write_plainly,
)
from heldout_torch.storage.listing import ListedFile, list_file
from heldout_torch.storage.posix import reserve
from heldout_torch.storage.threads import processors
from heldout_torch.zoo.aux_arrays import AuxArrays, read_aux
from heldout_torch.zoo.file_limits import file_limit
from heldout_torch.zoo.indexing import ARCHIVE_RECORD, has_lost_record, is_there
from heldout_torch.zoo.keys import AUX_FILE, MODEL_FILE, RUN_FILES, RunKey
from heldout_torch.zoo.manifest import MANIFEST_FILE, Manifest
from heldout_torch.zoo.metadata import RunMetadata
from heldout_torch.zoo.model_file import FIRST_BYTES, header_size, read_model, read_model_header
from heldout_torch.zoo.records import AGAIN, RECORD_FILE, TRIES, RunFiles, RunRecord, read_record
from heldout_torch.zoo.run_folders import experiment_folders, run_folders
from heldout_torch.zoo.writing import WritingZoo


class FolderZoo(WritingZoo):
    """A zoo in a folder, `<root>/<experiment>/<subset_ratio>/<run>/{aux_arrays.npz, model.safetensors, run.json}`.

    Args:
        root: The folder; it need not exist. For reading it may also be the folder of one experiment.

    Attributes:
        location: The folder as a string.
        threads: How many reads at once serve it well.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.location = root, str(root)
        self.threads = min(8, processors() + 1)  # one of them waits for the disk
        self._made = False  # by the `with` block

    def __repr__(self) -> str:
        return f"FolderZoo({self.location!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return FolderZoo, (self.root.absolute(),)  # another process may have another working directory

    def keys(self, experiment: str | None = None) -> list[RunKey]:
        """Return the runs that are there, as `Zoo.keys`."""
        runs = []
        for name, folder in self._experiments().items():
            if experiment in (None, name):
                runs += [key for key, path in self._run_folders(name, folder) if is_there(_names(path))]
        return sorted(runs)

    def __contains__(self, key: RunKey) -> bool:
        return is_there(_names(self._path(key)))

    def experiment(self, name: str) -> Experiment:
        """Return what an experiment's name means here, as `Zoo.experiment`."""
        return declared_in(name, self._experiment_folder(name))

    def record(self, key: RunKey) -> RunRecord:
        """Return the record of a run, as `Zoo.record`; of a run of the old format, which has none, it is made."""
        recorded = self._recorded(key)
        return self._unrecorded(key).record if recorded is None else recorded[0]

    def metadata(self, key: RunKey) -> RunMetadata:
        """Return what is known of a run, as `Zoo.metadata`."""
        recorded = self._recorded(key)
        if recorded is not None:
            return recorded[1]
        path = self._path(key) / MODEL_FILE
        try:
            with open(path, "rb", opener=open_plain) as file:
                data = file.read(FIRST_BYTES)
                data += file.read(max(0, header_size(data) - len(data)))
        except OSError as error:
            raise self._missing(key, path, error) from None
        return read_model_header(data, key, str(path))

    def aux(self, key: RunKey) -> AuxArrays:
        """Return the aux arrays of a run, as `Zoo.aux`."""
        path = self._path(key) / AUX_FILE
        return read_aux(self._contents(key, path), self.experiment(key.experiment), str(path))

    def state(self, key: RunKey) -> dict[str, Tensor]:
        """Return the tensors of a run's network, as `Zoo.state`."""
        path = self._path(key) / MODEL_FILE
        # Read, not mapped: a file that somebody replaces or cuts short later must not change a network in use.
        return read_model(self._contents(key, path), key, str(path))[0]

    def files(self, key: RunKey) -> RunFiles:
        """Return a run's files, checked against its record, as `Zoo.files`."""
        path = self._path(key)
        for _ in range(TRIES):  # somebody may replace the run while it is read
            recorded = self._recorded(key)
            if recorded is None:
                if has_lost_record(Manifest.if_readable(self.read(MANIFEST_FILE)), key):
                    raise ZooError(
                        f"{path / RECORD_FILE}: is missing; to write it again: heldout zoo index {self.root}"
                    )
                return self._unrecorded(key)
            record, metadata = recorded
            contents = {name: self._contents(key, path / name) for name in record.files}
            wrong = record.wrong(contents)
            if not wrong:
                return RunFiles.recorded(metadata, record, contents, str(path))
        raise ZooError(
            f"{path}: {', '.join(wrong)} not as recorded; {AGAIN}; or, if the change was intended: "
            f"heldout zoo index {self.root}"
        )

    def put_files(self, run: RunFiles, overwrite: bool = False) -> bool:
        """File a run whose files are given, as `WritableZoo.put_files`: its folder appears at once."""
        path = self._path(run.metadata.key)
        names = _names(path)
        filed = self._what_to_file(run, names if is_there(names) else None, overwrite)
        if filed is None:
            return False
        with self._writing(path), new_folder(path, overwrite=path.exists()) as folder:
            for name, data in filed.in_order():
                write_plainly(folder / name, data)
        return True

    def missing(self, keys: Iterable[RunKey], model: bool = True) -> list[RunKey]:
        """Return the runs that are not there, or lack a model if one is wanted, as `WritableZoo.missing`."""
        return [
            key for key in keys if not is_there(names := _names(self._path(key))) or (model and MODEL_FILE not in names)
        ]

    def read(self, name: str) -> bytes | None:
        """Return the contents of a file of the zoo; None if there is none."""
        return _read(self.root / name)

    def write(self, name: str, data: bytes) -> None:
        """Write a file of the zoo, as `WritableZoo.write`."""
        with self._writing():
            write_atomically(self.root / name, data)

    def listing(self) -> dict[str, ListedFile]:
        """Return the state of the files of runs, and of those that belong to no run, by path below the root."""
        found = {}
        for name, folder in self._experiments().items():
            for path in (folder / DEFINITION_FILE, folder / ARCHIVE_RECORD):
                with suppress(FileNotFoundError):
                    found[f"{name}/{path.name}"] = list_file(path)
            for key, path in self._run_folders(name, folder):
                for part in (*RUN_FILES, RECORD_FILE):
                    with suppress(FileNotFoundError):
                        found[f"{key}/{part}"] = list_file(path / part)
        return found

    def declare(self, experiment: Experiment) -> None:
        """Write what an experiment is, as `WritableZoo.declare`.

        Raises:
            ZooError: If its folder is that of another one, for a disk that ignores capitals.
        """
        name = experiment.name
        with os_errors(ZooError, "is not a readable folder", self.root):
            names = os.listdir(self.root) if (self.root / name).exists() else [name]
        if name not in names:
            other = next((there for there in names if there.lower() == name.lower()), "another experiment")
            raise ZooError(
                f"{self.root}: has {other}, and {name} would be the same folder, because this disk ignores capitals; "
                "choose another name"
            )
        super().declare(experiment)

    @contextmanager
    def space(self, size: int) -> Iterator[None]:
        """Hold space on the disk, as `WritableZoo.space`."""
        with self._writing():
            held = reserve(self.root, size)
        with held:
            yield

    def __enter__(self) -> Self:
        """Begin to write.

        Raises:
            ZooError: If the folder cannot be written.
        """
        self._made = not self.root.exists()
        with self._writing():
            self.root.mkdir(parents=True, exist_ok=True)
            check_writable(self.root)
            remove_stale(self.root)
            for name, folder in self._experiments().items():
                remove_stale(folder)
                for ratio in {path.parent for _, path in run_folders(name, folder)}:
                    remove_stale(ratio)
                    remove_stale(ratio / "evaluations")
        return self

    def __exit__(self, *what: object) -> None:
        """Bring the manifest up to date; remove a folder that was made here and is empty."""
        super().__exit__(*what)
        if self._made:
            with suppress(OSError):  # it is not empty
                self.root.rmdir()

    def _path(self, key: RunKey) -> Path:
        return self._experiment_folder(key.experiment) / repr(key.subset_ratio) / str(key.run)

    def _experiment_folder(self, name: str) -> Path:
        """Return an experiment's folder; the root itself where that is the experiment's own."""
        folder = self.root / name
        if self.root.name == name and not folder.is_dir() and list(self._experiments().values()) == [self.root]:
            return self.root
        return folder

    def _experiments(self) -> dict[str, Path]:
        return experiment_folders(self.root) if self.root.is_dir() else {}

    def _run_folders(self, name: str, folder: Path) -> Iterator[tuple[RunKey, Path]]:
        for key, path in run_folders(name, folder):
            if (path.parent.name, path.name) == (repr(key.subset_ratio), str(key.run)):
                yield key, path
            elif is_there(_names(path)):
                raise ZooError(f"{path}: a zoo stores this run under {key.subset_ratio!r}/{key.run}; rename the folder")

    def _recorded(self, key: RunKey) -> tuple[RunRecord, RunMetadata] | None:
        path = self._path(key) / RECORD_FILE
        data = _read(path)
        if data is not None:
            return read_record(data, key, str(path))
        if key not in self:
            raise self._missing(key, path, FileNotFoundError())
        return None

    def _unrecorded(self, key: RunKey) -> RunFiles:
        """Return the files of a run of the old format, with the record that it lacks."""
        path = self._path(key)
        contents = {name: self._contents(key, path / name) for name in RUN_FILES}
        return RunFiles.unrecorded(contents, key, self.experiment(key.experiment), str(path))

    def _contents(self, key: RunKey, path: Path) -> bytes:
        try:
            return read_bounded(path, file_limit(path.name))
        except OSError as error:
            raise self._missing(key, path, error) from None

    def _missing(self, key: RunKey, path: Path, error: OSError) -> ZooError:
        if not isinstance(error, FileNotFoundError):
            return ZooError(f"{path}: cannot be read ({error.strerror})")
        if key not in self:
            return ZooError(f"run {key} is not in {self.root}")
        if path.name == MODEL_FILE:
            return ZooError(
                f"run {key} in {self.root} has only aux arrays: statistics can use it, but it has no model; export it"
            )
        return ZooError(f"{path}: is missing; {AGAIN}")

    def _writing(self, path: Path | None = None) -> AbstractContextManager[None]:
        return os_errors(UnwritableError, f"{path or self.root}: cannot be written")


def _names(path: Path) -> frozenset[str]:
    """Return which of a run's files lie in a folder."""
    return frozenset(name for name in (*RUN_FILES, RECORD_FILE) if os.path.isfile(path / name))


def _read(path: Path) -> bytes | None:
    try:
        return read_bounded(path, file_limit(path.name))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ZooError(f"{path}: cannot be read ({error.strerror})") from None
