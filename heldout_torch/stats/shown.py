"""How tables and results are shown in one line."""

from typing import Any

import numpy as np

from heldout_torch.errors import counted


def table_repr(table: Any) -> str:
    """Return what a run table or an output table is about; the `__repr__` of both."""
    runs = f"{table.keys[0]} ... {table.keys[-1]}" if table.runs > 1 else table.keys[0]
    sizes = f"{table.train_examples} training, {table.test_examples} test examples"
    return f"{type(table).__name__}({counted(table.runs, 'run')}: {runs}; {sizes})"


def short_repr(record: Any) -> str:
    """Return the fields of a dataclass, arrays by type and shape; a `__repr__` for those that hold arrays.

    >>> from heldout_torch.stats import InfluencePairs, TopInfluences
    >>> TopInfluences(np.zeros((5, 2), int), np.zeros((5, 2)), np.zeros((5, 2)))
    TopInfluences(index=int64 (5, 2), influence=float64 (5, 2), standard_error=float64 (5, 2))
    """
    return f"{type(record).__name__}({', '.join(f'{name}={_short(value)}' for name, value in vars(record).items())})"


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    return f"{len(value)} items" if isinstance(value, list | dict) else repr(value)
