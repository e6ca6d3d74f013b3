"""The rows of a run table, out of arrays, or of aux arrays given one by one or read from a zoo."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from heldout_torch.errors import DataError, HeldoutError, ZooError, counted, listed, of_run
from heldout_torch.stats.arguments import as_kind
from heldout_torch.stats.counting.packing import Row, run_names
from heldout_torch.storage.threads import map_ahead
from heldout_torch.zoo.keys import as_ratio, as_runs, nearest_ratio
from heldout_torch.zoo.selection import described

if TYPE_CHECKING:
    from heldout_torch.zoo import AuxArrays, RunKey
    from heldout_torch.zoo.base import Zoo


def array_rows(
    trained_on: Any, correct_train: Any, correct_test: Any, keys: "Sequence[str | RunKey] | None"
) -> tuple[int, Iterator[Row]]:
    """Return the number of runs, and an iterator over their rows, out of arrays of a row a run each.

    Raises:
        DataError: If they are not such arrays, of different lengths, or keys are not as many or given twice.
    """
    try:
        lengths = [len(array) for array in (trained_on, correct_train, correct_test)]
    except TypeError:
        raise DataError("trained_on, correct_train and correct_test: expected arrays of a row a run") from None
    names = run_names(keys, lengths[0])
    if len(set(lengths)) > 1:
        found = f"{lengths[0]}, {lengths[1]} and {lengths[2]}"
        raise DataError(f"trained_on, correct_train and correct_test have {found} rows, expected one a run")
    return len(names), zip(names, trained_on, correct_train, correct_test, strict=True)


def aux_rows(aux: "Iterable[AuxArrays]", names: tuple[str, ...] | None) -> Iterator[Row]:
    """Yield a row for each run.

    Args:
        aux: One for each run.
        names: As many; `0`, `1`, ... if None.

    Raises:
        DataError: If there are more or fewer names than runs.
        ZooError: If a run's `index_test` is not 0 ... m-1 in some order.
    """
    given = 0
    if not np.iterable(aux):
        raise DataError(f"aux arrays: given {type(aux).__name__}, expected a list of AuxArrays, one a run")
    for given, arrays in enumerate(aux, start=1):
        if names is not None and given > len(names):
            raise DataError(f"{counted(len(names), 'key')} given for more runs")
        key = str(given - 1) if names is None else names[given - 1]
        if not hasattr(arrays, "trained_on"):
            raise DataError(f"run {key}: given {type(arrays).__name__}, expected AuxArrays, such as `run.aux`")
        try:
            yield key, arrays.trained_on, arrays.correct_train, arrays.correct_test
        except HeldoutError as error:
            raise type(error)(of_run(key, str(error))) from None
    if names is not None and given < len(names):
        raise DataError(f"{counted(len(names), 'key')} given for {counted(given, 'run')}")


def read_aux(zoo: "Zoo", keys: "Sequence[RunKey]") -> "Iterator[AuxArrays]":
    """Read the aux arrays of runs with a few threads, a few runs ahead of their use.

    Raises:
        ZooError: If aux arrays are missing, damaged, or cannot be fetched.
    """
    return map_ahead(zoo.aux, keys, zoo.threads)


def find_runs(
    zoo: "Zoo",
    experiment: str,
    subset_ratio: float | None,
    runs: Sequence[int] | None,
    keys: "Sequence[RunKey] | None" = None,
) -> "list[RunKey]":
    """Find runs of one subset ratio.

    Args:
        zoo: Where they are.
        experiment: Such as `cifar10-inception`.
        subset_ratio: Share of the training set that a run saw; the only one that is there if None.
        runs: Only these; all if None.
        keys: The experiment's runs, if the place was listed already.

    Raises:
        ZooError: If there is no such run, or no ratio is given and there are several.
    """
    from heldout_torch.zoo.find import only_ratio  # it needs torch

    keys = zoo.keys(as_kind(experiment, str, "experiment")) if keys is None else keys
    subset_ratio = only_ratio(zoo, experiment, keys) if subset_ratio is None else subset_ratio
    ratio = nearest_ratio(as_ratio(subset_ratio), {key.subset_ratio for key in keys})
    found = {key.run: key for key in keys if key.subset_ratio == ratio}
    wanted = sorted(found) if runs is None else as_runs(runs)
    if runs is not None and not wanted:
        raise ZooError(f"no runs of {experiment}/{subset_ratio!r} are selected, expected at least one number")
    missing = [run for run in wanted if run not in found]
    if missing or not wanted:
        which = f"runs {listed(missing)} of " if missing else "runs of "
        there = described(keys or zoo.keys(), experiment, [as_ratio(subset_ratio)], missing)
        raise ZooError(f"{which}{experiment}/{subset_ratio!r} are not in {zoo.location}; {there}")
    return [found[run] for run in wanted]
