"""A seek index beside an archive, `<archive>.seek`, through which one run is read without reading what lies before it.

Format, numbers little-endian: the 8 bytes `HELDOUT2`, the length of the table (uint64), the table (compressed by gzip),
then a window of 32 KiB for each point that has one. The table is lines of JSON: what the archive is, then its access
points, then its runs. An access point (see `access_points`) is a row of compressed byte, inflated byte, bits, and the
CRC-32 of its window, null if it has none. A run is its name, and by file where that begins in the tar stream and its
size.
"""

import gzip
import io
import json
import os
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from heldout_torch.archives.access_points import SPACING, IndexingStream, Point
from heldout_torch.archives.arrivals import Arrivals
from heldout_torch.archives.inflate import HEAD, NoArchiveError, is_packed
from heldout_torch.archives.limits import POINTS, RUN_FILES, RUNS, TABLE, TABLE_LINE
from heldout_torch.archives.remote_stream import open_ranges
from heldout_torch.archives.tar_stream import read_members
from heldout_torch.errors import ZooError
from heldout_torch.storage.files import new_file
from heldout_torch.storage.paths import is_remote
from heldout_torch.storage.urls import check_ranges, read_range
from heldout_torch.zoo.keys import RunKey, make_key

INDEX_ENDING = ".seek"
_HEAD = struct.Struct("<8sQ")
_MAGIC = b"HELDOUT2"

Place = tuple[int, int]  # first byte in the tar stream, and size


@dataclass(frozen=True)
class SeekIndex:
    """What an index says, without its windows.

    Attributes:
        size: Bytes of the archive.
        trailer: Its last 8 bytes, in hexadecimal digits, in which gzip keeps the CRC-32 and size of the contents.
        inflated: Bytes of the tar stream.
        spacing: Inflated bytes between points, at least.
        points: In order.
        windows_at: Where the windows begin in the index file.
        name: Path or URL of the index.
        problems: What is wrong with some of the archive's runs; known when the index is made, and not kept in it.
    """

    size: int
    trailer: str
    inflated: int
    spacing: int
    points: list[Point]
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

    def files(self, key: RunKey) -> dict[str, Place]:
        """Return where each of a run's files lies."""
        return _read_run(self._runs[key])[1]


def build_index(
    archive: str | Path,
    progress: Callable[[int], object] = lambda count: None,
    spacing: int = SPACING,
    out: Path | None = None,
) -> SeekIndex:
    """Read an archive once and write its index, atomically.

    Args:
        archive: Path or URL.
        progress: Called with every number of compressed bytes read.
        spacing: Inflated bytes between access points, at least; each takes 32 KiB of the index.
        out: Where the index is written; beside the archive by default, which for a URL must be given.

    Raises:
        ZooError: If the archive cannot be read or is damaged, or holds no runs, or indexed_gzip is missing.
    """
    if is_remote(archive) and out is None:
        raise ZooError(f"{archive}: an index cannot be written beside it; name a file for it with --out")
    out = out or Path(f"{archive}{INDEX_ENDING}")
    try:
        opened = open_ranges(str(archive)) if is_remote(archive) else open(archive, "rb")  # noqa: SIM115 (closed below)
        with opened as file, tempfile.TemporaryFile(dir=out.parent) as windows:
            if not is_packed(file.read(HEAD)):
                raise ZooError(f"{archive}: is a plain tar, only a .tar.gz needs an index; unpack it, name the folder")
            stream = IndexingStream(file, windows, spacing)
            arrivals, problems, lines, done = Arrivals[Place](str(archive)), [], {}, 0
            for member in read_members(io.BufferedReader(stream), str(archive)):
                if (key := member.key) is not None and key not in arrivals.refused:
                    if problem := arrivals.problem(member):
                        arrivals.refuse(key)
                        problems.append(f"run {key}: {problem}")
                    elif (parts := arrivals.add(member, (member.offset, member.size))) is not None:
                        lines[key] = _run_line(key, parts)
                progress(file.tell() - done)
                done = file.tell()
            for key, parts in arrivals.parts.items():
                problems.append(f"run {key}: not whole: only {', '.join(sorted(parts))} came")
            if not lines:
                raise ZooError(f"{archive}: holds no whole runs (<experiment>/<subset_ratio>/<run>/...)")
            size = file.seek(-8, os.SEEK_END) + 8
            runs = dict(sorted(lines.items()))
            head: dict[str, Any] = {
                "size": size,
                "trailer": file.read(8).hex(),
                "inflated": stream.position,
                "spacing": spacing,
                "points": len(stream.points),
                "runs": len(runs),
            }
            windows_at = _write(out, head, stream.points, runs, windows)
    except NoArchiveError as error:
        raise ZooError(f"{archive}: {error}") from None
    except OSError as error:
        raise ZooError(f"{error.filename or archive}: {error.strerror}") from None
    return SeekIndex(size, head["trailer"], head["inflated"], spacing, stream.points, windows_at, problems, _runs=runs)


