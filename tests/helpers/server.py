"""A web server on loopback that answers range requests, counts what it sends, and misbehaves when told to."""

import re
import socket
import sys
import threading
from base64 import b64decode
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote


class Listener(ThreadingHTTPServer):
    """What all servers of the tests are: what they do ends when they are closed, and is not told in another test.

    A client that has gone is no error.
    """

    daemon_threads = True

    def __init__(self, *arguments):
        self._closed = threading.Event()
        super().__init__(*arguments)

    def rest(self, seconds):
        """Wait, but no longer than the server is there; not by `time.sleep`, which a test may have replaced."""
        if self._closed.wait(seconds):
            raise ConnectionAbortedError("the server is closed")

    def server_close(self):
        self._closed.set()
        super().server_close()

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Server:
    """Serves a folder.

    Attributes:
        url: Where.
        requests: Numbers of GET requests by path.
        sent: Bytes of bodies sent by path.
        faults: What befalls the next GET requests for a path, in order: `500`, `drop` (half the body, then the
            connection closes), `wrong` (one byte changed), `slow` (in small pieces); the empty word is none.
        ranges: Whether range requests are answered.
        most: Bytes of a range that are sent at once; all by default.
        login: `user:password` that requests must have; none by default.
        missing: Status of the answer where there is no file.
    """

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        self.folder, self.ranges = folder, True
        self.login: str | None = None
        self.missing = 404
        self.most: int | None = None
        self.requests: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.faults: dict[str, list[str]] = {}
        self.lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self):
                self.answer(head=True)

            def do_GET(self):
                self.answer(head=False)

            def answer(self, head):
                name = unquote(self.path.lstrip("/").partition("?")[0])
                with server.lock:
                    server.requests[name] += not head
                    fault = server.faults[name].pop(0) if not head and server.faults.get(name) else None
                path = server.folder / name
                sent = self.headers.get("Authorization", "").removeprefix("Basic ")
                refused = server.login is not None and b64decode(sent).decode() != server.login
                if refused or fault == "500" or not path.is_file():
                    self.send_response(401 if refused else 500 if fault else server.missing)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                data, status = path.read_bytes(), 200
                size = len(data)
                wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
                if wanted and server.ranges:
                    data, status = data[int(wanted[1]) : int(wanted[2]) + 1][: server.most], 206
                self.send_response(status)
                if server.ranges:
                    self.send_header("Accept-Ranges", "bytes")
                if status == 206:
                    self.send_header("Content-Range", f"bytes {wanted[1]}-{int(wanted[1]) + len(data) - 1}/{size}")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if head:
                    return
                if fault == "wrong":
                    data = data[:-1] + bytes([data[-1] ^ 1])
                if fault == "drop":
                    data = data[: len(data) // 2]
                with server.lock:
                    server.sent[name] += len(data)
                for piece in range(0, len(data), step := len(data) // 10 + 1 if fault == "slow" else len(data) + 1):
                    self.wfile.write(data[piece : piece + step])
                    self.server.rest(0.1 if fault == "slow" else 0)
                if fault == "drop":
                    self.wfile.flush()
                    self.close_connection = True
                    self.connection.close()

            def log_message(self, *arguments):
                pass

        class Web(Listener):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        self._http = Web((host, 0), Handler)
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self._http.server_port}"

    @contextmanager
    def running(self) -> Iterator["Server"]:
        """Serve until the block ends."""
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield self
        finally:
            self._http.shutdown()
            self._http.server_close()
