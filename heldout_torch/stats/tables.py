"""What can be asked of run tables and output tables alike."""

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from heldout_torch.errors import DataError
from heldout_torch.stats.arguments import as_subset_ratio, shortened
from heldout_torch.stats.counting.bits import unpack
from heldout_torch.stats.counting.packing import check_sizes
from heldout_torch.stats.outputs import OutputTable
from heldout_torch.stats.run_table import RunTable

AnyTable = RunTable | OutputTable
_Table = TypeVar("_Table", bound=AnyTable)

_RATIO_APART = 0.05  # half the distance of the papers' ratios; a subset is of whole examples, and mixtures are allowed


def check_table(table: object) -> None:
    """Raise DataError if something is neither a run table nor an output table."""
    if not isinstance(table, AnyTable):
        raise DataError(
            f"{shortened(table)} is not a table, expected a RunTable (RunTable.from_zoo makes it), or an OutputTable"
        )


def check_bits(table: object) -> None:
    """Raise DataError if something is not a run table, where correct predictions are counted."""
    if not isinstance(table, RunTable):
        raise DataError(f"{type(table).__name__}: expected a RunTable, because this counts correct predictions")


def check_outputs(table: object) -> None:
    """Raise DataError if something is not an output table, where margins are needed."""
    if not isinstance(table, OutputTable):
        raise DataError(
            f"{type(table).__name__}: expected an OutputTable, for this needs margins, which `heldout train` and "
            "`evaluate` write with --save outputs"
        )


def check_several(table: AnyTable) -> None:
    """Raise DataError if a table has only one run."""
    if table.runs < 2:
        raise DataError(f"run {table.keys[0]} is the only one, expected at least two")


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


def by_ratio(tables: Mapping[float, _Table] | _Table) -> dict[float, _Table]:
    """Return tables by subset ratio in ascending order, checked.

    Raises:
        DataError: If there is no table, a table's runs trained on another share of the examples than its key says, a
            run is given twice, or data sets differ in size.
    """
    if isinstance(tables, AnyTable):
        return {tables.subset_ratio: tables}
    if not isinstance(tables, Mapping) or not tables:
        what = "no tables" if isinstance(tables, Mapping) else shortened(tables)
        raise DataError(f"{what} given, expected a run table, or several in a dictionary by subset ratio")
    seen: dict[str, _Table] = {}
    first = next(iter(tables.values()))
    found: dict[float, _Table] = {}
    for given, table in tables.items():
        if not isinstance(table, AnyTable):
            raise DataError(f"{given!r}: {type(table).__name__}, expected a run table by subset ratio")
        if isinstance(table, RunTable) != isinstance(first, RunTable):
            raise DataError("run tables and output tables cannot be mixed")
        expected, sizes = ((one.train_examples, one.test_examples) for one in (first, table))
        check_sizes(first.keys[0], expected, table.keys[0], sizes)
        ratio = as_subset_ratio(given)
        if ratio in found:
            raise DataError(f"two tables are given for subset ratio {ratio!r}; join them with concat")
        found[ratio] = table
        if not abs(ratio - table.subset_ratio) <= _RATIO_APART:
            raise DataError(
                f"the table given for subset ratio {ratio!r} has runs that trained on a share of "
                f"{table.subset_ratio:.4g}, such as {table.keys[0]}"
            )
        if shared := [key for key in table.keys if key in seen]:
            key, other = shared[0], seen[shared[0]]
            same = np.array_equal(table.mask(key), other.mask(key))
            if key.count("/") == 2 or same:  # names such as `0` may be of different runs
                raise DataError(f"run {key} is in two of the tables, and would count twice")
        seen |= dict.fromkeys(table.keys, table)
    return {ratio: found[ratio] for ratio in sorted(found)}
