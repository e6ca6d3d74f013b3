"""Checkpoints with good checksums and wrong contents, and files that change while they are read."""

import tracemalloc

import numpy as np
import pytest

from heldout_torch import CheckpointError
from heldout_torch.checkpoints import Checkpoint
from tests.helpers.bundles import HEADER, block, bundle, entry, masked, table

ARRAYS = {"a": np.float32([[0, 1, 2], [3, 4, 5]]), "b": np.array(7.0, np.float32), "c": np.zeros((0, 4), np.float32)}


@pytest.fixture
def files(tmp_path):
    for ending, data in zip(("index", "data-00000-of-00001"), bundle(ARRAYS), strict=True):
        (tmp_path / f"ckpt-1.{ending}").write_bytes(data)
    return tmp_path


def refused(index, message, data=b""):
    with pytest.raises(CheckpointError, match=message) as error:
        dict(Checkpoint(index, [data]))
    assert "\n" not in str(error.value)


def test_a_good_one_is_read(files):
    checkpoint = Checkpoint.open(files / "ckpt-1")
    assert list(checkpoint) == list(ARRAYS)
    for key, array in ARRAYS.items():
        np.testing.assert_array_equal(checkpoint[key], array)


def test_no_block_is_read_twice():
    one, two = block([HEADER]), block([(b"a", entry((), 4))])
    assert list(Checkpoint(table([one, two]), [bytes(4)])) == ["a"]
    for handles in ([0, 0], [1, 0], [0, 1, 1], [1, 1], [0] * 50_000):
        refused(table([one, two], handles), "blocks are not in order")


@pytest.mark.parametrize("second", [b"a", b"b"])
def test_keys_come_in_order_and_once(second):
    rows = [HEADER, (b"b", entry((), 4)), (second, entry((), 4))]
    for blocks in ([block(rows)], [block(rows[:2]), block(rows[2:])]):
        refused(table(blocks), "keys are not in order")


@pytest.mark.parametrize(
    "shape", [(0, 2**62), (2**62, 0), (0, 2**61), (2**62, 2**62), (2**63 - 1,), (0,) * 65, (1,) * 65, (-1,), (3, -1)]
)
def test_shapes_that_no_array_has_are_refused(shape):
    refused(table([block([HEADER, (b"a", entry(shape, 0))])]), "a has|dimension")


@pytest.mark.parametrize("size", [-4, 2**62, 2**32, 8])
@pytest.mark.parametrize("offset", [0, -1, -4, 2**63])
def test_sizes_and_places_that_do_not_fit_are_refused(size, offset):
    crc = masked(bytes(4))
    refused(table([block([HEADER, (b"a", entry((1,), size, offset, crc))])]), "a has", bytes(4))
    if offset:
        refused(table([block([HEADER, (b"a", entry((1,), 4, offset, crc))])]), "a ends at", bytes(4))


def test_tables_larger_than_any_checkpoints_are_refused_in_little_memory():
    def keys(count, length):
        return [HEADER, *((b"%0*d" % (length, i), b"") for i in range(count))]

    many, long, large = table([block(keys(100_000, 8))]), table([block(keys(90, 2**19))]), bytes(2**25 + 1)
    for index in (many, long, large):
        tracemalloc.start()
        try:
            refused(index, "too many keys, or too long|more than .* bytes")
            assert tracemalloc.get_traced_memory()[1] < 200 * 2**20
        finally:
            tracemalloc.stop()


def test_a_short_prefixed_table_that_asks_for_long_keys_is_refused():
    long = b"\0" + b"\x80\x80\x40" + b"\0" + bytes(2**20)  # a key of 1 MiB, then many that share it
    body = long + b"".join(b"\x80\x80\x40\x01\0" + bytes([i]) for i in range(1, 100))
    refused(table([block([HEADER]), body + bytes(4) + (1).to_bytes(4, "little")]), "too many keys, or too long ones")


@pytest.mark.parametrize("restarts", [3, 2**32 - 1])
def test_a_block_loses_no_entries_to_restart_points_that_do_not_fit(restarts):
    body = block([(b"a", b"")])[:-4] + restarts.to_bytes(4, "little")
    refused(table([block([HEADER]), body]), "restart points do not fit|runs past the end of its block")


def test_names_that_are_no_text_do_not_hide_each_other():
    found = Checkpoint(table([block([HEADER, (b"\xfe", entry((), 4)), (b"\xff", entry((), 4))])]), [bytes(4)])
    assert len(found) == 2
    refused(table([block([HEADER, (b"\\xff", entry((), 4)), (b"\xff", entry((), 4))])]), "same name")


def test_what_was_read_does_not_change_with_the_file(files):
    checkpoint = Checkpoint.open(files / "ckpt-1")
    before = checkpoint["a"]
    data = files / "ckpt-1.data-00000-of-00001"
    with open(data, "r+b") as file:
        file.write(b"\xff" * 24)
    np.testing.assert_array_equal(before, ARRAYS["a"])
    with pytest.raises(CheckpointError, match="checksum"):
        checkpoint["a"]
    with open(data, "r+b") as file:
        file.truncate(5)
    for key in ("a", "b"):
        with pytest.raises(CheckpointError, match="shorter than it was"):
            checkpoint[key]


@pytest.mark.parametrize("count", ["0000²", "abcde"])
def test_shards_of_odd_numbers_are_refused(files, count):
    (files / "ckpt-1.data-00000-of-00001").rename(files / f"ckpt-1.data-00000-of-{count}")
    with pytest.raises(CheckpointError, match="expected the files of one"):
        Checkpoint.open(files / "ckpt-1")
