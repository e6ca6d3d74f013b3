"""What folders, buckets and the Hub have in common as places to write."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor

from heldout_torch.errors import ZooError, counted, warn
from heldout_torch.experiments import DEFINITION_FILE, Experiment, check_known, known_experiments, read_declaration
from heldout_torch.storage.listing import ListedFile
from heldout_torch.zoo.aux_arrays import AuxArrays
from heldout_torch.zoo.indexing import Indexed, index_zoo
from heldout_torch.zoo.keys import MODEL_FILE, RunKey
from heldout_torch.zoo.metadata import RunMetadata
from heldout_torch.zoo.records import RunFiles


class WritingZoo(ABC):
    """The part of a `WritableZoo` that is the same for a folder, a bucket and the Hub."""

    location: str
    threads: int

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """Return the contents of a file of the zoo; None if there is none."""

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Write a file of the zoo, as `WritableZoo.write`."""

    @abstractmethod
    def listing(self) -> dict[str, ListedFile]:
        """Return what is known of the zoo's files, by path."""

    @abstractmethod
    def experiment(self, name: str) -> Experiment:
        """Return what an experiment's name means here, as `Zoo.experiment`."""

    @abstractmethod
    def files(self, key: RunKey) -> RunFiles:
        """Return a run's files, as `Zoo.files`."""

    @abstractmethod
    def put_files(self, run: RunFiles, overwrite: bool = False) -> bool:
        """File a run whose files are given, as `WritableZoo.put_files`."""

    @contextmanager
    def space(self, size: int) -> Iterator[None]:
        """Reserve space, as `WritableZoo.space`; buckets and the Hub need none."""
        yield

    def put(
        self, metadata: RunMetadata, state: Mapping[str, Tensor] | None, aux: AuxArrays, overwrite: bool = False
    ) -> bool:
        """File a run, as `WritableZoo.put`."""
        return self.put_files(RunFiles.of(metadata, state, aux), overwrite)

    def declare(self, experiment: Experiment) -> None:
        """Write what an experiment is, as `WritableZoo.declare`."""
        if experiment.name in known_experiments():
            check_known(experiment)
            return
        name = f"{experiment.name}/{DEFINITION_FILE}"
        there = self.read(name)
        if there is None:
            self.write(name, experiment.to_bytes())
            return
        where = f"{self.location}/{name}"
        if difference := read_declaration(experiment.name, there, where).difference(experiment):
            raise ZooError(f"{where}: declares {experiment.name} differently, {difference}; choose another name")

    def index(
        self, threads: int | None = None, progress: Callable[[int, int], object] = lambda done, total: None
    ) -> Indexed:
        """Write the manifest, as `heldout_torch.zoo.indexing.index_zoo`."""
        return index_zoo(self, threads, progress)

    def __exit__(self, kind: object = None, *_: object) -> None:
        """Bring the manifest up to date; after an error in the block, only that one is raised.

        A warning tells of runs that it lacks, since they could not be read.
        """
        try:
            found = index_zoo(self)
        except ZooError:
            if kind is None:
                raise
            return
        if lacking := [why for key, why in found.damaged.items() if key not in found.manifest.runs]:
            warn(
                f"the manifest of {self.location} lacks {counted(len(lacking), 'run')} that cannot be read, such as: "
                f"{lacking[0]}; to look at all runs: heldout zoo index {self.location}",
                stacklevel=0,
            )

    def _what_to_file(self, run: RunFiles, names: frozenset[str] | None, overwrite: bool) -> RunFiles | None:
        """Return what is to lie in the run's place; None if what lies there stays.

        Args:
            run: The run that is filed.
            names: The files of the run that is there; None if none is.
            overwrite: Whether it replaces what is there.
        """
        if names is None or (overwrite and (MODEL_FILE in run.contents or MODEL_FILE not in names)):
            return run
        if overwrite:
            return RunFiles.joined(aux=run, model=self.files(run.metadata.key))
        if MODEL_FILE in run.contents and MODEL_FILE not in names:
            return RunFiles.joined(aux=self.files(run.metadata.key), model=run)
        return None
