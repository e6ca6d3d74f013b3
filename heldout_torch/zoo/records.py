"""`run.json`, the record of a run: sizes and hashes of its files, accuracies, and metadata.

    {"accuracy": [0.99, 0.84, 0.86],
     "files": {"aux_arrays.npz": [91000, "<sha256>"], "model.safetensors": [7600000, "<sha256>"]},
     "format_version": 1,
     "metadata": {"experiment": "cifar10-inception", "run": 12, "subset_ratio": 0.7, ...}}

It is written last: a run is there when its record is. `metadata` has the fields of `RunMetadata`. If a run has only aux
arrays, statistics can use it, but it cannot be loaded.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from torch import Tensor

from heldout_torch.errors import ZooError, one_line
from heldout_torch.experiments import Experiment
from heldout_torch.storage.kinds import stands_in
from heldout_torch.zoo.aux_arrays import AuxArrays, read_aux
from heldout_torch.zoo.dtypes import DTYPES, named
from heldout_torch.zoo.keys import AUX_FILE, MODEL_FILE, RUN_FILES, RunKey
from heldout_torch.zoo.metadata import RunMetadata
from heldout_torch.zoo.model_file import model_bytes, read_model, read_model_header

RECORD_FILE = "run.json"
AGAIN = "export the run again with --overwrite; if it was trained, remove it and train it again"
TRIES = 10  # to read a run that somebody replaces all the time
MAX_RECORD = 2**16  # bytes; real ones have about a thousand
_VERSION = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class FileRecord:
    """A file's size in bytes and its SHA-256 in hexadecimal digits; None where nobody has hashed it."""

    size: int
    sha256: str | None

    @classmethod
    def of(cls, data: bytes) -> Self:
        """Return the record of a file's contents."""
        return cls(len(data), hashlib.sha256(data).hexdigest())

    def matches(self, data: bytes) -> bool:
        """Return whether these are the file's contents."""
        return len(data) == self.size and hashlib.sha256(data).hexdigest() == self.sha256


