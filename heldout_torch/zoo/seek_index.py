"""A seek index beside an archive, `<archive>.seek`, through which one run is read without reading what lies before it.

Format, numbers little-endian: the 8 bytes `HELDOUT1`, the length of the table (uint64), the table (JSON, compressed by
gzip), then a window of 32 KiB for each point that has one. A point is where inflating can begin: compressed byte,
inflated byte, bits of the byte before that still belong to it (RFC 1951 blocks do not end at bytes), and the CRC-32 of
its window, the inflated bytes before it that the compressed ones refer to; null at the start of a gzip stream.
"""

import bisect
import gzip
import io
import json
import os
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from heldout_torch.errors import ZooError
from heldout_torch.zoo.experiments import Experiment
from heldout_torch.zoo.files import new_file
from heldout_torch.zoo.filesystem import check_ranges, read_range
from heldout_torch.zoo.layout import RunKey, make_key
from heldout_torch.zoo.tar_stream import read_members, run_limit

INDEX_ENDING = ".seek"
_MAGIC = b"HELDOUT1"
_WINDOW = 2**15  # how far back deflate refers
_SPACING = 2**23  # inflated bytes between points: windows are then 0.4 % of them
_ROTATE = 2**30  # inflated bytes after which collected windows go from memory to disk
_READ = 2**21  # compressed bytes asked for at a time
_BUFFER = 2**26  # inflated bytes asked for at a time; indexed_gzip begins each request at the last point
_GZIDX = struct.Struct("<5sBBQQIII")  # indexed_gzip's file of points: name, version, 0, sizes, spacing, window, points
_POINT = struct.Struct("<QQBB")  # compressed and inflated byte, bits, whether it has a window

Point = tuple[int, int, int, int | None]


@dataclass(frozen=True)
class SeekIndex:
    """What an index says, without its windows.

    Attributes:
        size: Bytes of the archive.
        trailer: Its last 8 bytes, in which gzip keeps the CRC-32 and size of the contents.
        inflated: Bytes of the tar stream.
        points: See the module, in order.
        runs: By run, where each of its files begins in the tar stream and its size.
        windows_at: Where the windows begin in the index file.
    """

    size: int
    trailer: str
    inflated: int
    points: list[Point]
    runs: dict[RunKey, dict[str, tuple[int, int]]]
    windows_at: int


def build_index(archive: Path, progress: Callable[[int], object] = lambda count: None) -> SeekIndex:
    """Read an archive once and write its index beside it, atomically.

    Args:
        archive: A local file.
        progress: Called with every number of compressed bytes read.

    Raises:
        ZooError: If the archive cannot be read or is damaged, or holds no runs, or indexed_gzip is missing.
    """
    try:
        with open(archive, "rb") as file, tempfile.TemporaryFile(dir=archive.parent) as windows:
            stream = _IndexingStream(file, windows)
            runs: dict[RunKey, dict[str, tuple[int, int]]] = {}
            done = 0
            for member in read_members(io.BufferedReader(stream), str(archive)):
                if member.key is not None and member.part is not None and member.refused is None:
                    runs.setdefault(member.key, {})[member.part] = (member.offset, member.size)
                progress(file.tell() - done)
                done = file.tell()
            if not runs:
                raise ZooError(f"{archive}: holds no runs (<experiment>/<subset_ratio>/<run>/...)")
            size = file.seek(-8, os.SEEK_END) + 8
            index = SeekIndex(size, file.read(8).hex(), stream.position, stream.points, runs, 0)
            return _write(archive, index, windows)
    except OSError as error:
        raise ZooError(f"{error.filename or archive}: {error.strerror}") from None


