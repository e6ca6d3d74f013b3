"""Checks of contents: `sha256:`, `md5:`, and `git-blob:`, by which git names a file, each with its hexadecimal digits.

A git blob id is the SHA-1 of `blob SIZE`, a zero byte and the contents.
"""

import hashlib
from pathlib import Path
from typing import Any

_PIECE = 2**22  # bytes read at once


def matches(path: Path, check: str) -> bool:
    """Return whether a file has the contents that a check says; OSError if it cannot be read."""
    with open(path, "rb") as file:
        digest = _hasher(check, path.stat().st_size)
        while piece := file.read(_PIECE):
            digest.update(piece)
    return f"{check.partition(':')[0]}:{digest.hexdigest()}" == check


def digest_of(data: bytes | bytearray, check: str) -> str:
    """Return the check of some contents, of the same kind as a given one."""
    digest = _hasher(check, len(data))
    digest.update(data)
    return f"{check.partition(':')[0]}:{digest.hexdigest()}"


def _hasher(check: str, size: int) -> Any:
    kind = check.partition(":")[0]
    digest = hashlib.new("sha1" if kind == "git-blob" else kind, usedforsecurity=False)
    if kind == "git-blob":
        digest.update(f"blob {size}\0".encode())
    return digest


def place_digest(location: str) -> str:
    """Return 16 hexadecimal digits for a path or URL; a path may hold bytes that are not UTF-8."""
    return hashlib.sha256(location.encode(errors="surrogateescape")).hexdigest()[:16]