def read_index(archive: str, name: str | None = None) -> SeekIndex:
    """Read the table of an archive's index and check that it is this archive's.

    Args:
        archive: Path or URL of the archive.
        name: Path or URL of the index; beside the archive by default.

    Raises:
        ZooError: If there is no index, or it is damaged or another archive's.
    """
    name = name or archive + INDEX_ENDING
    try:
        head = read_range(name, 0, _HEAD.size)
    except FileNotFoundError:
        if not is_remote(archive) and not Path(archive).exists():
            raise ZooError(f"{archive}: there is no such archive") from None
        raise ZooError(f"{name}: there is no seek index; make it with: heldout archive index ARCHIVE") from None
    try:
        magic, length = _HEAD.unpack(head)
        if magic != _MAGIC:
            raise ValueError("not an index of this format")
        if length > TABLE:
            raise ValueError(f"its table has {length} bytes, real ones have less than {TABLE}")
        index = _read_table(read_range(name, _HEAD.size, _HEAD.size + length), _HEAD.size + length)
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, OSError, struct.error, zlib.error,
            OverflowError, RecursionError) as error:  # fmt: skip
        reason = " ".join(str(error).split())[:200]
        raise ZooError(f"{name}: is no readable seek index ({reason}); make it again") from None
    try:
        check_ranges(archive, index.size)
        trailer = read_range(archive, index.size - 8, index.size + 1)
    except FileNotFoundError:
        raise ZooError(f"{archive}: there is no such archive") from None
    if trailer.hex() != index.trailer:
        raise ZooError(f"{name}: is the index of another archive than {archive}; make it again")
    return replace(index, name=name)


def _read_table(packed: bytes, windows_at: int) -> SeekIndex:
    lines = _lines(packed)
    head = json.loads(next(lines, b""))
    size, inflated, spacing = (_whole(head[name]) for name in ("size", "inflated", "spacing"))
    count, runs_count = _whole(head["points"]), _whole(head["runs"])
    if count > POINTS or runs_count > RUNS or spacing < 1 or size < 8:
        raise ValueError(f"{count} points and {runs_count} runs in an archive of {size} bytes")
    points: list[Point] = []
    for _ in range(count):
        compressed, byte, bits, crc = json.loads(next(lines, b""))
        point = (_whole(compressed), _whole(byte), _whole(bits), None if crc is None else _whole(crc))
        before = points[-1] if points else (0, -1)
        if not (before[0] <= point[0] <= size and before[1] < point[1] <= inflated and point[2] < 8):
            raise ValueError(f"point {len(points)} lies outside the archive, or before another")
        points.append(point)
    runs = {}
    for line in lines:
        key, files = _read_run(line)
        if key in runs or any(offset > inflated for offset, _ in files.values()):
            raise ValueError(f"run {key} comes twice, or lies outside the archive")
        runs[key] = line
        if len(runs) > runs_count:
            break
    if len(runs) != runs_count:
        raise ValueError(f"not the {runs_count} runs that it declares")
    return SeekIndex(size, str(head["trailer"]), inflated, spacing, points, windows_at, _runs=runs)


def _lines(packed: bytes) -> Iterator[bytes]:
    """Inflate a table line by line, which keeps what is declared from filling the memory."""
    total = 0
    with gzip.GzipFile(fileobj=io.BytesIO(packed)) as table:
        while line := table.readline(TABLE_LINE):
            total += len(line)
            if total > TABLE or not line.endswith(b"\n"):
                raise ValueError("its table, or a line of it, is longer than real ones, or cut off")
            yield line


def _read_run(line: bytes) -> tuple[RunKey, dict[str, Place]]:
    name, files = json.loads(line)
    experiment, ratio, run = name.split("/")
    if len(files) > RUN_FILES:
        raise ValueError(f"a run of {len(files)} files")
    places = {part: (_whole(offset), _whole(size)) for part, (offset, size) in files.items()}
    try:
        return make_key(experiment, float(ratio), int(run)), places
    except ZooError as error:
        raise ValueError(str(error)) from None


def _run_line(key: RunKey, files: dict[str, Place]) -> bytes:
    return json.dumps([str(key), files], separators=(",", ":")).encode() + b"\n"


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**62:
        raise ValueError(f"{str(value)[:20]!r} is no size or place")
    return value


def _write(out: Path, head: dict[str, Any], points: list[Point], runs: dict[RunKey, bytes], windows: BinaryIO) -> int:
    rows = [json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in (head, *points)]
    packed = gzip.compress(b"".join([*rows, *runs.values()]), mtime=0)
    windows.seek(0)
    with new_file(out) as file:
        file.write(_HEAD.pack(_MAGIC, len(packed)) + packed)
        shutil.copyfileobj(windows, file)
    return _HEAD.size + len(packed)
