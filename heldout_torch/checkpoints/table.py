"""The sorted-table format of LevelDB, in which a checkpoint's `.index` file is written.

Layout (LevelDB's `table_format`): data blocks, a metaindex block, an index block, a footer of 48 bytes.
Each block is followed by one byte for its compression and four for its masked CRC-32C.
"""

from collections.abc import Iterable, Iterator

from heldout_torch.checkpoints.crc import check_crc
from heldout_torch.checkpoints.wire import read_varint
from heldout_torch.errors import CheckpointError
from heldout_torch.storage.kinds import stands_in

_MAGIC = 0xDB4775248B80FB57
_FOOTER_SIZE = 48
_TRAILER_SIZE = 5
# What any table of a checkpoint stays far below: 20,000 variables make 1 MB and 1.6 MB of keys. A prefix-compressed key
# costs few bytes in the file, so a small hostile file could otherwise ask for much time and memory.
MAX_BYTES = 2**25
_MAX_ENTRIES = 2**16
_MAX_KEY_BYTES = 2**25


def read_table(data: bytes) -> dict[bytes, bytes]:
    """Read all entries of a table.

    Args:
        data: The whole file.

    Returns:
        Values by key, in the table's order (sorted by key).

    Raises:
        CheckpointError: If the table is damaged, truncated or compressed, or larger than any checkpoint's.
    """
    if len(data) > MAX_BYTES:
        raise CheckpointError(f"a table of more than {MAX_BYTES} bytes is not a checkpoint's")
    footer = data[-_FOOTER_SIZE:]
    if int.from_bytes(footer[-8:], "little") != _MAGIC:
        why = stands_in(data) or " (truncated, or another format)"
        raise CheckpointError(f"the file does not end as a TensorFlow index does{why}")
    metaindex_offset, position = read_varint(footer, 0)
    metaindex_size, position = read_varint(footer, position)
    index_offset, position = read_varint(footer, position)
    index_size, position = read_varint(footer, position)
    _read_block(data, metaindex_offset, metaindex_size)  # empty in TensorFlow's tables, but checked

    table: dict[bytes, bytes] = {}
    last_key = None
    for key, value in _entries(_blocks(data, _read_block(data, index_offset, index_size))):
        if last_key is not None and key <= last_key:
            raise CheckpointError("the table's keys are not in order")
        table[key] = value
        last_key = key
    return table


def _blocks(data: bytes, index: bytes) -> Iterator[bytes]:
    """Yield the data blocks that the index block names; each lies after the one before, so none is read twice."""
    last_end = 0
    for _, handle in _entries([index]):
        offset, position = read_varint(handle, 0)
        size, _ = read_varint(handle, position)
        if offset < last_end:
            raise CheckpointError("the table's blocks are not in order")
        last_end = offset + size + _TRAILER_SIZE
        yield _read_block(data, offset, size)


def _read_block(data: bytes, offset: int, size: int) -> bytes:
    end = offset + size
    trailer = data[end : end + _TRAILER_SIZE]
    if end + _TRAILER_SIZE > len(data) - _FOOTER_SIZE:
        raise CheckpointError("a block runs past the end of the table")
    check_crc(data[offset : end + 1], int.from_bytes(trailer[1:], "little"), f"block at byte {offset}")
    if trailer[0] != 0:
        raise CheckpointError(f"block at byte {offset} is compressed (type {trailer[0]}), which is not supported")
    return data[offset:end]


def _entries(blocks: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Decode prefix-compressed entries of blocks: (shared, unshared, value length), key's end, value."""
    count = key_bytes = 0
    for block in blocks:
        if len(block) < 4:
            raise CheckpointError("a block is too short")
        limit = len(block) - 4 - 4 * int.from_bytes(block[-4:], "little")  # where the restart points begin
        if limit < 0:
            raise CheckpointError("a block's restart points do not fit")
        key, position = b"", 0
        while position < limit:
            shared, position = read_varint(block, position)
            unshared, position = read_varint(block, position)
            length, position = read_varint(block, position)
            if shared > len(key) or position + unshared + length > limit:
                raise CheckpointError("an entry runs past the end of its block")
            count, key_bytes = count + 1, key_bytes + shared + unshared
            if count > _MAX_ENTRIES or key_bytes > _MAX_KEY_BYTES:
                raise CheckpointError("the table has too many keys, or too long ones, to be a checkpoint's")
            key = key[:shared] + block[position : position + unshared]
            position += unshared
            yield key, block[position : position + length]
            position += length
