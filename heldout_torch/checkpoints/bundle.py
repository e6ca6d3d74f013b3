"""TensorFlow's checkpoint format, the tensor bundle: one index file and the data shards beside it.

The index is a table (see `table`) of protocol buffers: key "" holds BundleHeaderProto, every other key the
BundleEntryProto of a tensor (tensorflow/core/protobuf/tensor_bundle.proto).
"""

import functools
import glob
import math
import re
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

import numpy as np

from heldout_torch.checkpoints.crc import check_crc
from heldout_torch.checkpoints.table import MAX_BYTES, read_table
from heldout_torch.checkpoints.wire import as_bytes, as_int, read_message
from heldout_torch.errors import CheckpointError, os_errors
from heldout_torch.storage.files import open_plain
from heldout_torch.storage.kinds import HEAD, stands_in

# Numbers of tensorflow/core/framework/types.proto. NumPy has no bfloat16 and no 8-bit floats: those come as their bits.
_DTYPES = {
    1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 8: "complex64", 9: "int64",
    10: "bool", 11: "int8", 12: "uint8", 13: "int32", 14: "uint16", 15: "int16", 16: "uint16", 17: "uint16",
    18: "complex128", 19: "float16", 22: "uint32", 23: "uint64", 24: "uint8", 25: "uint8",
}  # fmt: skip
_MAX_DIMENSIONS = 64  # what NumPy can hold; TensorFlow stops at 254


class Entry(NamedTuple):
    """Where one tensor lies, from its BundleEntryProto.

    Attributes:
        dtype: NumPy's name of the element type; None for strings and other types without numbers.
        shape: Sizes of the dimensions; () for a scalar.
        shard: Number of the data file.
        offset: First byte in that file.
        size: Number of bytes.
        crc: Masked CRC-32C of those bytes.
        sliced: Whether the variable is partitioned, its parts stored under other keys.
    """

    dtype: str | None
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    sliced: bool


Shard = bytes | BinaryIO


class Checkpoint(Mapping[str, np.ndarray]):
    """Tensors of one TensorFlow checkpoint by key, each read and checked when it is asked for.

    Iteration yields the keys of numeric tensors; `entries` has the others, too.
    Arrays are read-only; they are views of shards that are given as bytes, and otherwise in memory of their own: a file
    that changes later changes no array, and one that is cut short is an error. Not for several threads at once.
    bfloat16 comes as uint16 and 8-bit floats as uint8: their bits.
    """

    def __init__(self, index: bytes, shards: Sequence[Shard], name: str = "checkpoint") -> None:
        """Read the index of a checkpoint.

        Args:
            index: Contents of the `.index` file.
            shards: The data files in order, each as bytes, or as an object with seek and read.
            name: What errors call the checkpoint.

        Raises:
            CheckpointError: If the index is damaged or asks for other shards.
        """
        self.name = name
        self._shards = shards
        try:
            table = read_table(index)
            if b"" not in table:
                raise CheckpointError("the table holds no bundle header")
            self._check_header(table.pop(b""))
            # The keys of slices are not text.
            self.entries = {key.decode(errors="backslashreplace"): _read_entry(value) for key, value in table.items()}
            if len(self.entries) < len(table):
                raise CheckpointError("two keys have the same name")
        except CheckpointError as error:
            raise CheckpointError(f"{name}.index: {error}") from None
        self._sizes = [_size(shard) for shard in shards]
        self._numeric = [key for key, entry in self.entries.items() if entry.dtype is not None]

    @classmethod
    def open(cls, prefix: str | Path) -> Self:
        """Open the checkpoint whose files are `<prefix>.index` and `<prefix>.data-00000-of-0000N`.

        The data files stay open as long as the checkpoint is in use, and are read tensor by tensor.

        Raises:
            CheckpointError: If a file is missing or the index is damaged.
        """
        prefix = Path(prefix)
        index = prefix.with_name(prefix.name + ".index")
        paths = shard_paths(prefix)
        with ExitStack() as files:
            with os_errors(CheckpointError, "cannot be read", index):
                with open(index, "rb", opener=open_plain) as file:
                    table = file.read(MAX_BYTES + 1)
                shards = [files.enter_context(open(path, "rb", 0, opener=open_plain)) for path in paths]
            checkpoint = cls(table, shards, str(prefix))
            weakref.finalize(checkpoint, files.pop_all().close)
            return checkpoint

    def __getitem__(self, key: str) -> np.ndarray:
        """Read one tensor.

        Raises:
            KeyError: If there is no such tensor.
            CheckpointError: If its bytes are damaged or missing, or it is not an array of numbers.
        """
        entry = self.entries[key]
        what = f"{self.name}: {key}"
        if entry.sliced:
            raise CheckpointError(f"{what} is a sliced (partitioned) variable, which is not supported")
        if entry.dtype is None:
            raise CheckpointError(f"{what} is not a tensor of numbers")
        dtype = np.dtype(entry.dtype)
        if math.prod(size or 1 for size in entry.shape) * dtype.itemsize >= 2**63:
            raise CheckpointError(f"{what} has shape {entry.shape}, which is too large")
        if entry.size != math.prod(entry.shape) * dtype.itemsize:
            raise CheckpointError(f"{what} has {entry.size} bytes, but its shape is {entry.shape} of {dtype}")
        if entry.shard >= len(self._shards) or entry.offset + entry.size > self._sizes[entry.shard]:
            raise CheckpointError(
                f"{what} ends at byte {entry.offset + entry.size} of data shard {entry.shard}, which is shorter"
                f"{self._instead_of(entry.shard)}"
            )
        data = _bytes_of(self._shards[entry.shard], entry.offset, entry.size)  # (size,) uint8
        if len(data) != entry.size:
            raise CheckpointError(f"{what}: data shard {entry.shard} is shorter than it was")
        check_crc(data, entry.crc, what)
        return data.view(dtype).reshape(entry.shape) if entry.size else np.empty(entry.shape, dtype)

    def _instead_of(self, shard: int) -> str:
        if shard >= len(self._shards):
            return ""
        return stands_in(_bytes_of(self._shards[shard], 0, min(self._sizes[shard], HEAD)).tobytes())

    def __iter__(self) -> Iterator[str]:
        return iter(self._numeric)

    def __len__(self) -> int:
        return len(self._numeric)

    def __contains__(self, key: object) -> bool:
        entry = self.entries.get(key) if isinstance(key, str) else None
        return entry is not None and entry.dtype is not None

    def _check_header(self, data: bytes) -> None:
        fields = dict(read_message(data))
        if as_int(fields.get(2, 0)) != 0:
            raise CheckpointError("the checkpoint is big-endian, which is not supported")
        shards = as_int(fields.get(1, 0))
        if shards != len(self._shards):
            raise CheckpointError(f"the checkpoint has {shards} data shards, but {len(self._shards)} are here")


