"""The sorted-table format of LevelDB, in which a checkpoint's `.index` file is written.

Layout (LevelDB's `table_format`): data blocks, a metaindex block, an index block, a footer of 48 bytes.
Each block is followed by one byte for its compression and four for its masked CRC-32C.
"""

from heldout_torch.checkpoints.crc import check_crc
from heldout_torch.checkpoints.wire import read_varint
from heldout_torch.errors import CheckpointError

_MAGIC = 0xDB4775248B80FB57
_FOOTER_SIZE = 48
_TRAILER_SIZE = 5
# A prefix-compressed key costs few bytes in the file, so a small hostile file could ask for huge ones.
_MAX_KEY_BYTES = 64 * 2**20


def read_table(data: bytes) -> dict[bytes, bytes]:
    """Read all entries of a table.

    Args:
        data: The whole file.

    Returns:
        Values by key, in the table's order (sorted by key).

    Raises:
        CheckpointError: If the table is damaged, truncated or compressed.
    """
    if len(data) < _FOOTER_SIZE:
        raise CheckpointError(f"{len(data)} bytes are too few for a table")
    footer = data[-_FOOTER_SIZE:]
    if int.from_bytes(footer[-8:], "little") != _MAGIC:
        raise CheckpointError("the file does not end as a TensorFlow index does (truncated, or another format)")
    metaindex_offset, position = read_varint(footer, 0)
    metaindex_size, position = read_varint(footer, position)
    index_offset, position = read_varint(footer, position)
    index_size, position = read_varint(footer, position)
    _read_block(data, metaindex_offset, metaindex_size)  # empty in TensorFlow's tables, but checked

    table: dict[bytes, bytes] = {}
    last_key = None
    key_bytes = 0
    for _, handle in _entries(_read_block(data, index_offset, index_size)):
        offset, position = read_varint(handle, 0)
        size, position = read_varint(handle, position)
        for key, value in _entries(_read_block(data, offset, size)):
            if last_key is not None and key <= last_key:
                raise CheckpointError("the table's keys are not in order")
            key_bytes += len(key)
            if key_bytes > _MAX_KEY_BYTES:
                raise CheckpointError("the table's keys are too long to be a checkpoint's")
            table[key] = value
            last_key = key
    return table


def _read_block(data: bytes, offset: int, size: int) -> bytes:
    end = offset + size
    trailer = data[end : end + _TRAILER_SIZE]
    if end + _TRAILER_SIZE > len(data) - _FOOTER_SIZE:
        raise CheckpointError("a block runs past the end of the table")
    check_crc(data[offset : end + 1], int.from_bytes(trailer[1:], "little"), f"block at byte {offset}")
    if trailer[0] != 0:
        raise CheckpointError(f"block at byte {offset} is compressed (type {trailer[0]}), which is not supported")
    return data[offset:end]


def _entries(block: bytes) -> list[tuple[bytes, bytes]]:
    """Decode prefix-compressed entries: (shared, unshared, value length), key's end, value."""
    if len(block) < 4:
        raise CheckpointError("a block is too short")
    restarts = int.from_bytes(block[-4:], "little")
    limit = len(block) - 4 - 4 * restarts
    if limit < 0:
        raise CheckpointError("a block's restart points do not fit")
    entries = []
    key = b""
    position = key_bytes = 0
    while position < limit:
        shared, position = read_varint(block, position)
        unshared, position = read_varint(block, position)
        length, position = read_varint(block, position)
        if shared > len(key) or position + unshared + length > limit:
            raise CheckpointError("an entry runs past the end of its block")
        key = key[:shared] + block[position : position + unshared]
        key_bytes += len(key)
        if key_bytes > _MAX_KEY_BYTES:
            raise CheckpointError("the table's keys are too long to be a checkpoint's")
        position += unshared
        entries.append((key, block[position : position + length]))
        position += length
    return entries
