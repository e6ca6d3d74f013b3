"""npz and npy files: read with every size checked before memory is taken, never unpickled; written reproducibly.

An npz file is a zip file of npy files; an npy file is a short header and the array's bytes (NEP 1 of NumPy).
"""

import errno
import io
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from heldout_torch.errors import DataError, HeldoutError, listed, one_line
from heldout_torch.storage.files import open_plain, write_pieces
from heldout_torch.storage.kinds import HEAD, kind_of

# How much arrays may take where the caller knows no better: deflated zeros shrink 1,000 times, real arrays never 64.
_FREE_BYTES, _TIMES_FILE = 2**26, 64
_MAX_MEMBERS_BYTES = 2**22  # of a zip file's list of members; 3,000 of them take 0.3 MB
_PIECE = 2**22  # bytes that are read at once
_MAX_HEADER = 10_000  # as NumPy
_MAGIC = b"\x93NUMPY"
_HEADER = re.compile(
    r"""\{(?:\s*(?:['"]descr['"]:\s*['"](?P<dtype>[<>=|]?(?:[a-zA-Z]\d{0,9}|\?))['"]
               |['"]fortran_order['"]:\s*(?P<fortran>True|False)
               |['"]shape['"]:\s*\((?P<shape>[\dL,\ ]{0,1000})\)),?){3}\s*\}\s*""",
    re.VERBOSE,
)  # in any order; Python 2 wrote sizes as 10L
# What zipfile, zlib and dtypes raise on damaged bytes.
_DAMAGE = (
    ValueError, TypeError, EOFError, KeyError, IndexError, OverflowError, RuntimeError, struct.error, zlib.error,
    zipfile.BadZipFile,
)  # fmt: skip

Objects = Callable[[bytes, tuple[int, ...]], np.ndarray]


def read_npz(
    source: str | Path | bytes,
    name: str | None = None,
    wanted: Iterable[str] | None = None,
    optional: Iterable[str] = (),
    *,
    max_bytes: int | None = None,
    error: type[HeldoutError] = DataError,
    objects: Objects | None = None,
) -> dict[str, np.ndarray]:
    """Read arrays of numbers and text from an npz file; nothing in it is ever unpickled.

    Args:
        source: The file, or its contents.
        name: What errors call it; the path by default.
        wanted: Names of the arrays that must be there. None for every array of the file.
        optional: Names of arrays that are read if they are there. All others stay unread, whatever they hold.
        max_bytes: How much the arrays read may take together; by default the larger of 64 MiB and 64 times the file.
        error: Class of the errors raised.
        objects: Makes an array of an array of Python objects: called with its pickle, as bytes to be parsed, and its
            shape. Without it such arrays are refused.

    Returns:
        The arrays by name, in the machine's byte order, writable.

    Raises:
        HeldoutError: Of the class asked for: if the file cannot be read, is damaged, lacks an array, or has one that
            is too large or not of numbers or text.
    """
    name = name or ("npz file" if isinstance(source, bytes) else str(source))
    with _errors_as(error, name, "npz file"), _open(source) as file, _zip_file(file) as archive:
        members = _members(archive)
        names = list(members) if wanted is None else list(wanted)
        if missing := [array for array in names if array not in members]:
            there = listed(sorted(members)) or "no array"
            raise error(f"{name}: has no {', '.join(sorted(missing))}, only {there}")
        names += [array for array in optional if array in members and array not in names]
        limit = max(_FREE_BYTES, _TIMES_FILE * file.seek(0, io.SEEK_END)) if max_bytes is None else max_bytes
        if (total := sum(members[array].file_size for array in names)) > limit:
            raise error(f"{name}: unpacks to {total} bytes, more than the largest size expected, {limit}")
        arrays = {}
        for array in names:
            member = members[array]
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise zipfile.BadZipFile(f"{array} is compressed in another way than NumPy does")
            with archive.open(member) as data:
                arrays[array] = _read_array(data, member.file_size, array, objects)
        return arrays


def read_names(path: Path) -> list[str]:
    """Return the names of the arrays in an npz file, in order; errors are as those of `read_npz`."""
    with _errors_as(DataError, path, "npz file"), _open(path) as file, _zip_file(file) as archive:
        return list(_members(archive))


def describe_npz(source: bytes, name: str) -> dict[str, str]:
    """Return what the arrays of an npz file are, such as `float32 (100, 3)`, by name and in order; none is read.

    Arguments and errors are as those of `read_npz`.
    """
    found = {}
    with _errors_as(DataError, name, "npz file"), _open(source) as file, _zip_file(file) as archive:
        for array, member in _members(archive).items():
            try:
                with archive.open(member) as data:
                    shape, _, dtype, _ = _read_header(data, array)
                found[array] = f"{dtype} {shape}"
            except _DAMAGE as cause:
                found[array] = f"no array ({one_line(cause)[:200]})"
    return found


def read_npy(source: Path | bytes) -> np.ndarray:
    """Read an npy file; nothing in it is ever unpickled. Arguments, result and errors are as those of `read_npz`."""
    name = "npy file" if isinstance(source, bytes) else str(source)
    with _errors_as(DataError, name, "npy file"), _open(source) as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        return _read_array(file, size, "it", None)