def shard_paths(prefix: Path) -> list[Path]:
    """Find the data files of a checkpoint.

    Returns:
        All N paths of `<prefix>.data-*-of-*N*` in order, of which some may not exist.

    Raises:
        CheckpointError: If there is none, or files of several N.
    """
    files = prefix.parent.glob(f"{glob.escape(prefix.name)}.data-?????-of-?????")
    found = {path.name.rpartition("-of-")[2] for path in files}
    if len(found) != 1 or not re.fullmatch("[0-9]{5}", count := found.pop()):
        raise CheckpointError(f"{prefix}: expected the files of one {prefix.name}.data-00000-of-0000N beside the index")
    return [prefix.with_name(f"{prefix.name}.data-{i:05d}-of-{count}") for i in range(int(count))]


def _read_entry(data: bytes) -> Entry:
    dtype = shard = offset = size = crc = 0
    shape: tuple[int, ...] = ()
    sliced = False
    for number, value in read_message(data):
        if number == 1:
            dtype = as_int(value)
        elif number == 2:
            shape = _read_shape(as_bytes(value))
        elif number == 3:
            shard = as_int(value)
        elif number == 4:
            offset = as_int(value)
        elif number == 5:
            size = as_int(value)
        elif number == 6:
            crc = as_int(value)
        elif number == 7:
            sliced = True
    return Entry(_DTYPES.get(dtype), shape, shard, offset, size, crc, sliced)


@functools.lru_cache(maxsize=1024)  # a network has few shapes, each many times
def _read_shape(data: bytes) -> tuple[int, ...]:
    sizes = []
    for number, value in read_message(data):
        if number == 2:
            size = as_int(dict(read_message(as_bytes(value))).get(1, 0))
            if size >= 2**63:
                raise CheckpointError("a tensor has a dimension of unknown size")
            sizes.append(size)
    if len(sizes) > _MAX_DIMENSIONS:
        raise CheckpointError(f"a tensor has {len(sizes)} dimensions, at most {_MAX_DIMENSIONS} are supported")
    return tuple(sizes)


def _size(shard: Shard) -> int:
    if isinstance(shard, bytes):
        return len(shard)
    return shard.seek(0, 2)


def _bytes_of(shard: Shard, offset: int, size: int) -> np.ndarray:
    if isinstance(shard, bytes):
        return np.frombuffer(shard, np.uint8, count=size, offset=offset) if size else np.empty(0, np.uint8)
    shard.seek(offset)
    return np.frombuffer(shard.read(size), np.uint8)
