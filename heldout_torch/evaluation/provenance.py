"""What evaluations were made of, kept beside them, so that those of another network or data set are made again.

In the zoo that takes the evaluations, `<experiment>/<subset_ratio>/evaluations/<run>.json`:

    {"data": "<SHA-256 of the data set>", "run": "<SHA-256 of the run's files>"}
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from heldout_torch.storage.paths import is_remote
from heldout_torch.zoo.base import WritableZoo, Zoo
from heldout_torch.zoo.keys import RunKey


def run_digest(zoo: Zoo, key: RunKey) -> str:
    """Return a SHA-256, in hexadecimal, that stands for what a run's files hold.

    Files on a disk, which anybody may have changed, are read and compared with the run's record; those of a URL are
    compared when they are fetched. A TensorFlow run is converted, so that it has the digest that it has when exported.

    Raises:
        ZooError: If the run is not there, or is damaged, or its files are not as recorded.
    """
    record = zoo.record(key) if is_remote(zoo.location) else zoo.files(key).record
    if any(file.sha256 is None for file in record.files.values()):
        record = zoo.files(key).record
    named = {name: file.sha256 for name, file in record.files.items()}
    return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()


class Provenance:
    """What the evaluations in a zoo were made of.

    Args:
        zoo: The zoo that is evaluated.
        out: The zoo that takes the evaluations.
        data: Digest of the data set.
        flips: Whether outputs are means over mirror images; None if none are written.
    """

    def __init__(self, zoo: Zoo, out: WritableZoo, data: str, flips: bool | None) -> None:
        self._zoo, self._out, self._data, self._flips = zoo, out, data, flips

    @property
    def of_outputs(self) -> Mapping[str, object]:
        """What all outputs of a folder have in common."""
        return {"data": self._data, "flips": self._flips}

    def differs(self, key: RunKey) -> bool:
        """Return whether what is there was made of another network or data set; not if that is unknown.

        Raises:
            ZooError: If the run cannot be read.
        """
        known = self._out.read(_path(key))
        return known is not None and known != self._bytes(key)

    @contextmanager
    def of(self, key: RunKey) -> Iterator[None]:
        """Keep what a run's evaluation, which the block writes, was made of; one killed in the block is made again."""
        self._out.write(_path(key), b"{}")  # of something else
        yield
        self._out.write(_path(key), self._bytes(key))

    def _bytes(self, key: RunKey) -> bytes:
        return json.dumps({"data": self._data, "run": run_digest(self._zoo, key)}, sort_keys=True).encode()


def _path(key: RunKey) -> str:
    return f"{key.experiment}/{key.subset_ratio!r}/evaluations/{key.run}.json"
