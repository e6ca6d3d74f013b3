"""Export the runs of a published archive to a zoo in one pass over its packed bytes, without unpacking to disk."""

from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from heldout_torch.archives.access_points import Point
from heldout_torch.archives.archive_record import record_part, record_resumed, record_whole
from heldout_torch.archives.build_index import IndexWriter
from heldout_torch.archives.hashed_stream import HashedStream
from heldout_torch.archives.inflate import inflate
from heldout_torch.archives.one_pass import OnePass
from heldout_torch.archives.resume import Mark, Marks
from heldout_torch.archives.tar_stream import DamagedError, ZooInTarError, read_members
from heldout_torch.errors import ZooError
from heldout_torch.zoo.copy import Outcome
from heldout_torch.zoo.open import Place, open_writable
from heldout_torch.zoo.selection import Selection

_START = Mark(Point(0, 0, b""), 0, [], {})


def export_archive(
    stream: BinaryIO,
    archive: str,
    zoo: Place,
    selection: Selection | None = None,
    md5: str | None = None,
    workers: int = 1,
    overwrite: bool = False,
    progress: Callable[[int], object] = lambda count: None,
    ignore: Sequence[str] = (),
    tell: Callable[[str], object] = lambda line: None,
    dtype: str | None = None,
    index: IndexWriter | None = None,
    etag: str | None = None,
    marks: Marks | None = None,
) -> Iterator[Outcome]:
    """Export runs from an archive while its packed bytes are read.

    Members may come in any order. Each run appears in the zoo whole or not at all, so the work can be interrupted at
    any moment. The next call reads the stream again, but converts only missing runs. When the selection names
    experiment, subset ratios and runs, and all of them have come, the rest is not read, nor the archive's MD5 known.

    Args:
        stream: The packed archive, read once; a file or a pipe.
        archive: Its name, for errors and the zoo's record.
        zoo: Where the runs go, as in `heldout_torch.zoo.open_writable`.
        selection: What to export; all by default.
        md5: The archive's expected MD5; by default the one published for its experiment, if there is one.
        workers: Number of threads that convert while another inflates and a third hashes.
        overwrite: Also export runs that are in the zoo already.
        progress: Called with every number of packed bytes read.
        ignore: Patterns such as `model/ema/*` of variables that are left out though they lie under `model/`.
        tell: Called with a line when the work ends early.
        dtype: As in `heldout_torch.zoo.copy_runs`.
        index: Writes the archive's seek index from the same pass, which then reads to the archive's end.
        etag: What a server calls this version of the archive, for the index.
        marks: Where the export can go on, if the stream can be opened anywhere. With `marks.start` the stream must
            begin at its point.

    Yields:
        The outcome of each run, in the order in which they finish, those of an earlier call first; without a run, what
        is wrong with the archive.

    Raises:
        ZooError: If a package for archives is missing, or the zoo or the index cannot be written.
    """
    target, start = open_writable(zoo), (marks.start if marks else None) or _START
    source = HashedStream(stream, progress, hashed=start is _START)
    to_point = index or marks
    inflated = inflate(source, start.point, to_point.spacing if to_point else 0, to_point.found if to_point else None)
    export = OnePass(archive, target, selection or Selection(), overwrite, ignore, workers, dtype)
    how: str | None = None  # it came to its end
    try:
        with target:
            yield from export.resume(start)
            try:
                for member in read_members(inflated, archive, start.point.unpacked, start.header):
                    if index is not None:
                        index.member(member)
                    if marks is not None:
                        export.mark(marks, member)
                    yield from export.take(member)
                    if export.has_all and index is None:
                        tell(f"all selected runs were read after {source.size} bytes; the rest is not read")
                        how = "in part"
                        break
                else:
                    how = "whole"
            except ZooInTarError as error:  # its files are not parts of runs to come
                yield Outcome(None, error=str(error))
                return
            except ZooError as error:
                yield Outcome(None, error=str(error))
                if isinstance(error, DamagedError) and marks is not None:
                    marks.remove()
            yield from export.finish()
            if how is not None and marks is not None:
                marks.remove()
            experiments = export.experiments.values()
            if how == "whole" and not experiments:
                yield Outcome(
                    None, error=f"{archive}: has none of the selected runs <experiment>/<subset_ratio>/<run>/"
                )
            elif how == "whole":
                yield from export.not_met()
            if how == "in part":
                record_part(archive, target, experiments)
            elif how == "whole" and start is not _START:
                record_resumed(archive, start.point.packed + source.size, target, experiments)
            elif how == "whole":
                for problem in record_whole(source, archive, target, md5, experiments):
                    yield Outcome(None, error=problem)
            if how == "whole" and index is not None:
                index.write(source, etag)
    finally:
        export.close()
        source.close()