def map_npy(path: Path) -> np.ndarray:
    """Map an array of an npy file into memory, to be read only; where the file system maps no files, read it.

    Raises:
        DataError: If it is missing, damaged, or holds something else than numbers or text.
    """
    with _errors_as(DataError, path, "npy file"), open(path, "rb", opener=open_plain) as file:
        size = os.fstat(file.fileno()).st_size
        shape, fortran, dtype, header = _read_header(file, path.name)
        _check_array(shape, dtype, size - header, path.name)
        if size > header:
            try:
                return np.memmap(file, dtype, "r", header, shape, "F" if fortran else "C")
            except OSError as error:
                if error.errno not in (errno.ENODEV, errno.ENOSYS, errno.EINVAL):
                    raise
        file.seek(0)
        return _read_array(file, size, path.name, None)


def write_npy(path: Path, array: np.ndarray) -> None:
    """Write an npy file of a `new_folder`: `np.save` does not notice that the disk is full at the last bytes.

    Raises:
        OSError: If it cannot be written.
    """
    array = np.ascontiguousarray(array)
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        write_pieces(file, array.reshape(-1).view(np.uint8).data)


def npz_bytes(arrays: Mapping[str, np.ndarray], compress: bool = False) -> bytes:
    """Return the contents of an npz file; the same arrays give the same bytes.

    Args:
        arrays: Arrays of numbers or text by name.
        compress: Whether to deflate them.

    Raises:
        ValueError: If an array holds Python objects.
    """
    buffer = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            data = io.BytesIO()
            np.save(data, array, allow_pickle=False)
            # A ZipInfo of its own, or the time of writing would go into the file.
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), data.getbuffer(), method)
    return buffer.getvalue()


class _BoundedReader(io.BufferedReader):
    """A file that is read in pieces only: zipfile reads the list of members at once, as long as that says it is."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > max(_MAX_MEMBERS_BYTES, _PIECE):
            raise zipfile.BadZipFile("its list of members is too long")
        return super().read(_MAX_MEMBERS_BYTES if size is None or size < 0 else size)


@contextmanager
def _errors_as(error: type[HeldoutError], name: str | Path, what: str) -> Iterator[None]:
    """Raise what goes wrong with a file, or because it is damaged, as one line of the class asked for."""
    try:
        yield
    except OSError as cause:
        raise error(f"{name}: cannot be read ({cause.strerror or cause})") from None
    except _DAMAGE as cause:
        raise error(f"{name}: is not a readable {what} ({one_line(cause)[:200]})") from None


def _open(source: str | Path | bytes) -> IO[bytes]:
    raw = io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb", 0, opener=open_plain)  # noqa: SIM115
    return _BoundedReader(raw)  # type: ignore[arg-type]


def _zip_file(file: IO[bytes]) -> zipfile.ZipFile:
    """Open a zip file; if it is not one, the error says what it is."""
    try:
        return zipfile.ZipFile(file)
    except zipfile.BadZipFile as cause:
        if str(cause) != "File is not a zip file":
            raise
        file.seek(0)
        kind = kind_of(file.read(HEAD))
        why = "it was cut short, or is damaged" if kind.startswith("a zip file") else f"it is {kind}"
        raise zipfile.BadZipFile(why) from None


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    members = {}
    for member in archive.infolist():
        if member.filename.endswith(".npy"):
            array = member.filename.removesuffix(".npy")
            if array in members:
                raise zipfile.BadZipFile(f"it holds {array!r} twice")
            members[array] = member
    return members


def _read_array(file: IO[bytes], size: int, name: str, objects: Objects | None) -> np.ndarray:
    """Read an npy file of `size` bytes, as much as its header says and no more."""
    shape, fortran, dtype, header = _read_header(file, name)
    if dtype.hasobject and objects is not None:
        return objects(_read(file, size - header), shape)
    _check_array(shape, dtype, size - header, name)
    array = np.empty(math.prod(shape), dtype)
    if array.nbytes:
        _read_into(file, array.view(np.uint8).data)
    array = array.astype(dtype.newbyteorder("="), copy=False)
    return array.reshape(shape, order="F" if fortran else "C")


def _check_array(shape: tuple[int, ...], dtype: np.dtype, size: int, name: str) -> None:
    if dtype.kind not in "biufcSU" or not dtype.itemsize:
        raise ValueError(f"{name} holds {dtype}, expected numbers or text")
    if math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f"{name} has {size} bytes, but its shape is {shape} of {dtype}")


def _read_header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Read what precedes the bytes of an array: shape, whether the first axis varies fastest, dtype, bytes read."""
    start = _read(file, 10)
    if start[:6] != _MAGIC:
        raise ValueError(f"{name} does not begin like a NumPy array, but is {kind_of(start)}")
    if start[6] not in (1, 2, 3):
        raise ValueError(f"{name} is in version {start[6]} of NumPy's format, expected 1, 2 or 3")
    length, before = int.from_bytes(start[8:10], "little"), 10
    if start[6] > 1:
        length, before = length + (int.from_bytes(_read(file, 2), "little") << 16), 12
    if length > _MAX_HEADER:
        raise ValueError(f"{name} has a header of {length} bytes")
    found = _HEADER.fullmatch(_read(file, length).decode("latin-1"))
    if found is None or None in found.groups():
        raise ValueError(f"{name} has a header that cannot be read, or records")
    sizes = [size.strip().removesuffix("L") for size in found["shape"].split(",")]
    shape = tuple(int(size) for size in sizes if size)
    return shape, found["fortran"] == "True", np.dtype(found["dtype"]), before + length


def _read(file: IO[bytes], size: int) -> bytes:
    data = bytearray(size)
    _read_into(file, memoryview(data))
    return bytes(data)


def _read_into(file: IO[bytes], target: memoryview) -> None:
    position = 0
    while position < len(target):
        piece = file.read(min(_PIECE, len(target) - position))
        if not piece:
            raise EOFError("it ends too early")
        target[position : position + len(piece)] = piece
        position += len(piece)
