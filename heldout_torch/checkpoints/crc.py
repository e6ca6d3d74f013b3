"""Masked CRC-32C, the checksum of TensorFlow's and LevelDB's files."""

import functools

import numpy as np

from heldout_torch.errors import CheckpointError

try:
    from google_crc32c import value as _crc32c
except ImportError:  # torch.hub may do without; then a megabyte takes a tenth of a second

    def _crc32c(data: bytes | np.ndarray) -> int:
        crc, table = 0xFFFFFFFF, _table()
        for byte in bytes(data):
            crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
        return crc ^ 0xFFFFFFFF


_MASK_DELTA = 0xA282EAD8
_POLYNOMIAL = 0x82F63B78  # Castagnoli's, its bits reversed


def check_crc(data: bytes | np.ndarray, masked: int, what: str) -> None:
    """Compare bytes with their stored checksum.

    LevelDB stores `rotate_right(crc32c, 15) + 0xa282ead8`, so that a checksum of data which itself
    holds checksums stays a good one.

    Args:
        data: The bytes the checksum covers; an array of uint8 spares a copy.
        masked: The stored value, 32 bits.
        what: Names the bytes in the error.

    Raises:
        CheckpointError: If the checksum differs.
    """
    crc = _crc32c(data)
    if ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF != masked:
        raise CheckpointError(f"{what}: checksum does not match, the bytes are damaged")


@functools.cache
def _table() -> list[int]:
    """Return what each byte does to the remainder."""
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = crc >> 1 ^ (_POLYNOMIAL if crc & 1 else 0)
        table.append(crc)
    return table
