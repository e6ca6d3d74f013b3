"""The bytes of an archive: hashed and inflated while they go by once."""

import hashlib
import io
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO

from heldout_torch.archives.tar_headers import is_header
from heldout_torch.errors import ZooError

HEAD = 512  # bytes that say what a file is: one block of a tar
_READ = 2**19  # compressed bytes read, and inflated bytes given, at a time
_GZIP = 31  # zlib's window bits for a gzip stream
_MAGIC = b"\x1f\x8b"
_PACKED = {  # how the bytes of other packers begin, and what unpacks them
    b"\x28\xb5\x2f\xfd": ("a zstd file", "zstd -dc"),
    b"\xfd7zXZ\0": ("an xz file", "xz -dc"),
    b"BZh": ("a bzip2 file", "bzip2 -dc"),
    b"\x04\x22\x4d\x18": ("an lz4 file", "lz4 -dc"),
}
_PAGES = (b"<!doctype", b"<html", b"<?xml", b"<error", b"<head", b"{", b"version https://git-lfs")


class NoArchiveError(Exception):
    """The bytes are something else than a tar archive, packed by gzip or not packed; the message says what."""


class HashedStream(io.RawIOBase):
    """A stream whose bytes are hashed in a thread of its own while the reader works on them."""

    def __init__(self, stream: BinaryIO, progress: Callable[[int], object]) -> None:
        self.size = 0
        self._stream, self._progress = stream, progress
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._pool = ThreadPoolExecutor(1)
        self._last: Future[None] | None = None

    def readable(self) -> bool:
        """Whether it can be read: yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with what comes next, and return how much that was."""
        chunk = self._stream.read(len(buffer))
        buffer[: len(chunk)] = chunk
        self.size += len(chunk)
        self._progress(len(chunk))
        self._join()
        self._last = self._pool.submit(self._md5.update, chunk)
        return len(chunk)

    def digest(self) -> str:
        """Return the MD5 of all that was read."""
        self._join()
        return self._md5.hexdigest()

    def close(self) -> None:
        """End the thread; the stream itself stays open."""
        self._pool.shutdown(wait=True)
        super().close()

    def _join(self) -> None:
        if self._last is not None:
            self._last.result()


def inflate(source: io.RawIOBase) -> io.BufferedIOBase:
    """Return the tar stream of an archive: what gzip (RFC 1952) packed, or the bytes as they are if they are a tar's.

    A gzip stream may have several members and zeros after them. Reading raises NoArchiveError if the bytes are
    something else, and EOFError or an error of isal where they are cut off or damaged, after all that came before.

    Raises:
        ZooError: If isal, the fastest inflater measured (see benchmarks/README.md), is not installed.
    """
    try:
        from isal import isal_zlib
    except ImportError:
        raise ZooError("archives need the package isal: pip install 'heldout-torch[archive]'") from None
    return io.BufferedReader(_Inflated(source, lambda: isal_zlib.decompressobj(wbits=_GZIP)), _READ)


def is_packed(head: bytes) -> bool:
    """Whether an archive is packed by gzip, by its first bytes; else it is a plain tar.

    Args:
        head: Its first HEAD bytes, or all if it is shorter.

    Raises:
        NoArchiveError: If it is neither; the line says what the bytes are and what to do.
    """
    if head.startswith(_MAGIC) or not head:  # nothing at all is an archive cut off
        return True
    if len(head) == HEAD and (is_header(head) or not any(head)):
        return False
    for magic, (what, unpack) in _PACKED.items():
        if head.startswith(magic):
            raise NoArchiveError(f"is {what}, not a .tar.gz; unpack it on the way: {unpack} FILE | heldout export -")
    if head.startswith(b"PK"):
        raise NoArchiveError("is a zip file, expected a .tar.gz or a .tar; unpack it, and name the folder")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.lower().startswith(_PAGES):
        words = " ".join(text[:80].decode(errors="replace").split())
        raise NoArchiveError(f"is a page or a message that was saved instead of the archive: {words!r}; fetch it again")
    raise NoArchiveError(f"is no .tar.gz and no .tar; it begins with {head[:12]!r}")


class _Inflated(io.RawIOBase):
    """Inflates a bounded number of bytes at a time; isal's own file object loses what precedes an error."""

    def __init__(self, source: io.RawIOBase, new_member: Callable[[], Any]) -> None:
        self._source, self._new_member = source, new_member
        self._member = new_member()
        self._input = b""
        self._packed: bool | None = None  # not known before the first bytes have come

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._packed is None:
            while len(self._input) < HEAD and (more := self._read()):
                self._input += more
            self._packed = is_packed(self._input[:HEAD])
        return self._unpack(buffer) if self._packed else self._pass(buffer)

    def _pass(self, buffer: Any) -> int:
        data = (self._input or self._read())[: len(buffer)]
        self._input = self._input[len(data) :]
        buffer[: len(data)] = data
        return len(data)

    def _unpack(self, buffer: Any) -> int:
        while True:
            self._input = self._input or self._read()
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

    def _read(self) -> bytes:
        return self._source.read(_READ) or b""
