"""Do work in threads, a bounded number of items ahead of their use."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from heldout_torch.storage.counts import as_count

A = TypeVar("A")
B = TypeVar("B")


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Background:
    """Calls that one background thread makes, in order.

    What a call raises is raised by the next `call` or `wait`.

    Args:
        ahead: How many calls may be running or queued; `call` waits while there are as many.
    """

    def __init__(self, ahead: int = 1) -> None:
        self._ahead, self._pool = ahead, ThreadPoolExecutor(1)
        self._calls = deque[Future[object]]()

    def busy(self) -> bool:
        """Return whether a call is not done yet."""
        self._wait(self._ahead)
        return bool(self._calls)

    def call(self, work: Callable[..., object], *arguments: object) -> None:
        """Queue a call."""
        self._wait(self._ahead - 1)
        self._calls.append(self._pool.submit(work, *arguments))

    def wait(self) -> None:
        """Wait until all calls are done."""
        self._wait(0)

    def close(self) -> None:
        """Wait until all calls are done, whatever they raise, and end the thread."""
        self._pool.shutdown(wait=True)

    def _wait(self, left: int) -> None:
        while self._calls and (len(self._calls) > left or self._calls[0].done()):
            self._calls.popleft().result()


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
        DataError: If the number of threads is not an integer from 1.
        Exception: What `work` raises, at the item's place.
    """
    rest = iter(items)
    pool = ThreadPoolExecutor(as_count(threads, "threads"))
    try:
        pending: deque[Future[B]] = deque(pool.submit(work, item) for item in islice(rest, ahead or 2 * threads))
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(work, item) for item in islice(rest, 1))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
