"""What a place that holds runs can do. Every place is a `Zoo`; a place that takes runs is a `WritableZoo`.

A run is there when its record is (`heldout_torch.zoo.records`); in a TensorFlow tree or archive the checkpoint stands
for the record. `open_zoo` in `heldout_torch.zoo.open` finds which of them a location is.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol, Self

from torch import Tensor

from heldout_torch.experiments import Experiment
from heldout_torch.zoo.aux_arrays import AuxArrays
from heldout_torch.zoo.indexing import Indexed
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.metadata import RunMetadata
from heldout_torch.zoo.records import RunFiles, RunRecord


class Zoo(Protocol):
    """A place that holds runs: a folder, a bucket, a web server, a TensorFlow tree, an indexed archive.

    Zoos can be pickled, and used by several threads at once.

    Attributes:
        location: Path or URL, as messages name it.
        threads: How many reads at once serve it well.
    """

    location: str
    threads: int

    def keys(self, experiment: str | None = None) -> list[RunKey]:
        """Return the runs that are there, in order; only those of one experiment if it is named.

        Raises:
            ZooError: If the place cannot be listed.
        """
        ...

    def __contains__(self, key: RunKey) -> bool:
        """Return whether a run is there: the same meaning as `keys`, for one run, without listing the others."""
        ...

    def experiment(self, name: str) -> Experiment:
        """Return what an experiment's name means here.

        Raises:
            ZooError: If neither the package nor this place declares it.
        """
        ...

    def record(self, key: RunKey) -> RunRecord:
        """Return the record of a run: its files, accuracies and metadata.

        Raises:
            ZooError: If the run is not there, or is damaged.
        """
        ...

    def metadata(self, key: RunKey) -> RunMetadata:
        """Return what is known of a run.

        Raises:
            ZooError: If the run is not there, or is damaged.
        """
        ...

    def aux(self, key: RunKey) -> AuxArrays:
        """Return the aux arrays of a run, checked against its experiment.

        Raises:
            ZooError: If the run is not there, or its aux arrays are damaged or about another data set.
        """
        ...

    def state(self, key: RunKey) -> dict[str, Tensor]:
        """Return the tensors of a run's network, on the CPU, in memory of their own.

        Raises:
            ZooError: If the run is not there, has aux arrays only, or is damaged.
        """
        ...

    def files(self, key: RunKey) -> RunFiles:
        """Return a run's files as a zoo keeps them, for copying.

        From a zoo these are the bytes that lie there, checked against its record; a TensorFlow run is converted.

        Raises:
            ZooError: If the run is not there, or is damaged.
        """
        ...

    def read(self, name: str) -> bytes | None:
        """Return the contents of a file that belongs to no run; None if there is none.

        Args:
            name: Path below the location, such as `cifar10-inception/archive.json`.
        """
        ...


class WritableZoo(Zoo, Protocol):
    """A zoo that takes runs.

    Runs are put into it within a `with` block, which leaves an up-to-date manifest behind, however it ends.
    """

    def put(
        self, metadata: RunMetadata, state: Mapping[str, Tensor] | None, aux: AuxArrays, overwrite: bool = False
    ) -> bool:
        """File a run; a reader sees it whole or not at all.

        Args:
            metadata: What is known of the run; names it, too.
            state: The network's tensors; None for a run with aux arrays only, which can be counted and not loaded.
            aux: Its aux arrays, valid.
            overwrite: Replace what is there. Otherwise a run that is there stays; if it has aux arrays only, and the
                state is given, the model is added to it.

        Returns:
            Whether anything was written.

        Raises:
            ZooError: If the place cannot be written.
        """
        ...

    def put_files(self, run: RunFiles, overwrite: bool = False) -> bool:
        """File a run whose files are given, as `put`; what `Zoo.files` returns of another zoo.

        Raises:
            ZooError: If the place cannot be written.
        """
        ...

    def missing(self, keys: Iterable[RunKey], model: bool = True) -> list[RunKey]:
        """Return those of some runs that are not there, or, if a model is wanted, have aux arrays only.

        Raises:
            ZooError: If the place cannot be listed.
        """
        ...

    def index(
        self, threads: int | None = None, progress: Callable[[int, int], object] = lambda done, total: None
    ) -> Indexed:
        """Write the manifest, and the records that runs of the old format lack.

        Args:
            threads: Number of runs read at once; what serves the place well by default.
            progress: Called with the numbers of runs done and in all.

        Raises:
            ZooError: If the zoo cannot be read or written, or an experiment in it is not declared.
        """
        ...

    def space(self, size: int) -> AbstractContextManager[None]:
        """Hold space for runs that are still computed, so that the work stops before it, not with nothing to show.

        Args:
            size: Bytes; free again when the block ends.

        Raises:
            UnwritableError: On entering, if the disk or a quota does not have it.
        """
        ...

    def declare(self, experiment: Experiment) -> None:
        """Write what an experiment is, unless the package knows it or it is declared here already.

        Raises:
            ZooError: If it is declared otherwise, here or by the package, or the place cannot be written.
        """
        ...

    def write(self, name: str, data: bytes) -> None:
        """Write a file of the zoo that belongs to no run, atomically.

        Args:
            name: Path below the location, such as `cifar10-inception/archive.json`.
            data: Its contents.

        Raises:
            ZooError: If the place cannot be written.
        """
        ...

    def remove(self, name: str) -> None:
        """Remove such a file, if it is there."""
        ...

    def __enter__(self) -> Self:
        """Begin to write. Raises ZooError if the place cannot be written."""
        ...

    def __exit__(self, *_: object) -> None:
        """Bring the manifest up to date."""
        ...
