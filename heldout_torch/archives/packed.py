"""A seek index beside an archive, `<archive>.seek`, through which one run is read without reading what lies before it.

Format, numbers little-endian: the 8 bytes `HELDOUT1`, the length of the table (uint64), the table (JSON, compressed by
gzip), then a window of 32 KiB for each point that has one. A point (see `points`) is a row of compressed byte, inflated
byte, bits, and the CRC-32 of its window, null if it has none.
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
from typing import BinaryIO

from heldout_torch.archives.access_points import READ, WINDOW, IndexingStream, Point, Ranges, open_at, to_gzidx
from heldout_torch.archives.tar_stream import read_members, run_limit
from heldout_torch.errors import ZooError
from heldout_torch.experiments import Experiment
from heldout_torch.storage.files import new_file
from heldout_torch.storage.urls import check_ranges, read_range
from heldout_torch.zoo.keys import RunKey, make_key

INDEX_ENDING = ".seek"
_MAGIC = b"HELDOUT1"


@dataclass(frozen=True)
class SeekIndex:
    """What an index says, without its windows.

    Attributes:
        size: Bytes of the archive.
        trailer: Its last 8 bytes, in which gzip keeps the CRC-32 and size of the contents.
        inflated: Bytes of the tar stream.
        points: See `points`; in order.
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
            stream = IndexingStream(file, windows)
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
    gzidx = to_gzidx(points, windows, index.size, index.inflated) if points else None
    stream = open_at(io.BufferedReader(Ranges(archive, index.size), READ), gzidx)
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


def _point_before(index: SeekIndex, offset: int) -> int:
    return max(bisect.bisect_right(index.points, offset, key=lambda point: point[1]) - 1, 0)


def _window(archive: str, index: SeekIndex, number: int) -> bytes | None:
    if (crc := index.points[number][3]) is None:
        return None
    start = index.windows_at + WINDOW * sum(point[3] is not None for point in index.points[:number])
    window = read_range(archive + INDEX_ENDING, start, start + WINDOW)
    if len(window) != WINDOW or zlib.crc32(window) != crc:
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
