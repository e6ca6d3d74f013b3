"""Read a remote file once from start to end, reconnecting when the connection breaks."""

import base64
import http.client
import io
import re
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, NamedTuple

from heldout_torch.archives.ranges import READ, Ranges
from heldout_torch.errors import ZooError, one_line, os_errors
from heldout_torch.storage.offline import check_network
from heldout_torch.storage.paths import is_remote
from heldout_torch.storage.retries import asked_wait, retried
from heldout_torch.storage.urls import check_ranges, open_filesystem
from heldout_torch.storage.web import check_speed, read_content_range

_WAITS = (0.2, 1.0, 3.0, 10.0, 30.0, 60.0)  # seconds before each further try
_FIRST_TRIES = 4  # while nobody has answered yet: a misspelt address, or no network
_SILENT_TRIES = 2  # of these, where each costs many seconds
_MAX_WAIT = 300.0  # seconds, whatever a server asks for
_SILENCE = 60.0  # seconds
_BUFFER = 2**19  # bytes read ahead, which a process that is killed has read for nothing
_PROGRESS = 2**16  # bytes after which the tries are counted anew; or a server could send one with each
_NO_URL = "is no valid URL; in a password write what is no letter or digit as %2F and the like"
_LATER = (408, 425, 429, 500, 502, 503, 504)  # answers that may be others at the next try


class Opened(NamedTuple):
    """A file that is open for reading from start to end.

    Attributes:
        stream: Its bytes.
        size: How many it has; None if that is not known.
        etag: What the server calls this version of it; None if it sends none, or there is no server.
    """

    stream: BinaryIO
    size: int | None
    etag: str | None


def open_stream(location: str, tell: Callable[[str], object] = lambda line: None, start: int = 0) -> Opened:
    """Open a file for reading from start to end.

    Args:
        location: Path or URL.
        tell: Called with a line when a server is waited for.
        start: Where reading begins.

    Raises:
        ZooError: If it cannot be opened, or the network may not be used.
    """
    if not is_remote(location):
        with os_errors(ZooError, f"{location}: cannot be read"):
            file = open(location, "rb")  # noqa: SIM115 (the caller closes it)
            size = file.seek(0, io.SEEK_END)
            file.seek(start)
        return Opened(file, size, None)
    check_network(location)
    if location.startswith(("http://", "https://")):
        stream = HttpStream(location, tell, start)
        return Opened(io.BufferedReader(stream, _BUFFER), stream.size, stream.etag)
    size, etag = _version_in_bucket(location)
    return Opened(io.BufferedReader(Ranges(location, start, size), READ), size, etag)


def version_of(location: str, tell: Callable[[str], object] = lambda line: None) -> tuple[int | None, str | None]:
    """Return size and ETag of a file under a URL, as `Opened` has them, without reading it.

    Args:
        location: URL.
        tell: Called with a line when a server is waited for.

    Raises:
        ZooError: If it cannot be reached, or the network may not be used.
    """
    check_network(location)
    if location.startswith(("http://", "https://")):
        with HttpStream(location, tell, end=1) as stream:
            return stream.size, stream.etag
    return _version_in_bucket(location)


def _version_in_bucket(location: str) -> tuple[int, str | None]:
    filesystem, path = open_filesystem(location)
    try:
        check_ranges(location, 1)  # fsspec takes a web server that cannot be reached for one without the file
        found = retried(lambda: filesystem.info(path), location)
        size, etag = found.get("size"), found.get("ETag") or found.get("etag")
        if size is None:
            raise ZooError(f"{location}: the server does not say how large the file is; copy the file to a disk first")
    except FileNotFoundError:
        raise ZooError(f"{location}: there is no such file") from None
    return size, None if etag is None else str(etag)


