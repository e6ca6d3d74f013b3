"""What can be asked of run tables and output tables alike."""

import numpy as np

from heldout_torch.stats.counting.bits import unpack
from heldout_torch.stats.outputs import OutputTable
from heldout_torch.stats.run_table import RunTable

AnyTable = RunTable | OutputTable


def trained_on(table: AnyTable, train: np.ndarray) -> np.ndarray:
    """Return which runs trained on some training examples, bool of shape (runs, examples)."""
    if isinstance(table, OutputTable):
        return table.mask(None, train)
    return unpack(table.packed_trained_on[train], table.runs).T


def outcomes(table: AnyTable, test: np.ndarray) -> np.ndarray:
    """Return how runs do on some test examples, margins or 0 and 1, float64 of shape (runs, examples)."""
    if isinstance(table, OutputTable):
        return table.margins("test", test).astype(np.float64)
    return unpack(table.packed_correct_test[test], table.runs).T.astype(np.float64)
