"""Checkpoints written byte by byte, with good checksums and whatever one likes inside."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import google_crc32c
import numpy as np


def masked(data: bytes) -> int:
    """Checksum as TensorFlow stores it."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def varint(value: int) -> bytes:
    """A number of at most 64 bits, base 128; a negative one as its two's complement."""
    value &= 2**64 - 1
    data = bytearray()
    while value >= 0x80:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*data, value])


def block(entries: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A block of a table, without shared prefixes; its trailer follows in `table`."""
    body = b"".join(b"\0" + varint(len(key)) + varint(len(value)) + key + value for key, value in entries)
    return body + bytes(4) + (1).to_bytes(4, "little")


def table(blocks: Sequence[bytes], handles: Sequence[int] | None = None) -> bytes:
    """A table of blocks; `handles` are the numbers of those that its index block names, each once by default."""
    data, places = b"", []
    for one in (*blocks, block([])):
        places.append(varint(len(data)) + varint(len(one)))
        data += one + b"\0" + masked(one + b"\0").to_bytes(4, "little")
    numbers = range(len(blocks)) if handles is None else handles
    index = block((b"%08d" % i, places[number]) for i, number in enumerate(numbers))
    footer = places[-1] + varint(len(data)) + varint(len(index))
    data += index + b"\0" + masked(index + b"\0").to_bytes(4, "little")
    return data + footer.ljust(40, b"\0") + (0xDB4775248B80FB57).to_bytes(8, "little")


def entry(shape: Sequence[int], size: int, offset: int = 0, crc: int = 0, dtype: int = 1) -> bytes:
    """A BundleEntryProto."""
    sizes = b"".join(b"\x12" + varint(len(one)) + one for one in (b"\x08" + varint(size) for size in shape))
    numbers = ((1, dtype), (3, 0), (4, offset), (5, size))
    fields = b"".join(bytes([number << 3]) + varint(value) for number, value in numbers)
    return fields + b"\x12" + varint(len(sizes)) + sizes + b"\x35" + crc.to_bytes(4, "little")


HEADER = (b"", b"\x08\x01")  # one shard


SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
_DTYPES = {"float32": 1, "int32": 3, "int64": 9}


def bundle(arrays: Mapping[str, np.ndarray]) -> tuple[bytes, bytes]:
    """Index and data of a good checkpoint, keys in order."""
    entries, data = [HEADER], b""
    for key, array in arrays.items():
        contents, dtype = array.tobytes(), _DTYPES[str(array.dtype)]
        entries.append((key.encode(), entry(array.shape, len(contents), len(data), masked(contents), dtype)))
        data += contents
    return table([block(entries)]), data


def write_bundle(prefix: Path, variables: Mapping[str, np.ndarray]) -> None:
    """Write the files of a good checkpoint; names get the ending of variables."""
    index, data = bundle({name + SUFFIX: variables[name] for name in sorted(variables)})
    Path(f"{prefix}.index").write_bytes(index)
    Path(f"{prefix}.data-00000-of-00001").write_bytes(data)