def read_index(archive: str) -> SeekIndex:
    """Read the table of an archive's index and check that it is this archive's.

    Args:
        archive: Path or URL of the archive; the index lies beside it.

    Raises:
        ZooError: If there is no index, or it is damaged or another archive's.
    """
    name = archive + INDEX_ENDING
    try:
        head = read_range(name, 0, 16)
    except FileNotFoundError:
        raise ZooError(f"{name}: there is no seek index; make it with: heldout archive index ARCHIVE") from None
    try:
        magic, length = struct.unpack("<8sQ", head)
        if magic != _MAGIC:
            raise ValueError("not an index of this format")
        table = json.loads(gzip.decompress(read_range(name, 16, 16 + length)))
        runs = {}
        for key, files in table["runs"].items():
            experiment, ratio, run = key.split("/")
            runs[make_key(experiment, float(ratio), int(run))] = {
                part: (int(offset), int(size)) for part, (offset, size) in files.items()
            }
        points = [(int(c), int(i), int(bits), None if crc is None else int(crc)) for c, i, bits, crc in table["points"]]
        index = SeekIndex(int(table["size"]), table["trailer"], int(table["inflated"]), points, runs, 16 + length)
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, OSError, struct.error, zlib.error) as error:
        raise ZooError(f"{name}: is no readable seek index ({error}); make it again") from None
    try:
        check_ranges(archive, index.size)
        trailer = read_range(archive, index.size - 8, index.size + 1)
    except FileNotFoundError:
        raise ZooError(f"{archive}: there is no such archive") from None
    if trailer.hex() != index.trailer:
        raise ZooError(f"{name}: is the index of another archive than {archive}; make it again")
    return index


def read_files(archive: str, index: SeekIndex, key: RunKey, experiment: Experiment) -> dict[str, bytes]:
    """Read a run's files out of an archive.

    Args:
        archive: Path or URL.
        index: What `read_index` gave for it.
        key: One of the index's runs.
        experiment: What the run belongs to, which says how large it can be.

    Returns:
        Contents by file name.

    Raises:
        ZooError: If archive or index are damaged, or indexed_gzip is missing.
    """
    if sum(size for _, size in index.runs[key].values()) > run_limit(experiment):
        raise ZooError(f"{archive}: {key} is larger than a run of {experiment.name} can be")
    places = sorted(index.runs[key].items(), key=lambda place: place[1])
    needed = {0} | {_point_before(index, offset) for _, (offset, _) in places} if index.points else set()
    points = [index.points[i] for i in sorted(needed)]
    windows = [_window(archive, index, i) for i in sorted(needed)]
    gzidx = _to_gzidx(points, windows, index.size, index.inflated) if points else None
    stream = _open(io.BufferedReader(_Ranges(archive, index.size), _READ), gzidx)
    contents = {}
    for part, (offset, size) in places:
        try:
            stream.seek(offset)
            contents[part] = stream.read(size)
        except Exception as error:  # indexed_gzip raises many kinds on damaged bytes, and wraps what reading raised
            raise ZooError(f"{archive}: {key}: {part} cannot be read ({error.__cause__ or error})") from None
        if len(contents[part]) != size:
            raise ZooError(f"{archive}: {key}: {part} is cut off")
    return contents


class _IndexingStream(io.RawIOBase):
    """The inflated bytes of an archive; on the way, points are collected and their windows written away."""

    def __init__(self, file: BinaryIO, windows: BinaryIO) -> None:
        self.points: list[Point] = []
        self.position = 0
        self._file, self._windows = file, windows
        self._size = file.seek(0, os.SEEK_END)
        file.seek(0)
        self._inflating = _open(file)
        self._rotated = 0
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = memoryview(self._inflating.read(_BUFFER))
            self.position += len(self._rest)
            if not self._rest:
                self._collect()
            elif self.position - self._rotated >= _ROTATE:
                self._rotate()
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def _collect(self) -> list[tuple[int, int, int, bytes | None]]:
        exported = io.BytesIO()
        self._inflating.export_index(fileobj=exported)
        found = _from_gzidx(exported.getvalue())
        for compressed, inflated, bits, window in found:
            if not self.points or inflated > self.points[-1][1]:
                self.points.append((compressed, inflated, bits, None if window is None else zlib.crc32(window)))
                self._windows.write(window or b"")
        return found

    def _rotate(self) -> None:
        """Go on from the last point found and forget the others, or a large archive's windows would fill the memory."""
        found = self._collect()
        kept = [0, len(found) - 1] if len(found) > 1 else [0]
        points: list[Point] = [(*found[i][:3], 0 if found[i][3] else None) for i in kept]
        self._inflating = _open(self._file, _to_gzidx(points, [found[i][3] for i in kept], self._size, 0))
        self._inflating.seek(self.position)
        self._rotated = self.position


