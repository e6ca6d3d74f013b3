"""An unpacked TensorFlow archive as a read-only zoo: `<experiment>/<subset_ratio>/<run>/checkpoints/...`."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from heldout_torch.archives.convert import checkpoint_files, convert_run
from heldout_torch.errors import ZooError, os_errors
from heldout_torch.experiments import Experiment, declared_in, read_declaration
from heldout_torch.storage.files import read_bounded
from heldout_torch.storage.threads import processors
from heldout_torch.zoo.aux_arrays import AuxArrays, read_aux
from heldout_torch.zoo.file_limits import MAX_AUX
from heldout_torch.zoo.keys import AUX_FILE, CHECKPOINTS, RunKey
from heldout_torch.zoo.metadata import RunMetadata
from heldout_torch.zoo.records import FileRecord, RunFiles, RunRecord
from heldout_torch.zoo.run_folders import experiment_folders, run_folders


class TensorFlowTree:
    """An unpacked archive: the folder of one experiment, or of several.

    A run is there when its folder has checkpoints, which take the place of the record. If only the aux arrays were
    unpacked, statistics can use the run, but it cannot be loaded. Ratios may be written in any way, such as `0.70`.

    Args:
        root: The folder.
        experiment: What an experiment's own folder is called here; by default by its name.
        ignore: Patterns such as `model/ema/*` of variables that are left out though they lie under `model/`.

    Attributes:
        location: The folder as a string.
        ignore: As given; the same for all runs.
        threads: How many reads at once serve it well.
    """

    def __init__(self, root: Path, experiment: str | None = None, ignore: Sequence[str] = ()) -> None:
        self.ignore = tuple(ignore)
        self.location, self.threads = str(root), processors() + 1  # one of them waits for the disk
        self._folders = experiment_folders(root)
        if experiment is not None and list(self._folders.values()) == [root]:
            self._folders = {experiment: root}
        self._runs: dict[str, dict[RunKey, Path]] = {}  # by experiment, as far as they were listed
        self._metadata: dict[RunKey, RunMetadata] = {}  # of runs that were converted

    def __repr__(self) -> str:
        return f"TensorFlowTree({self.location!r})"

    @classmethod
    def of_run(cls, folder: Path, key: RunKey, ignore: Sequence[str] = ()) -> "TensorFlowTree":
        """Return the tree of one run, whose folder is given and names it no further."""
        tree = cls(folder, ignore=ignore)
        tree._folders, tree._runs = {key.experiment: folder}, {key.experiment: {key: folder}}
        return tree

    def keys(self, experiment: str | None = None) -> list[RunKey]:
        """Return the runs that are there, as `Zoo.keys`.

        Raises:
            ZooError: If a folder cannot be read, or two folders hold one run.
        """
        names = [name for name in self._folders if experiment in (None, name)]
        return sorted(key for name in names for key in self._listed(name))

    def __contains__(self, key: RunKey) -> bool:
        return self._find(key) is not None

    def experiment(self, name: str) -> Experiment:
        """Return what an experiment's name means here, as `Zoo.experiment`."""
        folder = self._folders.get(name)
        return read_declaration(name, None) if folder is None else declared_in(name, folder)

    def record(self, key: RunKey) -> RunRecord:
        """Return the files, the epoch and the accuracies of a run, as `Zoo.record`; its checkpoint is not read."""
        folder = self._folder(key)
        paths, epoch = [folder / AUX_FILE], None
        if (folder / CHECKPOINTS).is_dir():
            index, shards, epoch = checkpoint_files(folder)
            paths += [index, *shards]
        with os_errors(ZooError, "cannot be read", folder):
            files = {path.name: FileRecord(path.stat().st_size, None) for path in paths}
        return RunRecord.of(files, self.aux(key), epoch)

    def metadata(self, key: RunKey) -> RunMetadata:
        """Return what is known of a run, as `Zoo.metadata`; its checkpoint is converted once for that."""
        if key not in self._metadata:
            self.state(key)
        return self._metadata[key]

    def aux(self, key: RunKey) -> AuxArrays:
        """Return the aux arrays of a run, as `Zoo.aux`."""
        return self._read_aux(key)[0]

    def state(self, key: RunKey) -> dict[str, Tensor]:
        """Return the tensors of a run's network, as `Zoo.state`.

        Raises:
            ZooError: If the run is not there.
            CheckpointError: If its checkpoint is damaged, or of another network.
        """
        state, metadata = convert_run(self._folder(key), self.experiment(key.experiment), key, self.ignore)
        self._metadata[key] = metadata
        return state

    def files(self, key: RunKey) -> RunFiles:
        """Return a run converted, as `Zoo.files`; its aux arrays stay byte for byte."""
        aux, data = self._read_aux(key)
        state = self.state(key)
        return RunFiles.of(self._metadata[key], state, aux, data)

    def read(self, name: str) -> bytes | None:
        """Return None: a tree has no other files than those of runs."""
        return None

    def _read_aux(self, key: RunKey) -> tuple[AuxArrays, bytes]:
        path = self._folder(key) / AUX_FILE
        with os_errors(ZooError, f"{path}: cannot be read"):
            data = read_bounded(path, MAX_AUX)
        return read_aux(data, self.experiment(key.experiment), str(path)), data

    def _folder(self, key: RunKey) -> Path:
        found = self._find(key)
        if found is None:
            raise ZooError(f"run {key} is not in {self.location}")
        return found

    def _find(self, key: RunKey) -> Path | None:
        """Return a run's folder; None if it is not there. One spelled as in a zoo is found without a listing."""
        if key.experiment in self._folders and key.experiment not in self._runs:
            folder = self._folders[key.experiment] / repr(key.subset_ratio) / str(key.run)
            if _holds_run(folder):
                return folder
        return self._listed(key.experiment).get(key)

    def _listed(self, experiment: str) -> dict[RunKey, Path]:
        if experiment not in self._folders:
            return {}
        if experiment not in self._runs:
            runs: dict[RunKey, Path] = {}
            for key, path in run_folders(experiment, self._folders[experiment]):
                if not _holds_run(path):
                    continue
                if key in runs:
                    raise ZooError(f"{path}: holds the same run as {runs[key]}; remove one of them")
                runs[key] = path
            self._runs[experiment] = runs
        return self._runs[experiment]


def _holds_run(folder: Path) -> bool:
    return (folder / CHECKPOINTS).is_dir() or (folder / AUX_FILE).is_file()
