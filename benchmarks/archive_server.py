"""A web server for `archive.py`, in a process of its own: a folder, with ranges and ETags, and what was asked for.

Usage: python benchmarks/archive_server.py FOLDER
Prints its port, and serves on loopback until it is ended.
"""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import PIPE, Popen
from urllib.request import Request, urlopen

ASKED = "/asked"  # answers with the number of requests and of bytes since it was asked before


@contextmanager
def serving(folder: str | os.PathLike[str]) -> Iterator[str]:
    """Serve a folder until the block ends; yields its URL."""
    command = [sys.executable, __file__, os.fspath(folder)]
    with Popen(command, stdout=PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def asked(url: str) -> tuple[int, int]:
    """Return how many requests a server had, and for how many bytes, since this was asked last."""
    with urlopen(Request(url + ASKED)) as answer:
        requests, size = answer.read().split()
    return int(requests), int(size)


async def _serve(folder: str) -> None:
    from aiohttp import web

    counts = [0, 0]

    async def count(request: web.Request, response: web.StreamResponse) -> None:
        if request.method == "GET" and response.status in (200, 206) and request.path != ASKED:
            counts[0] += 1
            counts[1] += response.content_length or 0

    async def answer(request: web.Request) -> web.Response:
        said, counts[:] = f"{counts[0]} {counts[1]}", [0, 0]
        return web.Response(text=said)

    app = web.Application()
    app.on_response_prepare.append(count)
    app.router.add_get(ASKED, answer)
    app.router.add_static("/", folder)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
