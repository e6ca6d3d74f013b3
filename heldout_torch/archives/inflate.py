"""Inflate the tar stream of an archive in one pass, from its beginning or from an access point."""

import io
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from heldout_torch.archives.access_points import WINDOW, Point, find_blocks
from heldout_torch.archives.first_bytes import HEAD, is_packed
from heldout_torch.optional import require
from heldout_torch.storage.threads import Background

_READ = 2**19  # packed bytes read, and unpacked bytes given, at a time
_SEARCHED = 2**24  # unpacked bytes of one read that are kept to find points in
_AHEAD = 4  # pieces that wait to be searched, at most
_GZIP, _RAW = 31, -15  # zlib's window bits for a gzip stream, and for what lies inside one
_TRAILER = struct.Struct("<II")  # CRC-32 and size, behind what a gzip member contains


def inflate(
    source: Any, at: Point | None = None, spacing: int = 0, found: Callable[[Point], object] | None = None
) -> io.BufferedIOBase:
    """Return the tar stream of an archive: what gzip (RFC 1952) packed, or the bytes as they are if they are a tar's.

    A gzip stream may have several members and zeros after them. Reading raises NoArchiveError if the bytes are
    something else, and EOFError or an error of isal where they are cut off or damaged, after all that came before.

    Args:
        source: A file with the archive's bytes from `at` on.
        at: Where they begin; the archive's beginning by default.
        spacing: Unpacked bytes between points, at least.
        found: Called with a point when one is due, in order, soon after what lies before it was read; the last before
            the stream's end is read. A background thread calls it. By default no points are searched for.

    Raises:
        HeldoutError: If isal, the fastest inflater measured (see benchmarks/README.md), is not installed.
    """
    isal_zlib = require("isal.isal_zlib", "an archive")
    return io.BufferedReader(_Inflated(source, isal_zlib, at or Point(0, 0, b""), spacing, found), _READ)


