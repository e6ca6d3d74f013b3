"""Marks where the export of an archive by URL continues after an interruption, kept in the cache until it is done.

A mark is an access point before every run that is not yet exported. It is used only with the same version of the
archive (size and ETag), the same target and the same options, and only while all runs that were exported before it are
in the target. The bytes after the mark are read again.
"""

import base64
import hashlib
import json
import urllib.parse
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from heldout_torch.archives.access_points import WINDOW, Point
from heldout_torch.archives.limits import MARK
from heldout_torch.errors import ZooError
from heldout_torch.storage.files import read_bounded, remove_stale, write_atomically
from heldout_torch.zoo.base import WritableZoo
from heldout_torch.zoo.cache import cache_root
from heldout_torch.zoo.keys import RunKey

_VERSION = 2
_LONGEST_STEP = 2 * 10**9  # bytes between marks, at most
_STEPS = 400  # marks in an archive, at least


@dataclass(frozen=True)
class Mark:
    """Where to continue.

    Attributes:
        point: Where reading begins.
        header: Byte of the tar stream at which the first header behind the point begins.
        met: The runs asked for that were met before, those of other shards, too, in order.
        failed: Why some of them were not exported; those of this shard that are not named were.
    """

    point: Point
    header: int
    met: list[RunKey]
    failed: dict[RunKey, str]


@dataclass(frozen=True)
class _Waiting:
    """A candidate for a mark, with how many runs were met before it, and which of them are not yet dealt with."""

    point: Point
    header: int
    met: int
    to_do: set[RunKey]


class Marks:
    """The marks of one export.

    Attributes:
        start: The mark that an earlier call left; None if there is none to go on from.
        spacing: Bytes between points, at least.
    """

    def __init__(self, path: Path, size: int | None) -> None:
        """Read the mark that is kept, if any.

        Args:
            path: File of the marks; it need not exist.
            size: Bytes of the archive, if that is known.
        """
        self.spacing = max(1, min(_LONGEST_STEP, (size or _LONGEST_STEP * _STEPS) // _STEPS))
        self.start: Mark | None = None
        self._path = path
        self._points: list[Point] = []  # no header behind them was seen yet
        self._waiting: list[_Waiting] = []
        remove_stale(path.parent)
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, ZooError):
            self.start = _read(json.loads(read_bounded(path, MARK)))

    @classmethod
    def of(
        cls,
        url: str,
        size: int | None,
        etag: str,
        target: WritableZoo,
        shard: tuple[int, int],
        options: Sequence[object],
        tell: Callable[[str], object] = lambda line: None,
    ) -> Self:
        """Return the marks of an export, those of an earlier call if it was the same.

        Args:
            url: Where the archive lies.
            size: Its bytes, if that is known.
            etag: What the server calls this version of it.
            target: Where the runs go.
            shard: As in `Selection`.
            options: All else that decides what the export does.
            tell: Called with a line if the marks of an earlier call are of no use.
        """
        parts = urllib.parse.urlsplit(url)
        place = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
        same = repr((_VERSION, place, size, etag, target.location, shard, *options))
        marks = cls(cache_root() / "exports" / f"{hashlib.sha256(same.encode()).hexdigest()[:32]}.json", size)
        if marks.start is not None:
            index, count = shard
            ours = marks.start.met[index::count]
            missing = target.missing([key for key in ours if key not in marks.start.failed])
            if missing:
                tell(
                    f"{target.location}: lacks run {missing[0]}, which was exported before; "
                    "the archive is read from its start"
                )
                marks.start = None
        return marks

    def found(self, point: Point) -> None:
        """Note an access point."""
        self._points.append(point)

    def at_header(self, begins: int, met: int, to_do: Collection[RunKey]) -> None:
        """Note where a member's headers begin.

        Args:
            begins: Byte of the tar stream.
            met: How many of the runs asked for were met before.
            to_do: Those of them that are not yet dealt with.
        """
        while self._points and self._points[0].unpacked <= begins:
            self._waiting.append(_Waiting(self._points.pop(0), begins, met, set(to_do)))

    def dealt_with(self, met: Sequence[RunKey], failed: Mapping[RunKey, str], to_do: Collection[RunKey]) -> None:
        """Keep the last mark before which nothing is left to do.

        Args:
            met: All runs asked for that were met, in order.
            failed: As in `Mark`.
            to_do: Those of them that are not yet dealt with.
        """
        for number in reversed(range(len(self._waiting))):
            mark = self._waiting[number]
            mark.to_do.intersection_update(to_do)
            if not mark.to_do:
                del self._waiting[: number + 1]
                self._keep(mark, met[: mark.met], failed)
                return

    def remove(self) -> None:
        """Remove the mark: the export has come to its end."""
        self._waiting, self._points = [], []
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _keep(self, mark: _Waiting, met: Sequence[RunKey], failed: Mapping[RunKey, str]) -> None:
        record = {
            "version": _VERSION,
            "point": [mark.point.packed, mark.point.unpacked, mark.point.crc, mark.point.member],
            "window": None if mark.point.window is None else base64.b64encode(mark.point.window).decode(),
            "header": mark.header,
            "met": list(map(str, met)),
            "failed": {str(key): failed[key] for key in met if key in failed},
        }
        with suppress(OSError):  # a cache that cannot be written keeps nothing
            write_atomically(self._path, json.dumps(record).encode())


def _read(record: Any) -> Mark:
    """Return the mark of a file; ValueError, TypeError, KeyError, AttributeError or ZooError if it holds none."""
    packed, unpacked, crc, member = record["point"]
    window = None if record["window"] is None else base64.b64decode(record["window"], validate=True)
    met = [RunKey.parse(key) for key in record["met"]]
    failed = {RunKey.parse(key): str(error) for key, error in record["failed"].items()}
    numbers = (packed, unpacked, member, record["header"], crc or 0)
    if record["version"] != _VERSION or any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError
    if len(window or b"") > WINDOW or not member <= unpacked <= record["header"] or not failed.keys() <= set(met):
        raise ValueError
    return Mark(Point(packed, unpacked, window, crc, member), record["header"], met, failed)
