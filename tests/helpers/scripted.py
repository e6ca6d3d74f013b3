"""A web server that serves one file, and misbehaves as a script says."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

from tests.helpers.server import Listener

_PACED = 2**16


class Script:
    """What a server does with the next requests, one entry each; when none is left it serves well.

    Attributes:
        data: What it serves.
        steps: `status` (refuse), `headers` (more of them), `cut` (close after so many bytes), `stall` (send nothing
            for so many seconds, then cut), `etag`, `total`, `shift` (lie about version, size, first byte), `silent` (do
            not say which bytes come).
        asked: By request, its first byte and the encoding that it takes.
        logins: By request, the `Authorization` that came with it.
        sent: Bytes of bodies.
        ranges: Whether it answers range requests.
        pace: Seconds that it takes for each 64 KiB.
        trickle: Seconds that it takes for each byte.
    """

    def __init__(self, data: bytes, *steps: dict) -> None:
        self.data, self.steps = data, list(steps)
        self.asked: list[tuple[int, str]] = []
        self.logins: list[str | None] = []
        self.sent, self.ranges, self.etag, self.pace, self.trickle = 0, True, '"one"', 0.0, 0.0


@contextmanager
def serving(script: Script) -> Iterator[str]:
    """Serve until the block ends; yields the URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self):
            if script.pace:  # or megabytes would count as sent that nobody takes
                self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _PACED)
            super().setup()

        def do_GET(self):
            if self.path != "/archive.tar.gz":
                self.send_error(404)
                return
            script.logins.append(self.headers["Authorization"])
            first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
            start, end = (int(first), int(last or len(script.data)) + 1) if script.ranges else (0, None)
            if last != "0":  # a look at size and version is not a read
                script.asked.append((start, self.headers["Accept-Encoding"]))
            step = script.steps.pop(0) if script.steps and last != "0" else {}
            data = script.data[start:end]
            if "status" in step:
                self.send_response(step["status"])
                for name, value in step.get("headers", {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if script.ranges else 200)
            if script.ranges and not step.get("silent"):
                total = step.get("total", len(script.data))
                self.send_header(
                    "Content-Range", f"bytes {start + step.get('shift', 0)}-{len(script.data) - 1}/{total}"
                )
            if (etag := step.get("etag", script.etag)) is not None:
                self.send_header("ETag", etag)
            for name, value in step.get("headers", {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            end = step.get("cut", len(data))
            for begin in range(len(data) if script.trickle else 0):
                self.wfile.write(data[begin : begin + 1])
                self.server.rest(script.trickle)
            for begin in range(0, end, piece := _PACED if script.pace else len(data) + 1):
                self.wfile.write(data[begin : min(begin + piece, end)])
                self.wfile.flush()
                script.sent += min(piece, end - begin)
                self.server.rest(script.pace)
            self.server.rest(step.get("stall", 0))
            if "cut" in step:
                self.close_connection = True
                self.connection.close()

        def log_message(self, *arguments):
            pass

    http = Listener(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_port}/archive.tar.gz"
    finally:
        http.shutdown()
        http.server_close()
