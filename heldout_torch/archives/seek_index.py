"""The seek index of an archive, `<archive>.seek`, with which one run is read without reading what precedes it.

Format, numbers little-endian: the 8 bytes `HELDOUT3`, the length of the table (uint64), the table (compressed by gzip),
then a window of 32 KiB for each point that has one. The table is lines of JSON: what the archive is, then its access
points, then its runs. An access point (see `access_points`) is a row of packed byte, unpacked byte, and the CRC-32 of
its window, null if it has none. A run is its name, and by file where that begins in the tar stream and its size.
"""

import gzip
import io
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from heldout_torch.archives.limits import NAME, POINTS, RUN_FILES, RUNS, TABLE, TABLE_LINE
from heldout_torch.errors import RefusedError, ZooError, one_line
from heldout_torch.storage import kinds
from heldout_torch.storage.paths import extended, is_remote
from heldout_torch.storage.urls import check_ranges, read_range
from heldout_torch.zoo.keys import RunKey, make_key

INDEX_ENDING = ".seek"
HEAD = struct.Struct("<8sQ")
MAGIC = b"HELDOUT3"
_FAMILY = b"HELDOUT"

Extent = tuple[int, int]  # first byte in the tar stream, and size
IndexedPoint = tuple[int, int, int | None]  # packed byte, unpacked byte, CRC-32 of the window


@dataclass(frozen=True)
class SeekIndex:
    """The contents of a seek index, without its windows.

    Attributes:
        size: Bytes of the archive.
        trailer: Its last 8 bytes, in hexadecimal digits, in which gzip keeps the CRC-32 and size of the contents.
        md5: Its MD5.
        etag: What the server that it was read from calls this version of it; None if it was read elsewhere.
        spacing: Unpacked bytes between points, at least.
        points: In order.
        windows_at: Where the windows begin in the index file.
        name: Path or URL of the index.
        problems: What is wrong with some of the archive's runs; known when the index is made, and not kept in it.
    """

    size: int
    trailer: str
    md5: str
    etag: str | None
    spacing: int
    points: list[IndexedPoint]
    windows_at: int
    problems: list[str] = field(default_factory=list, compare=False)
    name: str = field(default="", compare=False)
    _runs: dict[RunKey, bytes] = field(default_factory=dict)  # lines of the table: a fifth of the bytes of dicts

    @property
    def keys(self) -> list[RunKey]:
        """The archive's runs, in order."""
        return list(self._runs)

    def __contains__(self, key: RunKey) -> bool:
        return key in self._runs

    def files(self, key: RunKey) -> dict[str, Extent]:
        """Return where each of a run's files lies."""
        return _read_run(self._runs[key])[1]


def read_index(archive: str, name: str | None = None) -> SeekIndex:
    """Read the table of an archive's index and check that it is this archive's.

    Args:
        archive: Path or URL of the archive.
        name: Path or URL of the index; beside the archive by default.

    Raises:
        ZooError: If there is no index, or it is damaged or another archive's.
    """
    given, name = name is not None, name or extended(archive, INDEX_ENDING)
    try:
        head = read_range(name, 0, max(HEAD.size, kinds.HEAD))
    except FileNotFoundError:
        if not is_remote(archive) and not Path(archive).exists():
            raise ZooError(f"{archive}: there is no such archive") from None
        elsewhere = (
            "" if given else "; if it is elsewhere, move it next to the archive, or name it with index= in Python"
        )
        raise ZooError(
            f"{name}: there is no seek index; make it with: heldout archive index ARCHIVE{elsewhere}"
        ) from None
    except RefusedError as error:
        raise RefusedError(f"{error}; if there is no seek index, make it with: heldout archive index ARCHIVE") from None
    try:
        magic, length = HEAD.unpack(head[: HEAD.size])
        if magic != MAGIC:
            other = f"of another version, {magic[-1:].decode('ascii', 'replace')!r}"
            raise ValueError(other if magic.startswith(_FAMILY) else "not an index of this format")
        if length > TABLE:
            raise ValueError(f"its table has {length} bytes, real ones have less than {TABLE}")
        index = _read_table(read_range(name, HEAD.size, HEAD.size + length), HEAD.size + length)
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, OSError, struct.error, zlib.error,
            OverflowError, RecursionError) as error:  # fmt: skip
        reason = kinds.stands_in(head) or f" ({one_line(error)[:200]})"
        raise ZooError(f"{name}: is not a readable seek index{reason}; make it again") from None
    try:
        check_ranges(archive, index.size)
        trailer = read_range(archive, index.size - 8, index.size + 1)
    except FileNotFoundError:
        raise ZooError(f"{archive}: there is no such archive") from None
    if trailer.hex() != index.trailer:
        raise ZooError(f"{name}: is the index of another archive than {archive}; make it again")
    return replace(index, name=name)


def run_line(key: RunKey, files: dict[str, Extent]) -> bytes:
    """Return the line of a run in the table."""
    return json.dumps([str(key), files], separators=(",", ":")).encode() + b"\n"


def _read_table(packed: bytes, windows_at: int) -> SeekIndex:
    lines = _lines(packed)
    head = json.loads(next(lines, b""))
    size, spacing = _whole(head["size"]), _whole(head["spacing"])
    count, runs_count = _whole(head["points"]), _whole(head["runs"])
    if count > POINTS or runs_count > RUNS or spacing < 1 or size < 8:
        raise ValueError(f"{count} points and {runs_count} runs in an archive of {size} bytes")
    etag = None if head["etag"] is None else str(head["etag"])
    points: list[IndexedPoint] = []
    for _ in range(count):
        at, unpacked, crc = json.loads(next(lines, b""))
        point = (_whole(at), _whole(unpacked), None if crc is None else _whole(crc))
        before = points[-1] if points else (0, 0, None)
        if not (before[0] < point[0] <= size and before[1] < point[1]):
            raise ValueError(f"point {len(points)} lies outside the archive, or before another")
        points.append(point)
    runs = {}
    for line in lines:
        key, _ = _read_run(line)
        if key in runs:
            raise ValueError(f"run {key} comes twice")
        runs[key] = line
        if len(runs) > runs_count:
            break
    if len(runs) != runs_count:
        raise ValueError(f"not the {runs_count} runs that it declares")
    return SeekIndex(size, str(head["trailer"]), str(head["md5"]), etag, spacing, points, windows_at, _runs=runs)


def _lines(packed: bytes) -> Iterator[bytes]:
    """Inflate a table line by line, so that what it declares cannot fill the memory."""
    total = 0
    with gzip.GzipFile(fileobj=io.BytesIO(packed)) as table:
        while line := table.readline(TABLE_LINE):
            total += len(line)
            if total > TABLE or not line.endswith(b"\n"):
                raise ValueError("its table, or a line of it, is longer than real ones, or cut off")
            yield line


def _read_run(line: bytes) -> tuple[RunKey, dict[str, Extent]]:
    name, files = json.loads(line)
    experiment, ratio, run = name.split("/")
    if len(files) > RUN_FILES or max(map(len, files), default=0) > NAME:
        raise ValueError("a run has too many files, or too long names of them")
    places = {part: (_whole(offset), _whole(size)) for part, (offset, size) in files.items()}
    try:
        return make_key(experiment, float(ratio), int(run)), places
    except ZooError as error:
        raise ValueError(str(error)) from None


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**62:
        raise ValueError(f"{str(value)[:20]!r} is not a size or place")
    return value
