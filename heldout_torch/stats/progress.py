"""Signs of life on stderr for work that takes a while."""

import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
_PATIENCE = 1.0  # seconds; quicker work shows nothing


def progress(steps: Iterable[T], what: str, unit: str, total: int | None = None) -> Iterator[T]:
    """Go through steps, with a bar on stderr (rate, time left) if that takes more than a second."""
    yield from tqdm(steps, desc=what, unit=unit, total=total, file=sys.stderr, delay=_PATIENCE, leave=False)


@contextmanager
def told_if_slow(line: str) -> Iterator[None]:
    """Print a line to stderr if the block takes more than a second."""
    timer = threading.Timer(_PATIENCE, lambda: print(line, file=sys.stderr, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
