"""The compressed bytes of an archive: hashed and inflated while they go by once."""

import hashlib
import io
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO

from heldout_torch.errors import ZooError

_READ = 2**19  # compressed bytes read, and inflated bytes given, at a time
_GZIP = 31  # zlib's window bits for a gzip stream


class HashedStream(io.RawIOBase):
    """A stream whose bytes are hashed in a thread of its own while the reader works on them."""

    def __init__(self, stream: BinaryIO, progress: Callable[[int], object]) -> None:
        self.size = 0
        self._stream, self._progress = stream, progress
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._pool = ThreadPoolExecutor(1)
        self._last: Future[None] | None = None

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with what comes next, and give how much that was."""
        chunk = self._stream.read(len(buffer))
        buffer[: len(chunk)] = chunk
        self.size += len(chunk)
        self._progress(len(chunk))
        self._join()
        self._last = self._pool.submit(self._md5.update, chunk)
        return len(chunk)

    def digest(self) -> str:
        """Give the MD5 of all that was read."""
        self._join()
        return self._md5.hexdigest()

    def close(self) -> None:
        """End the thread; the stream itself stays open."""
        self._pool.shutdown(wait=True)
        super().close()

    def _join(self) -> None:
        if self._last is not None:
            self._last.result()


def inflate(source: HashedStream) -> io.BufferedIOBase:
    """Give the inflated bytes of a gzip stream (RFC 1952), which may have several members and zeros after them.

    Reading raises EOFError or an error of isal where the stream is cut off or damaged, after all that came before.

    Raises:
        ZooError: If isal, the fastest inflater measured (see benchmarks/README.md), is not installed.
    """
    try:
        from isal import isal_zlib
    except ImportError:
        raise ZooError("archives need the package isal: pip install 'heldout-torch[archive]'") from None
    return io.BufferedReader(_Inflated(source, lambda: isal_zlib.decompressobj(wbits=_GZIP)), _READ)


class _Inflated(io.RawIOBase):
    """Inflates a bounded number of bytes at a time; isal's own file object loses what precedes an error."""

    def __init__(self, source: HashedStream, new_member: Callable[[], Any]) -> None:
        self._source, self._new_member = source, new_member
        self._member = new_member()
        self._input = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            self._input = self._input or self._source.read(_READ)
            ended = not self._input
            if self._member.eof:
                self._input = self._input.lstrip(b"\0")
                if ended:
                    return 0
                if not self._input:
                    continue
                self._member = self._new_member()
            data: bytes = self._member.decompress(self._input, len(buffer))
            self._input = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            if data:
                buffer[: len(data)] = data
                return len(data)
            if ended:
                raise EOFError("the compressed stream ends too early")