@dataclass(frozen=True)
class RunRecord:
    """What the record of a run says about it.

    Attributes:
        files: `aux_arrays.npz`, and `model.safetensors` if the run can be loaded. In a TensorFlow tree or archive the
            files that lie there, unhashed.
        epoch: Epochs trained; None if not known.
        accuracy: Share, 0 to 1, of the train, removed and test examples that it classifies correctly, from its aux
            arrays; None where there are no such examples.
        dtype: As in `RunMetadata`.
    """

    files: dict[str, FileRecord] = field(hash=False)
    epoch: int | None
    accuracy: tuple[float | None, float | None, float | None]
    dtype: str | None = None

    @classmethod
    def of(cls, files: dict[str, FileRecord], aux: AuxArrays, epoch: int | None, dtype: str | None = None) -> Self:
        """Return the record of a run from its files and what they hold."""
        parts = (aux.correctness_train, aux.correctness_removed, aux.correctness_test)
        train, removed, test = (round(float(np.mean(part)), 6) if len(part) else None for part in parts)
        return cls(files, epoch, (train, removed, test), dtype)

    @property
    def size(self) -> int:
        """Bytes of the files."""
        return sum(file.size for file in self.files.values())

    def wrong(self, contents: Mapping[str, bytes]) -> list[str]:
        """Return the names of the files that are not as recorded, with what they are if it is not the run's at all."""
        given = {name: contents.get(name, b"") for name in self.files}
        return [name + stands_in(given[name]) for name, file in self.files.items() if not file.matches(given[name])]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a manifest and a record hold them."""
        files = {name: [file.size, file.sha256] for name, file in sorted(self.files.items())}
        fields = {"accuracy": self.accuracy, "epoch": self.epoch, "files": files}
        return fields if self.dtype is None else {**fields, "dtype": self.dtype}

    @classmethod
    def from_json(cls, record: Any) -> Self:
        """Read the fields as a manifest and a record hold them, trusting nothing.

        Raises:
            ValueError: If they are not as they must be; or KeyError, TypeError or AttributeError.
        """
        files = {name: FileRecord(size, sha256) for name, (size, sha256) in record["files"].items()}
        if set(files) not in ({AUX_FILE}, set(RUN_FILES)):
            raise ValueError(f"a run has files {sorted(map(repr, files))[:3]}")
        for file in files.values():
            if type(file.size) is not int or not 0 <= file.size < 2**62 or not _SHA256.fullmatch(file.sha256 or ""):
                raise ValueError("a file has no size and SHA-256")
        train, removed, test = record["accuracy"]
        for value in (train, removed, test):
            if value is not None and not (type(value) in (int, float) and 0 <= value <= 1):
                raise ValueError("an accuracy is not a share")
        epoch = record["epoch"]
        if epoch is not None and type(epoch) is not int:
            raise ValueError("the epoch is not a number")
        if (dtype := record.get("dtype")) not in (None, *DTYPES):
            raise ValueError(f"a model is stored as {dtype!r:.40}")
        return cls(files, epoch, (train, removed, test), dtype)


@dataclass(frozen=True)
class RunFiles:
    """A run as a zoo keeps it.

    Attributes:
        metadata: What is known of it.
        record: What its record says.
        contents: Contents of the files that the record lists, by name.
    """

    metadata: RunMetadata
    record: RunRecord
    contents: Mapping[str, bytes] = field(hash=False, repr=False)

    @classmethod
    def of(
        cls,
        metadata: RunMetadata,
        state: Mapping[str, Tensor] | None,
        aux: AuxArrays,
        aux_bytes: bytes | None = None,
    ) -> Self:
        """Return the files of a run.

        Args:
            metadata: What is known of the run.
            state: Tensors of its network; None for aux arrays only.
            aux: Its aux arrays.
            aux_bytes: The file that they were read from, which is kept as it is; made by default.
        """
        contents = {AUX_FILE: aux.to_bytes() if aux_bytes is None else aux_bytes}
        if state is not None:
            contents[MODEL_FILE] = model_bytes(state, metadata)
        return cls._hashed(metadata, aux, contents)

    @classmethod
    def unrecorded(cls, contents: Mapping[str, bytes], key: RunKey, experiment: Experiment, where: str) -> Self:
        """Return a run of the old format, which has no record, with the record that it should have.

        Args:
            contents: Contents of its two files.
            key: The run in whose folder they lie.
            experiment: What it belongs to.
            where: What errors call the folder.

        Raises:
            ZooError: If a file is damaged, or another run's.
        """
        aux = read_aux(contents[AUX_FILE], experiment, f"{where}/{AUX_FILE}")
        _, metadata = read_model(contents[MODEL_FILE], key, f"{where}/{MODEL_FILE}")
        return cls._hashed(metadata, aux, contents)

    @classmethod
    def recorded(cls, metadata: RunMetadata, record: RunRecord, contents: Mapping[str, bytes], where: str) -> Self:
        """Return a run whose files are as its record says, and whose model is not another run's.

        Raises:
            ZooError: If the model says that it is another run.
        """
        if MODEL_FILE in contents:
            read_model_header(contents[MODEL_FILE], metadata.key, f"{where}/{MODEL_FILE}")
        return cls(metadata, record, contents)

    @classmethod
    def joined(cls, aux: "RunFiles", model: "RunFiles") -> Self:
        """Return a run with the aux arrays of one and the model of another, which must be of the same subset.

        Raises:
            ZooError: If they were trained on different examples.
        """
        first, second = (AuxArrays.read(run.contents[AUX_FILE]) for run in (aux, model))
        if not np.array_equal(first.trained_on, second.trained_on):
            key = model.metadata.key
            raise ZooError(
                f"run {key}: its aux arrays and its model are of different subsets; replace the run with --overwrite"
            )
        names = {AUX_FILE: aux, MODEL_FILE: model}
        files = {name: run.record.files[name] for name, run in names.items()}
        record = RunRecord(files, model.record.epoch, aux.record.accuracy, model.record.dtype)
        return cls(model.metadata, record, {name: run.contents[name] for name, run in names.items()})

    def stored_as(self, dtype: str | None) -> "RunFiles":
        """Return the run with its model stored in 16 bits; unchanged if it is already, or has no model.

        Args:
            dtype: A name of `heldout_torch.zoo.dtypes.DTYPES`; None for as it is.

        Raises:
            ZooError: If it has lost bits already, or its model is damaged.
        """
        if dtype in (None, self.metadata.dtype) or MODEL_FILE not in self.contents:
            return self
        key = self.metadata.key
        if self.metadata.dtype is not None:
            raise ZooError(f"run {key}: is stored as {named(self.metadata.dtype)}, only float32 becomes {dtype}")
        state, _ = read_model(self.contents[MODEL_FILE], key, f"run {key}/{MODEL_FILE}")
        metadata = replace(self.metadata, dtype=dtype)
        contents = {**self.contents, MODEL_FILE: model_bytes(state, metadata)}
        files = {name: FileRecord.of(data) for name, data in contents.items()}
        return RunFiles(metadata, replace(self.record, files=files, dtype=dtype), contents)

    def in_order(self) -> list[tuple[str, bytes]]:
        """Return names and contents of all files in the order in which they are written: the record last."""
        parts = [(name, self.contents[name]) for name in RUN_FILES if name in self.contents]
        return [*parts, (RECORD_FILE, record_bytes(self.record, self.metadata))]

    @classmethod
    def _hashed(cls, metadata: RunMetadata, aux: AuxArrays, contents: Mapping[str, bytes]) -> Self:
        files = {name: FileRecord.of(data) for name, data in contents.items()}
        return cls(metadata, RunRecord.of(files, aux, metadata.epoch, metadata.dtype), contents)


def record_bytes(record: RunRecord, metadata: RunMetadata) -> bytes:
    """Return the contents of `run.json`; equal runs give equal bytes."""
    table = {**record.to_json(), "format_version": _VERSION, "metadata": metadata.to_record()}
    for name in ("epoch", "dtype"):  # the metadata has them
        table.pop(name, None)
    return json.dumps(table, sort_keys=True).encode() + b"\n"


def read_record(data: bytes, key: RunKey, name: str) -> tuple[RunRecord, RunMetadata]:
    """Read a `run.json`, trusting nothing in it.

    Args:
        data: Its contents.
        key: The run in whose folder it lies.
        name: What errors call the file.

    Raises:
        ZooError: If it is damaged, of a newer format, or another run's.
    """
    try:
        if len(data) > MAX_RECORD:
            raise ValueError(f"more than {MAX_RECORD} bytes")
        table = json.loads(data)
        version = table["format_version"]
        if version != _VERSION:
            raise ZooError(f"{name}: has format version {version!r:.100}, this package reads {_VERSION}; upgrade it")
        metadata = RunMetadata.from_record(table["metadata"], name)
        record = RunRecord.from_json({**table, "epoch": metadata.epoch, "dtype": metadata.dtype})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = stands_in(data) or f" ({type(error).__name__}: {one_line(error)[:100]})"
        raise ZooError(f"{name}: is not a readable record of a run{reason}") from None
    if metadata.key != key:
        raise ZooError(f"{name}: says that it is {metadata.key}, but is in the folder of {key}")
    return record, metadata
