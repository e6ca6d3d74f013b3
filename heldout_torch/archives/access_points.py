"""Find points in a gzip stream where inflating can begin, with an inflater that does not report block boundaries.

A deflate stream (RFC 1951) is a sequence of blocks of some ten kilobytes. Inflating can begin at any block, given the
32 KiB of contents before it, to which the block may refer. Blocks may end at any bit. The eighth of them that ends at a
byte boundary is enough, so no bits need to be shifted. A block header has few valid forms: about one byte in a thousand
looks like one. Inflating from there shows which are blocks: they give the contents that are known to follow.
"""

import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

WINDOW = 2**15  # how far back deflate refers
SPACING = 2**23  # unpacked bytes between points of a seek index: windows are then 0.4 % of them
_PIECE = 2**16  # packed bytes searched at a time; a fourth of them holds a point on average
_HEADER = 16  # bytes by which a header is recognized
_LENGTHS = 19  # of the code that packs a block's codes, 3 bits each
_CHECKED = 2**10  # unpacked bytes that must be right for a point to be believed, at least
_COMPARED = 2**15  # packed bytes behind a point that are inflated and compared

# What four lengths of 3 bits together use of a code, in 128ths; a length of 0 is of a symbol that does not occur.
_FOUR = np.arange(2**12)[:, None] >> np.arange(0, 12, 3) & 7  # (4096, 4)
_USED = np.where(_FOUR > 0, 128 >> _FOUR, 0).sum(axis=1)  # (4096,)


class Point(NamedTuple):
    """An access point: a position in an archive where reading can begin.

    Attributes:
        packed: Byte of the archive.
        unpacked: Byte of the tar stream that it stands for.
        window: Up to 32 KiB of the tar stream before it; None in an archive that is not packed.
        crc: CRC-32 of the gzip member's contents up to the point; None if it is not known.
        member: Byte of the tar stream at which that gzip member begins.
    """

    packed: int
    unpacked: int
    window: bytes | None
    crc: int | None = None
    member: int = 0


def find_blocks(packed: bytes, window: bytes, unpacked: bytes) -> Iterator[tuple[int, int]]:
    """Yield places at which blocks begin, in order.

    Args:
        packed: A piece of one gzip member's packed bytes.
        window: The last 32 KiB unpacked before what the piece gives, or less at a member's beginning.
        unpacked: All that the piece gives.

    Yields:
        Byte of `packed`, and how many bytes of `unpacked` lie before it.
    """
    known, view = window + unpacked, memoryview(packed)
    for start in _candidates(packed):
        rest, compared = view[start:], _COMPARED
        if rest[0] & 7 == 0:  # bytes that are stored can look like a header, and give themselves as far as it says
            stored = int.from_bytes(rest[1:3], "little")
            compared += stored
            if stored + _CHECKED > len(rest):
                continue
        begins = _place(rest, compared, known)
        if begins is None or begins < WINDOW:
            continue
        found = _inflated(rest[:compared], known[begins - WINDOW : begins], len(known))
        if found is not None and len(found) >= _CHECKED and known.startswith(found, begins):
            yield start, begins - len(window)


def _place(rest: memoryview, compared: int, known: bytes) -> int | None:
    """Return where in the known contents those of `rest` begin; None if no block begins `rest`."""
    first = _inflated(rest[:compared], bytes(WINDOW), len(known))
    if first is None or len(first) < _CHECKED:
        return None
    end = first[-_CHECKED:]  # what refers to the window is wrong; toward the end, less does
    if (place := known.find(end)) >= 0 and known.rfind(end) == place:
        return place + len(end) - len(first)
    found = first if len(rest) <= compared else _inflated(rest, bytes(WINDOW), len(known))
    return None if found is None else len(known) - len(found)


def _inflated(packed: memoryview, window: bytes, limit: int) -> bytes | None:
    """Return what packed bytes unpack to if a block begins them; None if none does, or the stream ends in them."""
    inflating = zlib.decompressobj(-zlib.MAX_WBITS, zdict=window)
    try:
        unpacked = inflating.decompress(packed, limit + 1)
    except zlib.error:
        return None
    return None if inflating.eof or len(unpacked) > limit else unpacked


def _candidates(packed: bytes) -> Iterator[int]:
    """Yield the bytes that look like a block's beginning: not the last block, of dynamic codes or stored."""
    for piece in range(0, len(packed) - _HEADER, _PIECE):
        data = np.frombuffer(packed[piece : piece + _PIECE + _HEADER], np.uint8)
        first = data[:-_HEADER] & 7
        places = np.concatenate([_dynamic(data, np.flatnonzero(first == 4)), _stored(data, np.flatnonzero(first == 0))])
        yield from (piece + int(place) for place in np.sort(places))


def _dynamic(data: npt.NDArray[np.uint8], places: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Keep the places of a plausible header (RFC 1951, 3.2.7): counts in range, and a code that uses all its bits."""
    words = np.ndarray(len(data) - 7, "<u8", data, strides=(1,))  # the 8 bytes at each place
    low, high = words[places], words[places + 2]  # (places,), bits 0 to 63, and 16 to 79
    codes, distances, lengths = (low >> 3) & 31, (low >> 8) & 31, ((low >> 13) & 15) + 4
    lengths = (high >> 1) & ((1 << 3 * lengths) - 1)  # (places,), as many as there are, 3 bits each
    used = _USED[lengths & 4095]  # (places,), in 128ths of all that a code can use
    for shift in range(12, 3 * _LENGTHS, 12):
        used = used + _USED[(lengths >> shift) & 4095]
    return places[(codes < 30) & (distances < 30) & (used == 128)]


def _stored(data: npt.NDArray[np.uint8], places: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Keep the places of a stored block's header (RFC 1951, 3.2.4): its length, and the complement of that."""
    length, turned = (data[places + i].astype(np.uint16) | data[places + i + 1].astype(np.uint16) << 8 for i in (1, 3))
    return places[length == ~turned]