class _Ranges(io.RawIOBase):
    """A file, perhaps far away, of which blocks are read as they are needed, each once."""

    def __init__(self, location: str, size: int) -> None:
        self._location, self._size, self._position = location, size, 0
        self._blocks: dict[int, bytes] = {}

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def readinto(self, buffer: Any) -> int:
        number, skipped = divmod(self._position, _READ)
        if self._position >= self._size:
            return 0
        if number not in self._blocks:
            start = number * _READ
            self._blocks[number] = read_range(self._location, start, min(start + _READ, self._size))
        data = self._blocks[number][skipped : skipped + len(buffer)]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def _open(file: Any, points: bytes | None = None) -> Any:
    try:
        from indexed_gzip import IndexedGzipFile
    except ImportError:
        raise ZooError("archives need the package indexed_gzip: pip install 'heldout-torch[archive]'") from None
    # With no buffer of its own: every request would begin at the last point, so requests must be large.
    stream = IndexedGzipFile(fileobj=file, spacing=_SPACING, window_size=_WINDOW, readbuf_size=_READ, buffer_size=1)
    if points is not None:
        stream.import_index(fileobj=io.BytesIO(points))
    return stream


def _from_gzidx(data: bytes) -> list[tuple[int, int, int, bytes | None]]:
    """Read what indexed_gzip exports: points and their windows."""
    *_, count = _GZIDX.unpack_from(data)
    windows_at = _GZIDX.size + count * _POINT.size
    points: list[tuple[int, int, int, bytes | None]] = []
    for compressed, inflated, bits, has_window in _POINT.iter_unpack(data[_GZIDX.size : windows_at]):
        window = data[windows_at : windows_at + _WINDOW] if has_window else None
        windows_at += len(window or b"")
        points.append((compressed, inflated, bits, window))
    return points


def _to_gzidx(points: list[Point], windows: list[bytes | None], size: int, inflated: int) -> bytes:
    """Give some points to indexed_gzip as a whole index; it inflates from the nearest one it has."""
    head = _GZIDX.pack(b"GZIDX", 1, 0, size, inflated, _SPACING, _WINDOW, len(points))
    rows = (
        _POINT.pack(c, i, bits, window is not None) for (c, i, bits, _), window in zip(points, windows, strict=True)
    )
    return head + b"".join(rows) + b"".join(window or b"" for window in windows)


def _point_before(index: SeekIndex, offset: int) -> int:
    return max(bisect.bisect_right(index.points, offset, key=lambda point: point[1]) - 1, 0)


def _window(archive: str, index: SeekIndex, number: int) -> bytes | None:
    if (crc := index.points[number][3]) is None:
        return None
    start = index.windows_at + _WINDOW * sum(point[3] is not None for point in index.points[:number])
    window = read_range(archive + INDEX_ENDING, start, start + _WINDOW)
    if len(window) != _WINDOW or zlib.crc32(window) != crc:
        raise ZooError(f"{archive + INDEX_ENDING}: is damaged near byte {start}; make it again")
    return window


def _write(archive: Path, index: SeekIndex, windows: BinaryIO) -> SeekIndex:
    table = {
        "size": index.size,
        "trailer": index.trailer,
        "inflated": index.inflated,
        "points": index.points,
        "runs": {str(key): files for key, files in sorted(index.runs.items())},
    }
    packed = gzip.compress(json.dumps(table, separators=(",", ":")).encode(), mtime=0)
    windows.seek(0)
    with new_file(archive.with_name(archive.name + INDEX_ENDING)) as file:
        file.write(struct.pack("<8sQ", _MAGIC, len(packed)) + packed)
        shutil.copyfileobj(windows, file)
    return replace(index, windows_at=16 + len(packed))
