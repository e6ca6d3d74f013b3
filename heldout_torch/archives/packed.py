"""One run out of an archive, through its seek index."""

import bisect
import io
import zlib

from heldout_torch.archives.access_points import READ, WINDOW, Ranges, open_at, to_gzidx
from heldout_torch.archives.limits import REACH, run_limit
from heldout_torch.archives.seek_index import SeekIndex
from heldout_torch.errors import ZooError
from heldout_torch.experiments import Experiment
from heldout_torch.storage.urls import read_range
from heldout_torch.zoo.keys import RunKey


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
    files = index.files(key)
    if sum(size for _, size in files.values()) > run_limit(experiment):
        raise ZooError(f"{archive}: {key} is larger than a run of {experiment.name} can be")
    places = sorted(files.items(), key=lambda place: place[1])
    needed = {0} | {_point_before(index, offset) for _, (offset, _) in places} if index.points else set()
    for _, (offset, size) in places:
        if offset + size - (index.points[_point_before(index, offset)][1] if index.points else 0) > REACH:
            raise ZooError(f"{archive}: {key}: the seek index has no access point near it; make it again")
    points = [index.points[i] for i in sorted(needed)]
    windows = [_window(index, i) for i in sorted(needed)]
    gzidx = to_gzidx(points, windows, index.size, index.inflated, index.spacing) if points else None
    stream = open_at(io.BufferedReader(Ranges(archive, index.size), READ), index.spacing, gzidx)
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


def _window(index: SeekIndex, number: int) -> bytes | None:
    if (crc := index.points[number][3]) is None:
        return None
    start = index.windows_at + WINDOW * sum(point[3] is not None for point in index.points[:number])
    window = read_range(index.name, start, start + WINDOW)
    if len(window) != WINDOW or zlib.crc32(window) != crc:
        raise ZooError(f"{index.name}: is damaged near byte {start}; make it again")
    return window
