"""Masked CRC-32C, the checksum of TensorFlow's and LevelDB's files."""

import google_crc32c
import numpy as np

from heldout_torch.errors import CheckpointError

_MASK_DELTA = 0xA282EAD8


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
    crc = google_crc32c.value(data)
    if ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF != masked:
        raise CheckpointError(f"{what}: checksum does not match, the bytes are damaged")
