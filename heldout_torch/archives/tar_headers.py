"""The headers of a tar archive (POSIX.1-1988 ustar, POSIX.1-2001 pax, GNU), read from its stream one after another.

Python's `tarfile` keeps everything that it reads (members, global headers, maps of sparse files) until the end of the
archive, and treats a damaged header as the end. Here each header takes a bounded number of bytes, and is not kept.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass

from heldout_torch.archives.limits import EXTENDED_HEADER, EXTENDED_HEADERS

_BLOCK = 512
_READ = 2**20  # bytes asked for at a time
_REGULAR = (b"0", b"\0", b"7", b"S")
_WITHOUT_DATA = b"123456"  # links, devices, folders and pipes: whatever size they declare, no data follow
_SPARSE = b"S"
_LONG_NAME, _LONG_LINK, _PAX, _SUN_PAX, _GLOBAL = b"L", b"K", b"x", b"X", b"g"
_RECORD = re.compile(rb"(\d{1,6}) ([^=]{1,200})=")
_EXTENDED = (_LONG_NAME, _LONG_LINK, _PAX, _SUN_PAX, _GLOBAL)


class TarError(Exception):
    """The stream is not a tar archive from here on."""


@dataclass(frozen=True)
class Header:
    """What an archive says of one member.

    Attributes:
        begins: Byte of the tar stream at which its header begins, or the extended ones before that.
        name: Its path, as the archive spells it.
        kind: Its type flag; b"0" for all plain files, b"5" for folders.
        size: Bytes that follow.
        link: What it links to, if it is a link.
        sparse: Whether its bytes are those of a file with holes.
    """

    begins: int
    name: str
    kind: bytes
    size: int
    link: str
    sparse: bool


class TarBytes:
    """The bytes of a tar stream, in order.

    The stream's end is an error before the archive's. What came before an error of the stream is given first.

    Attributes:
        position: The byte that comes next.
    """

    def __init__(self, stream: io.BufferedIOBase, position: int = 0) -> None:
        self.position = position
        self._stream = stream
        self._rest = memoryview(b"")  # read and not taken

    def read(self, count: int) -> bytes:
        """Return the next bytes, exactly that many."""
        gathered = io.BytesIO()  # it gives its bytes up without a copy; a checkpoint of ImageNet has 200 MB
        while count > 0:
            count -= gathered.write(self._take(count))
        return gathered.getvalue()

    def skip_to(self, position: int) -> None:
        """Pass over the bytes before a position."""
        while self.position < position:
            self._take(position - self.position)

    def check_rest(self) -> None:
        """Read what follows the end mark, which must be zeros."""
        while rest := self._rest or self._stream.read1(_READ):
            self.position += len(rest)
            self._rest = memoryview(b"")
            if bytes(rest).count(0) != len(rest):
                raise TarError("data after the end of the archive")

    def _take(self, count: int) -> memoryview:
        self._rest = self._rest or memoryview(self._stream.read1(_READ))
        if not self._rest:
            raise TarError("it ends without an end mark")
        taken, self._rest = self._rest[:count], self._rest[count:]
        self.position += len(taken)
        return taken


def read_headers(tar: TarBytes) -> Iterator[Header]:
    """Read the headers of an archive up to its end mark.

    When one is yielded, `tar` stands at the first byte of its data, of which the caller may read as many as it wants.

    Raises:
        TarError: If a header is damaged, or longer than any real one, or the stream ends.
    """
    while (header := _next_header(tar)) is not None:
        end = tar.position + padded(header.size)
        yield header
        tar.skip_to(end)


def is_header(block: bytes) -> bool:
    """Whether a block of 512 bytes is the header of some member."""
    try:
        _check_sum(block)
    except TarError:
        return False
    return True


def padded(size: int) -> int:
    """Return how many bytes of the stream a size takes: whole blocks."""
    return -(-size // _BLOCK) * _BLOCK


def _next_header(tar: TarBytes) -> Header | None:
    """Read one member's header with the extended ones before it; None at the end mark."""
    extended: dict[str, str] = {}
    begins = tar.position
    for _ in range(EXTENDED_HEADERS + 1):
        block = tar.read(_BLOCK)
        if not any(block):
            return None
        _check_sum(block)
        kind, size = block[156:157], _number(block[124:136])
        if kind not in _EXTENDED:
            return _header(tar, begins, block, kind, size, extended)
        if size > EXTENDED_HEADER:
            raise TarError(f"bad header: {size} bytes of type {kind!r}")
        text = tar.read(padded(size))[:size]
        if kind == _LONG_NAME:
            extended.setdefault("path", _text(text))
        elif kind == _LONG_LINK:
            extended.setdefault("linkpath", _text(text))
        elif kind == _GLOBAL:
            if _pax(text).keys() & {"path", "size", "linkpath"}:
                raise TarError("bad header: it gives one name or size to all members")
        else:
            extended |= _pax(text)
    raise TarError(f"bad header: more than {EXTENDED_HEADERS} extended ones for one member")


def _header(tar: TarBytes, begins: int, block: bytes, kind: bytes, size: int, extended: dict[str, str]) -> Header:
    name = _text(block[:100])
    if block[257:263] == b"ustar\0" and (prefix := _text(block[345:500])):
        name = f"{prefix}/{name}"
    if kind == _SPARSE:
        more = block[482]
        while more:  # more blocks of its map
            more = tar.read(_BLOCK)[504]
    name = extended.get("GNU.sparse.name", extended.get("path", name))
    sparse = kind == _SPARSE or any(key.startswith("GNU.sparse.") for key in extended)
    if "size" in extended:
        if not re.fullmatch("[0-9]{1,19}", extended["size"]):
            raise TarError("bad header: the size is not a number")
        size = int(extended["size"])
    if kind in _REGULAR:
        kind = b"5" if name.endswith("/") and kind == b"\0" else b"0"
    if kind in _WITHOUT_DATA:
        size = 0
    return Header(begins, name, kind, size, extended.get("linkpath", _text(block[157:257])), sparse)


def _check_sum(block: bytes) -> None:
    """Check a header's sum, in which the sum itself counts as spaces; some writers add up signed bytes."""
    rest = block[:148] + b" " * 8 + block[156:]
    if _number(block[148:156]) not in (total := sum(rest), total - 256 * sum(byte > 127 for byte in rest)):
        raise TarError("bad header: bad checksum")


def _number(field: bytes) -> int:
    """Read a number: octal digits, or with the first bit set the bytes themselves."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.partition(b"\0")[0].strip()
    if not re.fullmatch(b"[0-7]*", digits):
        raise TarError(f"bad header: {digits!r} is not a number")
    return int(digits or b"0", 8)


def _pax(data: bytes) -> dict[str, str]:
    """Read the records `<length> <key>=<value>` of a pax header."""
    records, place = {}, 0
    while place < len(data) and data[place]:
        found = _RECORD.match(data, place)
        end = place + (int(found[1]) if found else 0)
        if found is None or not found.end() < end <= len(data) or data[end - 1 : end] != b"\n":
            raise TarError("bad header: not a list of keys and values")
        records[found[2].decode(errors="replace")] = _text(data[found.end() : end - 1])
        place = end
    return records


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode(errors="surrogateescape")
