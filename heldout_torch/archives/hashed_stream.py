"""A stream of an archive's bytes that are hashed while they are read."""

import hashlib
import io
from collections.abc import Callable
from typing import Any, BinaryIO

from heldout_torch.storage.threads import Background

_TAIL = 8  # bytes


class HashedStream(io.RawIOBase):
    """A stream whose bytes are hashed in a thread of its own while the reader works on them.

    Attributes:
        size: How many bytes were read.
        tail: The last 8 of them, in which gzip keeps the CRC-32 and the size of the contents.
    """

    def __init__(self, stream: BinaryIO, progress: Callable[[int], object], hashed: bool = True) -> None:
        """Read a stream.

        Args:
            stream: What is read; it stays open.
            progress: Called with every number of bytes read.
            hashed: Whether its `digest` will be asked for; a part of an archive has none that says anything.
        """
        self.size, self.tail = 0, b""
        self._stream, self._progress, self._hashed = stream, progress, hashed
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._background = Background()

    def readable(self) -> bool:
        """Return True: the stream is for reading."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with what comes next, and return how much that was."""
        chunk = self._stream.read(len(buffer))
        buffer[: len(chunk)] = chunk
        self.size += len(chunk)
        self.tail = (self.tail + chunk[-_TAIL:])[-_TAIL:]
        self._progress(len(chunk))
        if self._hashed:
            self._background.call(self._md5.update, chunk)
        return len(chunk)

    def digest(self) -> str:
        """Return the MD5 of all that was read."""
        self._background.wait()
        return self._md5.hexdigest()

    def close(self) -> None:
        """End the thread; the stream itself stays open."""
        self._background.close()
        super().close()
