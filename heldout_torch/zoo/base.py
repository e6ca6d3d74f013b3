"""The protocols of places: every place that holds runs is a `Zoo`; one that runs can be written to, a `WritableZoo`.

A run is there when its record is (`heldout_torch.zoo.records`). A TensorFlow tree or archive has no records; there the
checkpoint takes the place of the record. `heldout_torch.zoo.open.open_zoo` finds out what kind of place a location is.
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
        threads: A good number of simultaneous reads.
    """

    location: str
    threads: int

    def keys(self, experiment: str | None = None) -> list[RunKey]:
        """Return the keys of the runs that are there, in order; only those of one experiment if it is given.

        Raises:
            ZooError: If the place cannot be listed.
        """
        ...

    def __contains__(self, key: RunKey) -> bool:
        """Return whether a run is there, as `keys` would say, without listing the other runs."""
        ...

    def experiment(self, name: str) -> Experiment:
        """Return the experiment of a name, as the package or this place declares it.

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
        """Return the metadata of a run.

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

        A zoo returns the stored bytes, checked against the record; a TensorFlow run is converted.

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
    """A zoo that runs can be written to.

    Write runs within a `with` block. At the end of the block, however it ends, the manifest is brought up to date.
    """

    def put(
        self, metadata: RunMetadata, state: Mapping[str, Tensor] | None, aux: AuxArrays, overwrite: bool = False
    ) -> bool:
        """Store a run; a reader sees it whole or not at all.

        Args:
            metadata: The metadata of the run, which include its key.
            state: The network's tensors. None for a run with aux arrays only: statistics can use it, but it cannot be
                loaded.
            aux: Its aux arrays, valid.
            overwrite: Replace a run that is there. Otherwise it stays; if it has only aux arrays, and `state` is given,
                the model is added to it.

        Returns:
            Whether anything was written.

        Raises:
            ZooError: If the place cannot be written.
        """
        ...

    def put_files(self, run: RunFiles, overwrite: bool = False) -> bool:
        """Store a run from its files, as `Zoo.files` of another zoo returns them; else as `put`.

        Raises:
            ZooError: If the place cannot be written.
        """
        ...

    def missing(self, keys: Iterable[RunKey], model: bool = True) -> list[RunKey]:
        """Return those of the given runs that are not there, or, if `model` is true, have only aux arrays.

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
        """Reserve space for runs that are still to be computed, so that a full disk stops the work before it starts.

        Args:
            size: Bytes; released when the block ends.

        Raises:
            UnwritableError: On entering the block, if the disk or a quota has less space.
        """
        ...

    def declare(self, experiment: Experiment) -> None:
        """Write the declaration of an experiment, unless the package or this zoo declares it already.

        Raises:
            ZooError: If this zoo or the package declares it differently, or the place cannot be written.
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

    def __enter__(self) -> Self:
        """Begin to write. Raises ZooError if the place cannot be written."""
        ...

    def __exit__(self, *_: object) -> None:
        """Bring the manifest up to date."""
        ...
