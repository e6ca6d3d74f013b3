"""One axis of a matrix of estimates: what the kernels count over, and how counts become estimates."""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, eq=False)
class Axis:
    """The rows or the columns of a matrix of estimates.

    Attributes:
        words: uint64 of shape (examples, words), packed bits.
        index: int64 of shape (length,), the examples meant.
        scale: float64 of shape (length,).
        shift: float64 of shape (length,).
    """

    words: np.ndarray
    index: np.ndarray
    scale: np.ndarray
    shift: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    def part(self, positions: slice | np.ndarray) -> "Axis":
        """Return some of the rows or columns."""
        return replace(self, index=self.index[positions], scale=self.scale[positions], shift=self.shift[positions])
