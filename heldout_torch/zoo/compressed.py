"""The compressed bytes of an archive: hashed and inflated while they go by once."""

import hashlib
import io
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO, cast

from heldout_torch.errors import ZooError


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


def inflate(source: HashedStream) -> BinaryIO:
    """Give the inflated bytes of a gzip stream.

    Raises:
        ZooError: If isal, the fastest inflater measured (see benchmarks/README.md), is not installed.
    """
    try:
        from isal import igzip
    except ImportError:
        raise ZooError("archives need the package isal: pip install 'heldout-torch[archive]'") from None
    return cast(BinaryIO, igzip.IGzipFile(fileobj=source, mode="rb"))  # type: ignore[no-untyped-call]