class HttpStream(io.RawIOBase):
    """The bytes of a URL, in order. If the connection breaks, reading continues at the byte where it broke.

    Proxies are those of the environment variables. Reading raises ZooError when the server refuses, when the file
    was replaced, or when several tries in a row bring nothing.

    Attributes:
        size: Bytes of the file; None if the server does not say.
        etag: The server's name of this version of the file; None if it has none.
    """

    def __init__(
        self,
        url: str,
        tell: Callable[[str], object] = lambda line: None,
        start: int = 0,
        end: int | None = None,
        waits: Sequence[float] = _WAITS,
        silence: float = _SILENCE,
    ) -> None:
        """Ask for the file.

        Args:
            url: Where it lies; `user:password@` before the host is sent as a login.
            tell: Called with a line when the server is waited for.
            start: Where reading begins.
            end: The byte before which it ends; by default the file's end.
            waits: Seconds before each further try.
            silence: Seconds without a byte, after which a connection counts as broken.

        Raises:
            ZooError: If it cannot be reached.
        """
        self.size: int | None = None
        self.etag: str | None = None
        self._url, self._tell, self._waits, self._silence = url, tell, waits, silence
        self._address, self._login = _without_login(url)
        self._position, self._end = start, "" if end is None else end - 1
        self._counted = start
        self._tries = 0
        self._answer: Any = None
        self._known, self._encoding = False, "identity"  # whether size and ETag are
        self._waited, self._came = 0.0, 0  # seconds and bytes of this answer
        self._reach()

    def readable(self) -> bool:
        """Return True: the stream is for reading."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with what comes next, and return how much that was."""
        while True:
            try:
                left = len(buffer) if self.size is None else min(len(buffer), self.size - self._position)
                data = self._receive(self._answer, left)
                if data or self._position == self.size or self.size is None:
                    break
                reason = "the connection was closed"
            except (OSError, http.client.HTTPException) as error:
                reason = one_line(error)
            self._wait(reason, 0.0)
            self._reach()
        buffer[: len(data)] = data
        self._position += len(data)
        if self._position - self._counted >= _PROGRESS:
            self._counted, self._tries = self._position, 0
        return len(data)

    def close(self) -> None:
        """Close the connection."""
        if self._answer is not None:
            self._answer.close()
        super().close()

    def _receive(self, answer: Any, most: int) -> bytes:
        """Return the next bytes of an answer, once some have come; TimeoutError if it is too slow on average."""
        began = time.monotonic()
        data: bytes = answer.read1(most)  # `readinto` and `read` would wait until all has come
        self._waited, self._came = self._waited + time.monotonic() - began, self._came + len(data)
        check_speed(self._waited, self._came, self._silence)
        return data

    def _reach(self) -> None:
        """Ask for the rest of the file until an answer begins."""
        while True:
            try:
                self._ask()
                return
            except urllib.error.HTTPError as error:
                if error.code == 404:
                    raise ZooError(f"{self._url}: there is no such file") from None
                if error.code == 416:
                    shorter = "is shorter than before; start again" if self._position else "is empty"
                    raise ZooError(f"{self._url}: {shorter}") from None
                reason = f"{error.code} {one_line(error.reason)}"
                if error.code not in _LATER:
                    raise ZooError(f"{self._url}: the server refuses ({reason})") from None
                self._wait(reason, asked_wait(error.headers))
            except (ValueError, http.client.InvalidURL):
                raise ZooError(f"{self._url}: {_NO_URL}") from None
            except (OSError, http.client.HTTPException) as error:
                cause = getattr(error, "reason", error)
                if _is_final(cause):
                    raise ZooError(f"{self._url}: cannot be used ({one_line(cause)})") from None
                slow = isinstance(cause, TimeoutError | socket.gaierror)
                self._wait(one_line(cause), 0.0, _SILENT_TRIES if slow else _FIRST_TRIES)

    def _ask(self) -> None:
        headers = {
            "Range": f"bytes={self._position}-{self._end}",
            "Accept-Encoding": "identity",
            "User-Agent": "heldout_torch",
        }
        request = urllib.request.Request(self._address, headers=headers)
        if self._login:
            request.add_unredirected_header("Authorization", f"Basic {self._login}")  # for this server only
        answer = urllib.request.build_opener(_WebOnly).open(request, timeout=self._silence)
        found = read_content_range(answer.headers.get("Content-Range", ""))
        length = answer.headers.get("Content-Length", "")
        size, etag = found[1] if found else int(length) if length.isdigit() else None, answer.headers.get("ETag")
        encoding = answer.headers.get("Content-Encoding", "identity")
        if answer.status == 206 and not self._known:  # many servers say so how a .tar.gz itself is packed
            self._encoding = encoding
        if encoding != self._encoding:
            raise ZooError(
                f"{self._url}: the server compresses what it sends, so reading cannot continue after a break"
            )
        if answer.status == 206 and found is None:
            raise ZooError(f"{self._url}: the server does not say which bytes it sends")
        if self._known and (size, etag) != (self.size, self.etag):
            raise ZooError(
                f"{self._url}: is another file than before (it had {self.size} bytes and ETag {self.etag}, "
                f"now {size} and {etag}); start again"
            )
        self.size, self.etag, self._known = size, etag, True
        at = found[0] if found and answer.status == 206 else 0
        if at > self._position:
            raise ZooError(f"{self._url}: the server sends bytes that were not asked for")
        self._waited, self._came = 0.0, 0
        while at < self._position:  # it gives no ranges: what was read comes again
            data = self._receive(answer, min(READ, self._position - at))
            if not data:
                raise http.client.IncompleteRead(b"")
            at += len(data)
        self._answer = answer

    def _wait(self, reason: str, seconds: float, first_tries: int | None = None) -> None:
        if self._tries == len(self._waits) or (first_tries == self._tries + 1 and not self._known):
            raise ZooError(
                f"{self._url}: cannot be read at byte {self._position}, tried {self._tries + 1} times ({reason})"
            )
        seconds = min(max(self._waits[self._tries], seconds), _MAX_WAIT)
        self._tries += 1
        self._tell(f"{self._url}: {reason}; waiting {seconds:g} s, then on from byte {self._position}")
        time.sleep(seconds)


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects to web servers only; urllib would also follow them to `ftp:`."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not newurl.startswith(("http://", "https://")):
            raise urllib.error.HTTPError(newurl, code, f"{msg} - redirects to {newurl}", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _is_final(cause: object) -> bool:
    """Return whether the next try fails alike: a bad certificate, a proxy that refuses, or one of an unknown kind."""
    if isinstance(cause, ssl.SSLCertVerificationError) or str(cause).startswith("unknown url type"):
        return True
    proxy = re.search(r"Tunnel connection failed: (4\d\d)", str(cause))
    return proxy is not None and int(proxy[1]) not in _LATER


def _without_login(url: str) -> tuple[str, str]:
    """Return a URL without `user:password@`, as it is sent, and those as HTTP's basic authentication (RFC 7617) is.

    What was not written as `%20`, and the like, is now.

    Raises:
        ZooError: If it is none.
    """
    try:
        found = urllib.parse.urlsplit(url)
    except ValueError:
        raise ZooError(f"{url}: {_NO_URL}") from None
    login, at, host = found.netloc.rpartition("@")
    name, _, password = login.partition(":")
    plain = f"{urllib.parse.unquote(name)}:{urllib.parse.unquote(password)}"
    path, query = (
        urllib.parse.quote(part, "%!$&'()*+,;=:@/?", errors="surrogateescape") for part in (found.path, found.query)
    )
    address = found._replace(netloc=host, path=path, query=query, fragment="").geturl()
    return address, base64.b64encode(plain.encode(errors="surrogateescape")).decode() if at else ""
