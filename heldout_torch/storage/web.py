"""Read from web servers, with bounds on the size and the time of an answer."""

import asyncio
import re
import urllib.request
from typing import Any

from heldout_torch.errors import ZooError

SILENCE = 30.0  # seconds without a byte after which a server counts as silent
SLOWEST = 10_000  # bytes a second that an answer must have on average
_FEWEST = 2**16  # bytes of a range that a server may send instead of all that was asked for
_NO_RANGES = "the server does not answer range requests; copy the file to a disk first"


def client_options() -> dict[str, Any]:
    """Return how aiohttp's sessions are made: proxies of the environment, nothing packed on the way, time-outs."""
    import aiohttp

    return {
        "trust_env": True,
        "auto_decompress": False,  # what a server packs nevertheless could be a thousand times larger
        "headers": {"Accept-Encoding": "identity"},
        "timeout": aiohttp.ClientTimeout(total=None, sock_connect=SILENCE, sock_read=SILENCE),
    }


def check_speed(seconds: float, count: int, silence: float) -> None:
    """Check that an answer does not come so slowly that it would never end.

    Args:
        seconds: How long the answer has taken.
        count: Bytes that came.
        silence: Seconds that it may take in addition to those for its bytes.

    Raises:
        TimeoutError: If it does.
    """
    if seconds > silence + count / SLOWEST:
        raise TimeoutError(f"the server sends less than {SLOWEST} bytes a second")


def fetch(filesystem: Any, url: str, limit: int) -> bytes:
    """Read a whole file of a web server.

    Args:
        filesystem: fsspec's, made with `client_options`.
        url: Where.
        limit: Most bytes that it may have.

    Raises:
        FileNotFoundError: If there is none.
        ZooError: If it has more bytes.
        Exception: aiohttp's, and TimeoutError, if it cannot be read.
    """
    from fsspec.asyn import sync

    data: bytes = sync(filesystem.loop, _fetch, filesystem, url, {}, limit, None)
    return data


def fetch_range(filesystem: Any, url: str, start: int, end: int, whole_size: int | None) -> bytes:
    """Read bytes `start` to `end` of a file of a web server; fewer where it ends before.

    Args:
        filesystem: fsspec's, made with `client_options`.
        url: Where.
        start: First byte.
        end: Byte after the last.
        whole_size: Size of the file, if all of it may come where the server gives no ranges.

    Raises:
        FileNotFoundError: If there is none.
        ZooError: If the server gives no ranges.
        Exception: aiohttp's, and TimeoutError, if it cannot be read.
    """
    from fsspec.asyn import sync

    if start >= end:
        return b""
    headers = {"Range": f"bytes={start}-{end - 1}"}
    limit = end - start
    data: bytes = sync(filesystem.loop, _fetch, filesystem, url, headers, limit, (start, end, whole_size))
    return data


async def _fetch(
    filesystem: Any, url: str, headers: dict[str, str], limit: int, wanted: tuple[int, int, int | None] | None
) -> bytes:
    session = await filesystem.set_session()
    options = {**filesystem.kwargs, "headers": {**filesystem.kwargs.get("headers", {}), **headers}}
    address = filesystem.encode_url(url)
    if (proxy := _bare_proxy(address)) is not None:
        options["proxy"] = proxy
    try:
        async with asyncio.timeout(2 * SILENCE):  # the head of the answer
            response = await session.get(address, **options)
    except Exception as error:
        if "Http" in type(error.__cause__).__name__:  # aiohttp calls it an answer of status 400, which nobody sent
            raise ConnectionError(f"the answer is not HTTP: {getattr(error, 'message', '')[:60]}") from None
        raise
    async with response:
        if response.status in (404, 410):
            raise FileNotFoundError(url)
        if response.status == 416 and wanted is not None:
            return b""  # it begins after the file's end
        response.raise_for_status()
        if response.status not in (200, 206):  # such as a redirect to nowhere
            raise ZooError(f"{url}: cannot be used (the server answers {response.status} {response.reason})")
        expected = None
        if wanted is not None and response.status == 206:
            expected = _expected(response.headers.get("Content-Range", ""), *wanted[:2])
        elif wanted is not None:
            limit = _limit_of_whole(url, response.content_length, *wanted)
        whole = wanted is not None and response.status != 206
        data = await _body(response, limit, url, f"; {_NO_RANGES}" if whole else "")
    if expected is not None and len(data) < min(expected, _FEWEST):
        raise ConnectionError(f"the server sends {len(data)} bytes, {expected} were requested")
    return data


def _bare_proxy(address: Any) -> str | None:
    """Return the proxy that the environment names for an address without `http://`, of which aiohttp takes none."""
    proxy = urllib.request.getproxies().get(address.scheme, "")
    if not proxy or "://" in proxy or urllib.request.proxy_bypass(address.host):
        return None
    return f"http://{proxy}"


async def _body(response: Any, limit: int, url: str, why: str) -> bytes:
    clock = asyncio.get_running_loop().time
    data, began = bytearray(), clock()
    async for piece in response.content.iter_any():
        data += piece
        if len(data) > limit:
            raise ZooError(f"{url}: has more than {limit} bytes, the largest size expected{why}")
        check_speed(clock() - began, len(data), SILENCE)
    return bytes(data)


def read_content_range(header: str) -> tuple[int, int | None] | None:
    """Return which byte a part of a file begins with, and the file's size if it is told; None if nothing is.

    The header is `Content-Range` of RFC 9110, section 14.4; a number of more than 18 digits is none.
    """
    found = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", header.strip(), re.IGNORECASE)
    return found and (int(found[1]), None if found[2] == "*" else int(found[2]))


def _expected(header: str, start: int, end: int) -> int | None:
    """Return how many bytes a range must have, None if the server does not say how long the file is."""
    found = read_content_range(header)
    if found is None or found[0] != start:
        raise ConnectionError(f"the server sends another range than requested ({header[:60]!r})")
    return None if found[1] is None else max(min(end, found[1]) - start, 0)


def _limit_of_whole(url: str, length: int | None, start: int, end: int, whole_size: int | None) -> int:
    """Return how many bytes of an answer without range may come: a small file, or all of one that may come whole."""
    allowed = [size for size in (whole_size, end if start == 0 else None) if size is not None]
    if not allowed or (length is not None and length > max(allowed)):
        raise ZooError(f"{url}: {_NO_RANGES}")
    return max(allowed)
