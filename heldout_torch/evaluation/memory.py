"""Work in portions that fit a device's memory, found by trying."""

from collections.abc import Callable
from typing import TypeVar

import torch

from heldout_torch.evaluation.devices import lacks_memory

T = TypeVar("T")

FITTING: dict[tuple[object, ...], int] = {}  # what fits into memory, where more did not


def fitting(size: int, *kind: object) -> int:
    """Return how many things of a kind are done at once: so many, or fewer if they did not fit into memory before."""
    return min(size, FITTING.get(kind, size))


def in_portions(work: Callable[[int], T], size: int, *kind: object) -> T:
    """Do work on so many things at once; on half as many, as often as memory lacks.

    Args:
        work: Is given how many, and returns what this gives; when it raises, it is called again.
        size: How many at most.
        kind: What they are, and on which device: of this kind no more are tried later.

    Raises:
        RuntimeError: What `work` raises, if that is something else, or memory lacks for a single one.
    """
    while True:
        size = fitting(size, *kind)
        try:
            return work(size)
        except RuntimeError as error:
            if size == 1 or not lacks_memory(error):
                raise
        # Only here is the error gone, and what its frames held. Libraries cannot use what PyTorch keeps for itself.
        torch.accelerator.empty_cache()
        FITTING[kind] = fitting(size // 2, *kind)


class Told:
    """Tells of work as it is done, and only once of what is done again.

    Args:
        tell: Is told how much more is done, and whatever else it is to be told.

    Attributes:
        done: How much is done; to be set back when some of it has to be done again.
    """

    def __init__(self, tell: Callable[..., object]) -> None:
        self._tell = tell
        self._told: float = 0
        self.done: float = 0

    def add(self, amount: float, *others: object) -> None:
        """Count so much more as done, and tell what of it is new."""
        self.done += amount
        before, self._told = self._told, max(self._told, self.done)
        self._tell(self._told - before, *others)
