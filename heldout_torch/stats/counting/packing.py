"""Runs as they come, one after the other, checked against each other and packed into the arrays of a run table."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from heldout_torch.errors import DataError, counted, listed
from heldout_torch.stats.arguments import as_array
from heldout_torch.stats.counting.bits import WORD_BITS, pack_runs, word_count
from heldout_torch.storage.progress import tracked

if TYPE_CHECKING:
    from heldout_torch.zoo import RunKey

ARRAYS = ("trained_on", "correct_train", "correct_test")

# One run: its name, then bits of shape (n,), (n,), (m,) in the order of ARRAYS.
Row = tuple[str, np.ndarray, np.ndarray, np.ndarray]


def pack_rows(
    rows: Iterable[Row], total: int | None, mix_ratios: bool
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Pack runs that come one by one; at most 64 are held unpacked.

    Args:
        rows: The runs.
        total: Their number if it is known, for the progress bar.
        mix_ratios: Allow subsets of different sizes.

    Returns:
        Names of the runs, and uint64 arrays of shape (examples, words) by the names in ARRAYS.

    Raises:
        DataError: If there is no run, a run is not of the first one's sizes or subset size, is given twice, or has
            values other than 0 and 1.
    """
    columns: dict[str, list[np.ndarray]] = {name: [] for name in ARRAYS}
    buffers: dict[str, np.ndarray] = {}
    keys: list[str] = []
    size = 0
    for key, *arrays in tracked(rows, "run table", "run", total):
        bits = {name: _bits(array, key, name) for name, array in zip(ARRAYS, arrays, strict=True)}
        lengths = len(bits["correct_train"]), len(bits["correct_test"])
        if len(bits["trained_on"]) != lengths[0]:
            raise DataError(
                f"run {key}: trained_on has {counted(len(bits['trained_on']), 'value')}, correct_train {lengths[0]}"
            )
        if not keys:
            buffers = {name: np.empty((WORD_BITS, len(row)), bool) for name, row in bits.items()}
            size = int(bits["trained_on"].sum())
        else:
            check_sizes(keys[0], tuple(buffers[name].shape[1] for name in ARRAYS[1:]), key, lengths)
            if not mix_ratios:
                check_subset(keys[0], size, key, int(bits["trained_on"].sum()))
        for name, row in bits.items():
            buffers[name][len(keys) % WORD_BITS] = row
        keys.append(key)
        if len(keys) % WORD_BITS == 0:
            for name in ARRAYS:
                columns[name].append(pack_runs(buffers[name]))
    names = run_names(keys)
    if rest := len(keys) % WORD_BITS:
        for name in ARRAYS:
            columns[name].append(pack_runs(buffers[name][:rest]))
    del buffers
    return names, {name: _stack(columns.pop(name)) for name in ARRAYS}


def check_packed(runs: int, arrays: dict[str, np.ndarray], where: str) -> None:
    """Raise DataError if packed arrays are not of some runs over one data set, such as by bits behind the last run.

    Args:
        runs: Number of runs.
        arrays: By the names in ARRAYS.
        where: What the error calls them.
    """
    for name, words in arrays.items():
        if not isinstance(words, np.ndarray):
            raise DataError(f"{where}: packed {name} is {type(words).__name__}, expected an array")
        n = arrays["correct_test" if name == "correct_test" else "trained_on"].shape[:1]
        if words.dtype != np.uint64 or words.shape != (*n, word_count(runs)):
            expected = f"uint64 ({n[0] if n else 'examples'}, {word_count(runs)})"
            raise DataError(f"{where}: packed {name} is {words.dtype} {words.shape}, expected {expected}")
        if not words.flags.c_contiguous:
            raise DataError(f"{where}: packed {name} is not C-contiguous; make it so by np.ascontiguousarray")
        if name == "trained_on" and not len(words):
            raise DataError(f"{where}: has no training examples, expected at least one")
        if used := runs % WORD_BITS:
            behind = words[:, -1] >> np.uint64(used)
            if behind.any():
                example = int(np.flatnonzero(behind)[0])
                raise DataError(f"{where}: packed {name} has bits behind the last of {runs} runs, at example {example}")


def run_names(keys: "Sequence[str | RunKey] | None", runs: int | None = None) -> tuple[str, ...]:
    """Return the names of runs, `0`, `1`, ... if there are none.

    Raises:
        DataError: If there is no run, not a name for each, or a name given twice.
    """
    if keys is None:
        keys = [str(run) for run in range(runs or 0)]
    if isinstance(keys, str) or not np.iterable(keys):
        raise DataError(f"keys are {keys!r}, expected a list of names, one a run")
    keys = list(keys)
    if nameless := [key for key in keys if key is None or isinstance(key, bytes)]:
        raise DataError(f"keys hold {nameless[0]!r}, expected a list of names, one a run")
    names = tuple(map(str, keys))
    if not names:
        raise DataError("no runs given, a run table needs at least one")
    if runs is not None and len(names) != runs:
        raise DataError(f"{counted(len(names), 'key')} given for {counted(runs, 'run')}")
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise DataError(f"runs given twice: {listed(twice)}; each run needs its own key")
    return names


def check_sizes(first: str, expected: tuple[int, ...], key: str, sizes: tuple[int, ...]) -> None:
    """Raise DataError if two runs differ in (training, test) examples."""
    if sizes != expected:
        raise DataError(
            f"run {key} has {sizes[0]} training and {sizes[1]} test examples, "
            f"run {first} has {expected[0]} and {expected[1]}; all runs must be for one data set"
        )


def check_subset(first: str, expected: int, key: str, size: int) -> None:
    """Raise DataError if two runs trained on different numbers of examples."""
    if size != expected:
        raise DataError(
            f"run {key} trained on {counted(size, 'example')}, run {first} on {expected}: runs of different subset "
            "ratios do not mix, but by mix_ratios=True of RunTable.from_arrays, from_aux and concat"
        )


def _bits(array: Any, key: str, name: str) -> np.ndarray:
    array = as_array(array, f"run {key}: {name}")
    if array.ndim != 1 or array.dtype.kind not in "biuf":
        raise DataError(f"run {key}: {name} is {array.dtype} {array.shape}, expected a row of 0 and 1")
    if array.dtype != bool and not ((array == 0) | (array == 1)).all():
        raise DataError(f"run {key}: {name} has values other than 0 and 1")
    return array.astype(bool, copy=False)


def _stack(columns: list[np.ndarray]) -> np.ndarray:
    table = np.empty((len(columns[0]), len(columns)), np.uint64)
    for word in reversed(range(len(columns))):
        table[:, word] = columns.pop()  # each column is freed once copied, so that the table is never held twice
    return table  # (examples, words)
