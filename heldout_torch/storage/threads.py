"""Work on many things at once, a bounded number ahead of its use."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_ahead(work: Callable[[A], B], items: Iterable[A], threads: int, ahead: int | None = None) -> Iterator[B]:
    """Apply a function in threads, and yield its results in order of the items.

    Items are taken, and results held, at most `ahead` ahead of what was yielded, so neither the items nor the results
    need to fit into memory together. When the caller stops, or an item's work raises, no further work begins, and the
    work under way is waited for.

    Args:
        work: The function; it should spend its time outside Python's global lock (reading, hashing, inflating).
        items: What it is applied to; taken one by one.
        threads: Number of threads.
        ahead: Number of results ahead; twice the number of threads by default.

    Raises:
        Exception: What `work` raises, at the item's place.
    """
    rest = iter(items)
    pool = ThreadPoolExecutor(threads)
    try:
        pending: deque[Future[B]] = deque(pool.submit(work, item) for item in islice(rest, ahead or 2 * threads))
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(work, item) for item in islice(rest, 1))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
