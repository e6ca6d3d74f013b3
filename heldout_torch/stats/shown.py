"""How results are shown: their arrays by type and shape, in one line."""

from typing import Any

import numpy as np


def short_repr(record: Any) -> str:
    """Return a dataclass as one line; a `__repr__` for those that hold arrays.

    >>> from heldout_torch.stats import InfluencePairs, TopInfluences
    >>> TopInfluences(np.zeros((5, 2), int), np.zeros((5, 2)), np.zeros((5, 2)))
    TopInfluences(index=int64 (5, 2), influence=float64 (5, 2), standard_error=float64 (5, 2))
    """
    return f"{type(record).__name__}({', '.join(f'{name}={_short(value)}' for name, value in vars(record).items())})"


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    return f"{len(value)} items" if isinstance(value, list | dict) else repr(value)
