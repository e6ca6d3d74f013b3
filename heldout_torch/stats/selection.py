"""Selection by position: examples by published index, runs by their position in a table.

The rules are the same everywhere. Positions are 0 ... length-1. Negative positions are refused, because -1 means no
example in `TopInfluences`, while for NumPy it means the last one. Slices have the same meaning as in Python. Sets have
no order, so what they select comes in order.
"""

from collections.abc import Sequence, Set
from typing import TYPE_CHECKING, Any

import numpy as np

from heldout_torch.errors import DataError, counted
from heldout_torch.stats.arguments import as_array, shortened
from heldout_torch.zoo.keys import RunKey

if TYPE_CHECKING:
    from heldout_torch.stats.outputs import OutputTable
    from heldout_torch.stats.run_table import RunTable

Selection = int | np.ndarray | slice | list[int] | range | Set[int] | None  # a number selects one
Runs = Selection | RunKey | str | Sequence[RunKey | str] | Set[RunKey | str]  # of a table: by place in it, or by name
_TEXTS = ("O", "T", "U")  # kinds of arrays that names may lie in, also of pandas


def selected(selection: Any, length: int, name: str) -> np.ndarray:
    """Return the positions, int64 of shape (k,), that a selection means.

    Args:
        selection: Positions 0 ... length-1 in any order, a set of them, or one alone, a slice, a bool mask of shape
            (length,), or None for all.
        length: How many there are.
        name: What errors call them.

    Raises:
        DataError: If it is not a one-dimensional selection, selects something that does not exist, or is a mask of 0
            and 1 that is not bool.
    """
    try:
        index = np.arange(length)[_as_index(selection, length, name)]
    except (IndexError, ValueError, TypeError) as error:
        raise DataError(f"{name}: cannot select {shortened(selection)} from 0 ... {length - 1} ({error})") from None
    if index.ndim != 1:
        raise DataError(f"{name}: expected a list of positions, a slice or a mask, got {shortened(selection)}")
    return index


def selected_runs(runs: Any, keys: tuple[str, ...]) -> np.ndarray:
    """Return the positions, int64 of shape (k,), of some of a table's runs.

    Args:
        runs: As in `selected`; or a run's name or key, or several, as `who_trained_on` returns them, or an array or a
            data frame's column holds them.
        keys: The names of the table's runs.

    Raises:
        DataError: As `selected`, or if the table has no run of that name.
    """
    some = [runs] if isinstance(runs, str | RunKey) else runs
    if isinstance(runs, Set) or getattr(getattr(runs, "dtype", None), "kind", None) in _TEXTS:
        some = list(runs)
    if not isinstance(some, list | tuple) or not some or not all(isinstance(run, str | RunKey) for run in some):
        return selected(runs, len(keys), "runs")
    places = {key: place for place, key in enumerate(keys)}
    if absent := [str(run) for run in some if str(run) not in places]:
        raise DataError(
            f"run {absent[0]} is not in this table of {counted(len(keys), 'run')}, {keys[0]} ... {keys[-1]}"
        )
    index = np.array([places[str(run)] for run in some], np.int64)
    return np.sort(index) if isinstance(runs, Set) else index


def selected_pairs(train: Any, test: Any, table: "RunTable | OutputTable") -> tuple[np.ndarray, np.ndarray]:
    """Return the published indices of pairs of a training and a test example, both int64 of shape (pairs,).

    Raises:
        DataError: If examples are named that do not exist (-1, which stands for none in `TopInfluences`, is one of
            them), or there are not as many of the one as of the other.
    """
    found = []
    for some, length, name in ((train, table.train_examples, "train_index"), (test, table.test_examples, "test_index")):
        index = as_array(some, name)
        if index.ndim != 1 or (index.size and index.dtype.kind not in "iu"):
            raise DataError(f"{name} is {index.dtype} {index.shape}, expected a row of published indices")
        if index.size and not 0 <= index.min() <= index.max() < length:
            outside = index[(index < 0) | (index >= length)][0]
            raise DataError(f"{name} names example {outside}, expected 0 ... {length - 1}")
        found.append(index.astype(np.int64))
    if len(found[0]) != len(found[1]):
        raise DataError(f"{len(found[0])} training and {len(found[1])} test examples given, expected pairs")
    return found[0], found[1]


def _as_index(selection: Any, length: int, name: str) -> Any:
    if selection is None or isinstance(selection, slice):
        return slice(None) if selection is None else selection
    index = as_array(sorted(selection) if isinstance(selection, Set) else selection, name)
    if index.ndim == 0 and index.dtype.kind in "iu":
        index = index[None]
    if index.size == 0:
        return index.astype(np.int64)
    if index.dtype.kind in "iu":
        for number in (index.min(), index.max()):
            if not 0 <= number < length:
                raise IndexError(f"{number} is outside")
        if index.shape == (length,) and length > 2 and index.max() <= 1:
            raise IndexError(f"{length} numbers that are all 0 or 1 look like a mask; pass it as bool")
    return index
