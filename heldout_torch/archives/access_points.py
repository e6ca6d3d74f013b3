"""Points in a gzip stream where inflating can begin, found and used through indexed_gzip.

A point is a place in the compressed bytes, the place in the inflated ones that it stands for, the bits of the byte
before that still belong to it (blocks of RFC 1951 do not end at bytes), and a window: the 32 KiB inflated before it,
which what follows refers to. The start of a gzip stream has no window.
"""

import io
import os
import struct
import zlib
from typing import Any, BinaryIO

from heldout_torch.errors import ZooError
from heldout_torch.storage.urls import read_range

WINDOW = 2**15  # how far back deflate refers
SPACING = 2**23  # inflated bytes between points: windows are then 0.4 % of them
READ = 2**21  # compressed bytes asked for at a time
_REQUEST = 8  # spacings asked for at a time; indexed_gzip begins each request at the last point
_ROTATE = 128  # spacings after which collected windows go from memory to disk
_BLOCKS = 8  # of a file far away that are kept, each of READ bytes
_GZIDX = struct.Struct("<5sBBQQIII")  # indexed_gzip's file of points: name, version, 0, sizes, spacing, window, points
_POINT = struct.Struct("<QQBB")  # compressed and inflated byte, bits, whether it has a window

Point = tuple[int, int, int, int | None]  # compressed byte, inflated byte, bits, CRC-32 of the window


class IndexingStream(io.RawIOBase):
    """The inflated bytes of an archive; on the way, points are collected and their windows written away."""

    def __init__(self, file: BinaryIO, windows: BinaryIO, spacing: int = SPACING) -> None:
        self.points: list[Point] = []
        self.position = 0
        self._file, self._windows = file, windows
        self._size = file.seek(0, os.SEEK_END)
        file.seek(0)
        self._spacing = spacing
        self._inflating = open_at(file, spacing)
        self._rotated = 0
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with what comes next, and give how much that was."""
        if not self._rest:
            self._rest = memoryview(self._inflating.read(_REQUEST * self._spacing))
            self.position += len(self._rest)
            if not self._rest:
                self._collect()
            elif self.position - self._rotated >= _ROTATE * self._spacing:
                self._rotate()
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def _collect(self) -> list[tuple[int, int, int, bytes | None]]:
        exported = io.BytesIO()
        self._inflating.export_index(fileobj=exported)
        found = from_gzidx(exported.getvalue())
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
        gzidx = to_gzidx(points, [found[i][3] for i in kept], self._size, 0, self._spacing)
        self._inflating = open_at(self._file, self._spacing, gzidx)
        self._inflating.seek(self.position)
        self._rotated = self.position


class Ranges(io.RawIOBase):
    """A file, perhaps far away, of which blocks are read as they are needed, and the last few kept."""

    def __init__(self, location: str, size: int) -> None:
        self._location, self._size, self._position = location, size, 0
        self._blocks: dict[int, bytes] = {}

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def seekable(self) -> bool:
        """Return that any place can be read next."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Choose the place to read next."""
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with what comes next, and give how much that was."""
        number, skipped = divmod(self._position, READ)
        if self._position >= self._size:
            return 0
        if number not in self._blocks:
            start = number * READ
            if len(self._blocks) >= _BLOCKS:
                del self._blocks[next(iter(self._blocks))]
            self._blocks[number] = read_range(self._location, start, min(start + READ, self._size))
        data = self._blocks[number][skipped : skipped + len(buffer)]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def open_at(file: Any, spacing: int, points: bytes | None = None) -> Any:
    """Open a gzip file for reading from points.

    Args:
        file: The compressed file.
        spacing: Inflated bytes between points, at least.
        points: What `to_gzidx` gave; None to begin at the start and find points on the way.

    Raises:
        ZooError: If indexed_gzip is not installed.
    """
    try:
        from indexed_gzip import IndexedGzipFile
    except ImportError:
        raise ZooError("archives need the package indexed_gzip: pip install 'heldout-torch[archive]'") from None
    # With no buffer of its own: every request would begin at the last point, so requests must be large.
    stream = IndexedGzipFile(fileobj=file, spacing=spacing, window_size=WINDOW, readbuf_size=READ, buffer_size=1)
    if points is not None:
        stream.import_index(fileobj=io.BytesIO(points))
    return stream


def from_gzidx(data: bytes) -> list[tuple[int, int, int, bytes | None]]:
    """Read what indexed_gzip exports: points and their windows."""
    *_, count = _GZIDX.unpack_from(data)
    windows_at = _GZIDX.size + count * _POINT.size
    points: list[tuple[int, int, int, bytes | None]] = []
    for compressed, inflated, bits, has_window in _POINT.iter_unpack(data[_GZIDX.size : windows_at]):
        window = data[windows_at : windows_at + WINDOW] if has_window else None
        windows_at += len(window or b"")
        points.append((compressed, inflated, bits, window))
    return points


def to_gzidx(points: list[Point], windows: list[bytes | None], size: int, inflated: int, spacing: int) -> bytes:
    """Return some points as a whole index for indexed_gzip; it inflates from the nearest one it has."""
    head = _GZIDX.pack(b"GZIDX", 1, 0, size, inflated, spacing, WINDOW, len(points))
    rows = (
        _POINT.pack(c, i, bits, window is not None) for (c, i, bits, _), window in zip(points, windows, strict=True)
    )
    return head + b"".join(rows) + b"".join(window or b"" for window in windows)
