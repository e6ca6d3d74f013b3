"""Make a seek index, in a separate pass over an archive or during an export."""

import gzip
import itertools
import json
import shutil
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from heldout_torch.archives.access_points import SPACING, Point
from heldout_torch.archives.arrivals import Arrivals
from heldout_torch.archives.hashed_stream import HashedStream
from heldout_torch.archives.inflate import inflate
from heldout_torch.archives.limits import REACH
from heldout_torch.archives.remote_stream import open_stream
from heldout_torch.archives.seek_index import (
    HEAD,
    INDEX_ENDING,
    MAGIC,
    Extent,
    IndexedPoint,
    SeekIndex,
    run_line,
)
from heldout_torch.archives.tar_stream import Member, read_members
from heldout_torch.errors import ZooError, os_errors
from heldout_torch.storage.files import new_file, remove_stale
from heldout_torch.storage.paths import is_remote
from heldout_torch.zoo.keys import RunKey


def build_index(
    archive: str | Path,
    progress: Callable[[int], object] = lambda count: None,
    spacing: int = SPACING,
    out: Path | None = None,
    tell: Callable[[str], object] = lambda line: None,
) -> SeekIndex:
    """Read an archive once and write its index, atomically.

    Args:
        archive: Path or URL.
        progress: Called with every number of packed bytes read.
        spacing: Unpacked bytes between access points, at least; each takes 32 KiB of the index.
        out: Where the index is written; beside the archive by default, which for a URL must be given.
        tell: Called with a line when a server is waited for.

    Raises:
        ZooError: If the archive cannot be read or is damaged, or holds no runs, or isal is missing.
    """
    if is_remote(archive) and out is None:
        raise ZooError(f"{archive}: its seek index cannot be written next to it; name a file for it, out=FILE")
    opened = open_stream(str(archive), tell)
    with opened.stream, IndexWriter(str(archive), out or Path(f"{archive}{INDEX_ENDING}"), spacing) as writer:
        source = HashedStream(opened.stream, progress)
        try:
            for member in read_members(inflate(source, None, spacing, writer.found), str(archive)):
                writer.member(member)
            return writer.write(source, opened.etag)
        finally:
            source.close()


class IndexWriter:
    """Collects the contents of a seek index while an archive is read, and writes it at the end.

    Attributes:
        spacing: Unpacked bytes between points, at least.
        problems: What is wrong with some of the archive's runs.
    """

    def __init__(self, archive: str, out: Path, spacing: int) -> None:
        """Start an empty index.

        Args:
            archive: What errors call the archive.
            out: The index file.
            spacing: Unpacked bytes between the points that come, at least.

        Raises:
            ZooError: If nothing can be written there.
        """
        self.spacing = spacing
        self._archive, self._out = archive, out
        self._points: list[IndexedPoint] = []
        self._lines: dict[RunKey, bytes] = {}
        self.problems: list[str] = []
        self._arrivals = Arrivals[Extent](archive)
        with os_errors(ZooError, f"{out}: cannot be written"):
            out.parent.mkdir(parents=True, exist_ok=True)
            self._windows = tempfile.TemporaryFile(dir=out.parent)  # noqa: SIM115 (closed by `__exit__`)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._windows.close()

    def found(self, point: Point) -> None:
        """Note an access point."""
        if point.window is None:
            raise ZooError(
                f"{self._archive}: is a plain .tar file, only a .tar.gz can have a seek index; "
                "unpack it and name its folder"
            )
        self._points.append((point.packed, point.unpacked, zlib.crc32(point.window) if point.window else None))
        self._windows.write(point.window)

    def member(self, member: Member) -> None:
        """Note what an archive holds next."""
        key = member.key
        if key is None or key in self._arrivals.refused:
            return
        if problem := self._arrivals.problem(member):
            self._arrivals.refuse(key)
            self.problems.append(f"run {key}: {problem}")
        elif (parts := self._arrivals.add(member, (member.offset, member.size))) is not None:
            self._lines[key] = run_line(key, parts)

    def write(self, source: HashedStream, etag: str | None) -> SeekIndex:
        """Write the index of an archive that was read to its end, atomically.

        Args:
            source: What was read.
            etag: What the server calls this version of the archive, if it was read from one.

        Raises:
            ZooError: If it holds no whole runs, or the index cannot be written.
        """
        for key, parts in self._arrivals.parts.items():
            self.problems.append(f"run {key}: incomplete: the archive has only {', '.join(sorted(parts))}")
        if not self._lines:
            raise ZooError(f"{self._archive}: has no complete runs (<experiment>/<subset_ratio>/<run>/...)")
        for (_, before, _), (_, after, _) in itertools.pairwise([(0, 0, None), *self._points]):
            if after - before > REACH:
                self.problems.append(f"there is no access point between bytes {before} and {after} of its contents")
        runs = dict(sorted(self._lines.items()))
        facts: dict[str, Any] = {
            "size": source.size,
            "trailer": source.tail.hex(),
            "md5": source.digest(),
            "etag": etag,
            "spacing": self.spacing,
        }
        rows = [facts | {"points": len(self._points), "runs": len(runs)}, *self._points]
        table = b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows)
        packed = gzip.compress(table + b"".join(runs.values()), mtime=0)
        self._windows.seek(0)
        remove_stale(self._out.parent)
        with os_errors(ZooError, f"{self._out}: cannot be written"), new_file(self._out) as file:
            file.write(HEAD.pack(MAGIC, len(packed)) + packed)
            shutil.copyfileobj(self._windows, file)
        return SeekIndex(
            **facts, points=self._points, windows_at=HEAD.size + len(packed), problems=self.problems, _runs=runs
        )
