"""A small Hugging Face Hub on loopback: one data set, its commits and their quota, large files, listing, downloads."""

import base64
import hashlib
import json
import re
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlsplit

from tests.helpers.server import Listener

TOKEN = "hf_thisIsTheSecretOfTheTests"
LARGE = (".npz", ".safetensors")
PAGE = 500  # entries of a page of a listing


class Hub:
    """Serves `datasets/someone/runs`.

    Attributes:
        url: What `HF_ENDPOINT` names.
        location: The data set's.
        files: Contents of the committed files, by path.
        commits: For each commit, the paths that it added.
        stored: Contents of large files by SHA-256, committed or not.
        requests: Numbers of requests by kind.
        revision: The only one that there is.
        waits: What the next commits are refused with, seconds of `Retry-After`.
        quota: Commits allowed in `window` seconds; None for any number.
        refused: Status of all answers about the data set; None for what the token deserves.
        private: Whether reading needs the token.
        writable: Whether the token may write.
        leaks: Requests for stored files that came with a token.
    """

    def __init__(self):
        self.files, self.stored, self.commits = {}, {}, []
        self.requests = Counter()
        self.revision = "main"
        self.waits, self.quota, self.window = [], None, 3600.0
        self.refused, self.private, self.writable, self.leaks = None, False, True, []
        self.times, self.lock = [], threading.Lock()
        self.location = "hf://datasets/someone/runs"
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def answer(self, status, data=b"", **headers):
                data = data if isinstance(data, bytes) else json.dumps(data).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                if "Content_Length" not in headers:
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            def handle_one(self):
                path = unquote(urlsplit(self.path).path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                with hub.lock:
                    hub.answer(self, path, body)

            def __getattr__(self, name):
                if name.startswith("do_"):
                    return self.handle_one
                raise AttributeError(name)

            def log_message(self, *arguments):
                pass

        # Large files are stored elsewhere: another server, which has no business with the token.
        self.servers = [Listener(("127.0.0.1", 0), Handler) for _ in range(2)]
        self.url, self.storage = (f"http://127.0.0.1:{server.server_port}" for server in self.servers)

    def answer(self, request, path, body):
        """Answer one request."""
        kinds = {
            r"/lfs/(\w+)": self.large, r"/api/validate-yaml": self.yaml,
            r"/datasets/someone/runs\.git/info/lfs/objects/batch": self.batch,
            r"/api/datasets/someone/runs/auth-check(/write)?": self.check,
            rf"/api/datasets/someone/runs/preupload/{self.revision}": self.preupload,
            rf"/api/datasets/someone/runs/commit/{self.revision}": self.commit,
            rf"/api/datasets/someone/runs/tree/{self.revision}/?(.*)": self.tree,
            rf"/datasets/someone/runs/resolve/{self.revision}/(.*)": self.resolve,
        }  # fmt: skip
        for pattern, kind in kinds.items():
            if (found := re.fullmatch(pattern, path)) is not None:
                self.requests[kind.__name__] += 1
                if kind not in (self.large, self.yaml) and (status := self.status(request, kind)) is not None:
                    return request.answer(status, {"error": "You shall not pass"}, X_Error_Message="You shall not pass")
                return kind(request, body, *found.groups())
        return request.answer(404, {"error": "no such thing"}, X_Error_Code="RepoNotFound")

    def status(self, request, kind):
        if self.refused is not None:
            return self.refused
        if request.headers.get("Authorization") == f"Bearer {TOKEN}":
            return None
        return 401 if kind != self.resolve or self.private else None

    def check(self, request, body, write):
        request.answer(403 if write and not self.writable else 200, {})

    def yaml(self, request, body):
        content = json.loads(body)["content"]
        assert re.match(r"---\nlicense: ", content)
        request.answer(200, {"warnings": [], "errors": []})

    def preupload(self, request, body):
        files = [
            {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
             "shouldIgnore": False, "oid": self.oid(file["path"])}
            for file in json.loads(body)["files"]
        ]  # fmt: skip
        request.answer(200, {"files": files})

    def batch(self, request, body):
        objects = [
            {**file} if file["oid"] in self.stored
            else {**file, "actions": {"upload": {"href": f"{self.storage}/lfs/{file['oid']}", "header": {}}}}
            for file in json.loads(body)["objects"]
        ]  # fmt: skip
        request.answer(200, {"transfer": "basic", "objects": objects})

    def large(self, request, body, oid):
        if request.headers.get("Authorization"):
            self.leaks.append(request.path)
        if request.command == "PUT":
            assert hashlib.sha256(body).hexdigest() == oid
            self.stored[oid] = body
            return request.answer(200)
        return self.send(request, self.stored[oid])

    def commit(self, request, body):
        self.times = [then for then in self.times if time.monotonic() - then < self.window]
        if self.waits or (self.quota is not None and len(self.times) >= self.quota):
            left = self.waits.pop(0) if self.waits else int(self.window - (time.monotonic() - self.times[0])) + 1
            return request.answer(429, {"error": "too many commits"}, Retry_After=str(left))
        self.times.append(time.monotonic())
        lines = [json.loads(line) for line in body.splitlines()]
        assert lines[0]["key"] == "header"
        added = {}
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "lfsFile":
                added[value["path"]] = self.stored[value["oid"]]
            else:
                assert not value["path"].endswith(LARGE)
                added[value["path"]] = base64.b64decode(value["content"])
        self.files |= added
        self.commits.append(sorted(added))
        oid = f"{len(self.commits):040x}"
        return request.answer(200, {"commitUrl": f"{self.url}/datasets/someone/runs/commit/{oid}", "commitOid": oid})

    def tree(self, request, body, folder):
        below = sorted(path for path in self.files if path.startswith(f"{folder}/" if folder else ""))
        folders = sorted({path.rpartition("/")[0] for path in below} - {"", folder})
        if folder and not below:
            return request.answer(404, {"error": "no such folder"}, X_Error_Code="EntryNotFound")
        start = int(parse_qs(urlsplit(request.path).query).get("cursor", ["0"])[0])
        page = [
            {"type": "file", "path": path, "size": len(self.files[path]), "oid": self.oid(path)}
            for path in below[start : start + PAGE]
        ]
        page += [{"type": "directory", "path": path, "oid": "0" * 40} for path in folders if not start]
        base = f"{self.url}{urlsplit(request.path).path}?recursive=true&cursor={start + PAGE}"
        more = {"Link": f'<{base}>; rel="next"'} if start + PAGE < len(below) else {}
        return request.answer(200, page, **more)

    def resolve(self, request, body, path):
        if path not in self.files:
            return request.answer(404, X_Error_Code="EntryNotFound")
        if path.endswith(LARGE):
            oid = hashlib.sha256(self.files[path]).hexdigest()
            return request.answer(302, Location=f"{self.storage}/lfs/{oid}", X_Linked_Etag=f'"{oid}"')
        return self.send(request, self.files[path], ETag=f'"{self.oid(path)}"')

    def send(self, request, data, **headers):
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range", ""))
        if wanted is None:
            return request.answer(200, data, Accept_Ranges="bytes", **headers)
        part = data[int(wanted[1]) : int(wanted[2]) + 1]
        where = f"bytes {wanted[1]}-{int(wanted[1]) + len(part) - 1}/{len(data)}"
        return request.answer(206, part, Content_Range=where, **headers)

    def oid(self, path):
        """Return git's object id of a file; of a large one a stand-in that depends on its contents alone, too."""
        data = self.files.get(path)
        return None if data is None else hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()

    @contextmanager
    def serving(self, folder, monkeypatch):
        """Serve as the Hub of this process and of those that it starts; `folder` takes the place of the user's own."""
        with self.running():
            for name, value in {
                "HF_ENDPOINT": self.url, "HF_TOKEN": TOKEN, "HF_HOME": str(folder), "HF_HUB_DISABLE_XET": "1",
            }.items():  # fmt: skip
                monkeypatch.setenv(name, value)
            # The package reads its environment once, when it is imported, maybe by an earlier test.
            for name, constant in {"ENDPOINT": self.url, "HF_HUB_DISABLE_XET": True}.items():
                monkeypatch.setattr(f"huggingface_hub.constants.{name}", constant)
            yield self

    @contextmanager
    def running(self):
        """Serve until the block ends."""
        for server in self.servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield self
        finally:
            for server in self.servers:
                server.shutdown()
                server.server_close()
