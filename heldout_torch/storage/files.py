"""Writing so that a file, or a folder of files, is there whole or not at all."""

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PARTIAL = ".partial-"  # how the names of what is not yet whole begin
_STALE_SECONDS = 3600.0


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file whole or not at all. Several writers may write the same path; the last one wins."""
    with new_file(path) as file:
        file.write(data)


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Make a file appear at once with all its bytes: a temporary one beside it is written, synced, renamed.

    Folders on the way are made. Yields the temporary file, open for writing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{PARTIAL}{uuid.uuid4().hex}")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and wait until the disk has it."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def new_folder(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """Make a folder appear at once with all its files.

    Yields a temporary folder beside `path`; its files are to be written with `write_synced`. When the block ends, the
    folder moves to `path`. If another writer was first, its folder stays and ours is dropped, unless `overwrite`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{PARTIAL}{uuid.uuid4().hex}")
    old = path.with_name(f"{PARTIAL}{uuid.uuid4().hex}")
    temporary.mkdir()
    try:
        yield temporary
        sync(temporary)
        if overwrite and path.exists():
            os.rename(path, old)
        try:
            os.rename(temporary, path)
        except OSError:
            if not path.is_dir():
                raise
        sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def remove_stale(folder: Path) -> None:
    """Remove what killed writers left in a folder more than an hour ago; a live writer is never that slow."""
    for path in folder.glob(f"{PARTIAL}*"):
        try:
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        except FileNotFoundError:  # another writer cleaned up, too
            pass


def sync(path: Path) -> None:
    """Wait until the disk has a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
