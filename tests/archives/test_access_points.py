"""Points found beside an inflater: reading goes on at each with the same bytes, whatever packed the archive.

Also of archives/inflate.py.
"""

import gzip
import io
import itertools
import tarfile
import zlib

import numpy as np
import pytest
from isal import igzip

from heldout_torch.archives.access_points import WINDOW, find_blocks
from heldout_torch.archives.inflate import inflate

SPACING = 2**20


def contents():
    """A tar of weights, which hardly pack, and of bytes that pack to a fourth and to nothing."""
    chance = np.random.default_rng(0)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for number in range(6):
            for data in (
                chance.normal(size=500_000).astype(np.float32).tobytes(),
                (chance.random(300_000) < 0.7).tobytes() + bytes(100_000),
            ):
                info = tarfile.TarInfo(f"{number}-{len(data)}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


TAR = contents()


def in_members(size):
    return b"".join(gzip.compress(TAR[start : start + size], 1) for start in range(0, len(TAR), size))


PACKED = {
    "gzip": lambda: gzip.compress(TAR),
    "gzip -1": lambda: gzip.compress(TAR, 1),
    "not compressed": lambda: gzip.compress(TAR, 0),
    "another packer": lambda: igzip.compress(TAR, 2),
    "small members": lambda: in_members(100_001),
    "large members, and zeros behind them": lambda: in_members(4_000_001) + bytes(5000),
    "a plain tar": lambda: TAR,
}


def points_of(packed, spacing=SPACING):
    points = []
    assert inflate(io.BytesIO(packed), None, spacing, points.append).read() == TAR
    return points


@pytest.mark.parametrize("packer", PACKED)
def test_reading_goes_on_at_every_point(packer):
    packed = PACKED[packer]()
    points = points_of(packed)
    assert len(points) >= len(TAR) // (4 * SPACING)  # a read without a block that ends with a byte finds none
    assert all(after.unpacked - before.unpacked >= SPACING for before, after in itertools.pairwise(points))
    for point in points:
        assert inflate(io.BytesIO(packed[point.packed :]), point).read() == TAR[point.unpacked :]
        if point.crc is not None:
            assert point.window == TAR[point.unpacked - WINDOW : point.unpacked]
            assert point.crc == zlib.crc32(TAR[point.member : point.unpacked])


def test_a_piece_with_a_members_end_holds_no_point_of_another_sum():
    packed = in_members(700_001)
    points = points_of(packed, 2**16)
    assert any(point.window for point in points)
    for point in points:
        assert point.crc is None or point.crc == zlib.crc32(TAR[point.member : point.unpacked])


def test_points_are_found_in_the_pass_that_goes_on_from_one():
    packed = gzip.compress(TAR)
    points = points_of(packed)
    for number in (0, len(points) // 2):
        found, start = [], points[number]
        inflate(io.BytesIO(packed[start.packed :]), start, SPACING, found.append).read()
        assert found
        for point in found:
            assert point.crc == zlib.crc32(TAR[: point.unpacked])
            assert inflate(io.BytesIO(packed[point.packed :]), point).read() == TAR[point.unpacked :]


@pytest.mark.parametrize("packer", ["gzip", "large members, and zeros behind them"])
def test_what_was_read_before_a_point_counts_in_the_check_at_the_end(packer):
    packed = PACKED[packer]()
    point = next(point for point in points_of(packed) if point.window)
    rest = packed[point.packed :]
    with pytest.raises(ValueError, match="the CRC-32 or the size after the compressed stream does not match"):
        inflate(io.BytesIO(rest), point._replace(crc=point.crc ^ 1)).read()
    with pytest.raises(ValueError, match="the CRC-32 or the size"):
        inflate(io.BytesIO(rest), point._replace(member=point.member + 1)).read()
    assert inflate(io.BytesIO(rest), point._replace(crc=None)).read() == TAR[point.unpacked :]


def test_a_stream_cut_off_behind_a_point_is_an_error():
    packed = gzip.compress(TAR)
    point = points_of(packed)[-1]
    for size in (0, 1000, len(packed) - point.packed - 8, len(packed) - point.packed - 1):
        with pytest.raises(EOFError, match="ends too early"):
            inflate(io.BytesIO(packed[point.packed : point.packed + size]), point).read()


def test_stored_bytes_that_look_like_a_header_are_no_point():
    """They give themselves for as long as they say: only what follows tells."""
    chance = np.random.default_rng(1)
    stored = chance.bytes(20_000) + b"\x00\x00\x80\xff\x7f" + chance.bytes(40_000)  # 2**15 bytes follow, it seems
    data = chance.bytes(70_000) + stored
    packed = gzip.compress(data, 0)[10:]
    for cut in (91_500, 97_000):  # the block that holds them ends at 98,314
        piece = packed[:cut]
        gave = zlib.decompressobj(-15).decompress(piece)
        assert piece[90_010:90_015] == b"\x00\x00\x80\xff\x7f"
        for start, before in find_blocks(piece, b"", gave):
            rest = zlib.decompressobj(-15, zdict=gave[before - WINDOW : before]).decompress(packed[start:])
            assert rest == data[before:]


def test_nothing_is_found_in_what_is_no_stream():
    noise = np.random.default_rng(2).bytes(2**19)
    assert list(find_blocks(noise, bytes(WINDOW), noise)) == []
