"""Read a part of a local or remote file from start to end, by ranges."""

import io
from typing import Any

from heldout_torch.storage.urls import read_range

READ = 2**21  # bytes asked for at a time


class Ranges(io.RawIOBase):
    """The bytes of a file between two positions, requested as they are read."""

    def __init__(self, location: str, start: int, end: int) -> None:
        """Start at the first byte.

        Args:
            location: Path or URL.
            start: First byte.
            end: Byte after the last.
        """
        self._location, self._position, self._end = location, start, end

    def readable(self) -> bool:
        """Return True: the stream is for reading."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with what comes next, and return how much that was."""
        end = min(self._position + len(buffer), self._end)
        data = read_range(self._location, self._position, end) if self._position < end else b""
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
