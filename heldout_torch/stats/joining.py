"""What tables of runs must have in common to be joined."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from heldout_torch.errors import DataError
from heldout_torch.stats.counting.packing import check_sizes, check_subset, run_names

if TYPE_CHECKING:
    from heldout_torch.stats.run_table import RunTable


def joined_keys(tables: "Sequence[RunTable]", mix_ratios: bool) -> tuple[str, ...]:
    """Return the names of the runs of several tables, one table after the other.

    Args:
        tables: The tables.
        mix_ratios: Allow subsets of different sizes.

    Raises:
        DataError: If there is none, sizes disagree, a run is in two of them, or subset sizes differ.
    """
    if not tables:
        raise DataError("no tables to join")
    examples = [(table.train_examples, table.test_examples) for table in tables]
    for table, its in zip(tables, examples, strict=True):
        check_sizes(tables[0].keys[0], examples[0], table.keys[0], its)
    keys = run_names([key for table in tables for key in table.keys])
    if not mix_ratios:
        sizes = np.concatenate([table.subset_sizes for table in tables])
        for key, size in zip(keys, sizes, strict=True):
            check_subset(keys[0], int(sizes[0]), key, int(size))
    return keys