class _Inflated(io.RawIOBase):
    """Inflates a bounded number of bytes at a time; isal's own file object loses what precedes an error."""

    def __init__(
        self, source: Any, isal: Any, at: Point, spacing: int, found: Callable[[Point], object] | None
    ) -> None:
        self._source, self._isal = source, isal
        self._tracker = _Tracker(at, spacing, found, isal.crc32)
        self._input = b""  # read and not inflated yet
        self._full = False  # the last buffer was filled, so what was taken in may have more to give
        self._inside = bool(at.window)  # the gzip member began before
        self._member = isal.decompressobj(_RAW, zdict=at.window) if self._inside else isal.decompressobj(_GZIP)
        self._trailer: bytes | None = None  # what came of that member's, which isal then leaves to us
        self._checked = at.crc is not None
        self._packed = True if self._inside else False if at.window is None else None  # None: the first bytes will say

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._packed is None:
            self._packed = is_packed(self._beginning())
            if not self._packed:
                self._tracker.begin_plain()
        data = self._unpacked(len(buffer)) if self._packed else self._plain(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _beginning(self) -> bytes:
        while len(self._input) < HEAD and (more := self._source.read(_READ)):
            self._input += more
        self._tracker.begin_piece(self._input)
        return self._input[:HEAD]

    def _plain(self, count: int) -> bytes:
        self._input = self._input or self._source.read(_READ) or b""
        data, self._input = self._input[:count], self._input[count:]
        self._tracker.pass_by(data)
        return data

    def _unpacked(self, count: int) -> bytes:
        ended = False
        while True:
            if not self._input and not self._full:
                self._tracker.search()
                self._input = self._source.read(_READ) or b""
                self._tracker.begin_piece(self._input)
                ended = not self._input
            if self._trailer is not None:
                self._check_trailer(ended)
            elif self._member.eof:
                self._input = self._input.lstrip(b"\0")
                if ended:
                    self._tracker.finish()
                    return b""
                if self._input:
                    self._member = self._isal.decompressobj(_GZIP)
                    self._tracker.begin_member(len(self._input))
            elif data := self._inflate(count):
                return data
            elif ended:
                raise EOFError("the compressed stream ends too early")

    def _inflate(self, count: int) -> bytes:
        data: bytes = self._member.decompress(self._input, count)
        ended = self._member.eof
        self._input = self._member.unused_data if ended else self._member.unconsumed_tail
        self._full = len(data) == count and not ended
        self._tracker.take(data)
        if ended:
            self._tracker.end_member()
            self._trailer, self._inside = b"" if self._inside else None, False
        return data

    def _check_trailer(self, ended: bool) -> None:
        """Compare the CRC-32 and the size behind a member (RFC 1952, 2.3.1) of which only the end was inflated here."""
        assert self._trailer is not None
        missing = _TRAILER.size - len(self._trailer)
        self._trailer += self._input[:missing]
        self._input = self._input[missing:]
        if len(self._trailer) == _TRAILER.size:
            if self._checked and _TRAILER.unpack(self._trailer) != self._tracker.crc_and_size:
                raise ValueError("the CRC-32 or the size after the compressed stream does not match")
            self._trailer = None
        elif ended:
            raise EOFError("the compressed stream ends too early")


class _Piece(NamedTuple):
    """Packed bytes that were read at once, all of them inflated."""

    packed: bytes
    window: bytes  # unpacked before it
    unpacked: bytes
    packed_at: int  # where it begins in the archive
    unpacked_at: int  # and in the tar stream
    crc: int  # of the gzip member's contents up to there
    member: int  # where that begins in the tar stream


class _Tracker:
    """Tracks the position and the CRC-32 of the reading, and searches each piece for the points that are due."""

    def __init__(
        self, at: Point, spacing: int, found: Callable[[Point], object] | None, crc32: Callable[[bytes, int], int]
    ) -> None:
        self._found, self._spacing = found, spacing
        self._due = at.unpacked + spacing
        self._crc32, self._crc, self._member, self._position = crc32, at.crc or 0, at.member, at.unpacked
        self._before = (at.packed, at.unpacked, self._crc)  # where the piece begins, and the CRC-32 there
        self._piece, self._window, self._chunks = b"", at.window or b"", list[bytes]()
        self._whole = True  # the piece lies in one gzip member, and all that it unpacks to is kept
        self._searching = Background(_AHEAD)

    @property
    def crc_and_size(self) -> tuple[int, int]:
        """CRC-32 and size of the gzip member so far, as its trailer has them."""
        return self._crc, (self._position - self._member) % 2**32

    def begin_piece(self, piece: bytes) -> None:
        """Note what was read; the piece before is used up."""
        self._before = (self._before[0] + len(self._piece), self._position, self._crc)
        if self._chunks:
            last = self._chunks[-1]
            self._window = last[-WINDOW:] if len(last) >= WINDOW else (self._window + b"".join(self._chunks))[-WINDOW:]
        self._piece, self._chunks, self._whole = piece, [], True

    def take(self, data: bytes) -> None:
        """Note what was inflated next."""
        self._position += len(data)
        self._crc = self._crc32(data, self._crc)
        if self._found is not None:
            self._chunks.append(data)
            if self._position - self._before[1] > _SEARCHED:  # of bytes that say little, such as zeros
                self._whole, self._chunks = False, [b"".join(self._chunks)[-WINDOW:]]

    def end_member(self) -> None:
        """Note that no point lies in the piece."""
        self._whole = False

    def begin_member(self, left: int) -> None:
        """Note that a gzip member begins with the last bytes of the piece, as many as are given."""
        self._crc, self._member = 0, self._position
        if self._found is not None:
            self.finish()
            if self._position >= self._due:
                self._found(Point(self._before[0] + len(self._piece) - left, self._position, b""))
                self._due = self._position + self._spacing

    def search(self) -> None:
        """Search the piece, all of which is inflated, for the points that are due, in the background."""
        searching = self._searching.busy()
        if self._found is not None and self._whole and (searching or self._position >= self._due):
            piece = _Piece(self._piece, self._window, b"".join(self._chunks), *self._before, self._member)
            self._searching.call(self._search, self._found, piece)

    def finish(self) -> None:
        """Wait until the searches are done."""
        self._searching.wait()

    def _search(self, found: Callable[[Point], object], piece: _Piece) -> None:
        position = piece.unpacked_at + len(piece.unpacked)
        if position < self._due:
            return
        for packed, unpacked in find_blocks(piece.packed, piece.window, piece.unpacked):
            at = piece.unpacked_at + unpacked
            if at >= self._due:
                preceding = piece.unpacked[:unpacked]
                window = (piece.window + preceding)[-WINDOW:]
                found(Point(piece.packed_at + packed, at, window, self._crc32(preceding, piece.crc), piece.member))
                self._due = at + self._spacing
                if self._due > position:
                    return

    def begin_plain(self) -> None:
        """Note that the archive is not packed, so that a point without a window is found at once."""
        self._due = 0

    def pass_by(self, data: bytes) -> None:
        """Note bytes that are not packed; reading can begin at any of them."""
        if self._found is not None and self._position >= self._due:
            self._found(Point(self._position, self._position, None))
            self._due = self._position + self._spacing
        self._position += len(data)
