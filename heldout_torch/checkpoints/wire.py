"""The few rules of protocol buffers' wire format that checkpoint files use."""

from collections.abc import Iterator

from heldout_torch.errors import CheckpointError


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Read a base-128 integer of at most 64 bits.

    Returns:
        The value, and the position after it.

    Raises:
        CheckpointError: If the data end first or the integer is longer than ten bytes.
    """
    if position < len(data) and data[position] < 0x80:  # most of them, and an index holds thousands
        return data[position], position + 1
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise CheckpointError("an integer runs past the end of its data")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
    raise CheckpointError("an integer is longer than 64 bits")


def read_message(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the fields of one message, in file order.

    Varint and fixed-width fields come as unsigned integers, length-delimited ones as bytes.

    Yields:
        (field number, value).

    Raises:
        CheckpointError: If the bytes are not a message.
    """
    position = 0
    while position < len(data):
        tag, position = read_varint(data, position)
        number, wire_type = tag >> 3, tag & 7
        value: int | bytes
        if wire_type == 0:
            value, position = read_varint(data, position)
        elif wire_type in (1, 2, 5):
            if wire_type == 2:
                size, position = read_varint(data, position)
            else:
                size = 8 if wire_type == 1 else 4
            value = data[position : position + size]
            if len(value) != size:
                raise CheckpointError("a field runs past the end of its message")
            position += size
            if wire_type != 2:
                value = int.from_bytes(value, "little")
        else:
            raise CheckpointError(f"wire type {wire_type} is not known")
        yield number, value


def as_int(value: int | bytes) -> int:
    """Check that a field holds a number.

    Raises:
        CheckpointError: If it holds bytes.
    """
    if isinstance(value, bytes):
        raise CheckpointError("a field holds bytes where a number belongs")
    return value


def as_bytes(value: int | bytes) -> bytes:
    """Check that a field holds bytes.

    Raises:
        CheckpointError: If it holds a number.
    """
    if isinstance(value, int):
        raise CheckpointError("a field holds a number where bytes belong")
    return value
