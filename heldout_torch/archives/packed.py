"""Read one run from an archive through its seek index."""

import bisect
import io
import zlib

from heldout_torch.archives.access_points import WINDOW, Point
from heldout_torch.archives.inflate import inflate
from heldout_torch.archives.limits import REACH, run_limit
from heldout_torch.archives.ranges import READ, Ranges
from heldout_torch.archives.seek_index import Extent, SeekIndex
from heldout_torch.archives.tar_headers import TarBytes
from heldout_torch.errors import ZooError, one_line
from heldout_torch.experiments import Experiment
from heldout_torch.storage.urls import read_range
from heldout_torch.zoo.keys import RunKey

File = tuple[str, int, int]  # name, first byte in the tar stream, and size


def read_files(archive: str, index: SeekIndex, key: RunKey, experiment: Experiment) -> dict[str, bytes]:
    """Read a run's files out of an archive.

    Args:
        archive: Path or URL.
        index: What `read_index` returned for it.
        key: One of the index's runs.
        experiment: What the run belongs to, which says how large it can be.

    Returns:
        Contents by file name.

    Raises:
        ZooError: If archive or index are damaged, or isal is missing.
    """
    files = index.files(key)
    if sum(size for _, size in files.values()) > run_limit(experiment):
        raise ZooError(f"{archive}: {key} is larger than a run of {experiment.name} can be")
    contents: dict[str, bytes] = {}
    for stretch in _stretches(index, files):
        stream, position = _open_at(archive, index, stretch)
        for part, offset, size in stretch:
            if offset + size - position > REACH:
                raise ZooError(f"{archive}: {key}: the seek index has no access point near it; make the index again")
            try:
                stream.skip_to(offset - position)
                contents[part] = stream.read(size)
            except ZooError:
                raise
            except Exception as error:  # isal raises kinds of its own on damaged bytes
                raise ZooError(f"{archive}: {key}: {part} cannot be read ({one_line(error)})") from None
    return contents


def _stretches(index: SeekIndex, files: dict[str, Extent]) -> list[list[File]]:
    """Group a run's files: those with no access point between them are read together."""
    stretches: list[list[File]] = []
    for offset, size, part in sorted((offset, size, part) for part, (offset, size) in files.items()):
        if stretches and _points_before(index, offset) <= _points_before(index, sum(stretches[-1][-1][1:])):
            stretches[-1].append((part, offset, size))
        else:
            stretches.append([(part, offset, size)])
    return stretches


def _open_at(archive: str, index: SeekIndex, stretch: list[File]) -> tuple[TarBytes, int]:
    """Return the tar stream from the access point before some files to their end, and where it begins."""
    number, end = _points_before(index, stretch[0][1]), _points_before(index, sum(stretch[-1][1:]) - 1)
    at = Point(0, 0, b"")
    if number:
        packed, unpacked, _ = index.points[number - 1]
        at = Point(packed, unpacked, _window(index, number - 1))
    source = Ranges(archive, at.packed, index.points[end][0] if end < len(index.points) else index.size)
    return TarBytes(inflate(io.BufferedReader(source, READ), at)), at.unpacked


def _points_before(index: SeekIndex, offset: int) -> int:
    """Return how many points lie before a byte of the tar stream, or at it."""
    return bisect.bisect_right(index.points, offset, key=lambda point: point[1])


def _window(index: SeekIndex, number: int) -> bytes:
    if (crc := index.points[number][2]) is None:
        return b""
    start = index.windows_at + WINDOW * sum(point[2] is not None for point in index.points[:number])
    window = read_range(index.name, start, start + WINDOW)
    if zlib.crc32(window) != crc:
        raise ZooError(f"{index.name}: is damaged near byte {start}; make it again")
    return window
