"""Accuracies of runs: for each run, as a table by subset ratio, and a check whether runs fit their subsets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from heldout_torch.errors import DataError, warn
from heldout_torch.lazy import lazy_module
from heldout_torch.stats.arguments import as_kind, as_subset_ratio
from heldout_torch.stats.columns import Columns
from heldout_torch.stats.counting import kernels
from heldout_torch.stats.counting.bits import chunks, count_by_run, unpack
from heldout_torch.stats.shown import short_repr
from heldout_torch.zoo.aux_arrays import PARTS

if TYPE_CHECKING:
    from heldout_torch.stats import run_table
else:
    run_table = lazy_module("heldout_torch.stats.run_table")

_LEAST_FIT = 0.95  # mean accuracy on what a run trained on, below which its mistakes there are no rare exceptions
_FIT, _TOLD = "_fit", "_fit_told"  # under which a table keeps that accuracy, and the warnings already given


@dataclass(frozen=True, eq=False, repr=False)
class Accuracies:
    """Accuracy of each run of one table.

    Attributes:
        train: On the examples that the run trained on, float64 of shape (runs,); NaN if there are none.
        removed: On the examples that it held out, float64 of shape (runs,); NaN if there are none.
        test: On the test set, float64 of shape (runs,); NaN if it is empty.
    """

    train: np.ndarray
    removed: np.ndarray
    test: np.ndarray

    __repr__ = short_repr


@dataclass(frozen=True)
class Spread:
    """Mean and spread of a number over runs.

    Attributes:
        mean: Mean; if no run has the number, this and the others are NaN.
        deviation: Standard deviation over runs (divided by n, not n - 1).
        least: Smallest.
        most: Largest.
    """

    mean: float
    deviation: float
    least: float
    most: float


def run_accuracies(table: "run_table.RunTable") -> Accuracies:
    """Compute the accuracies of each run.

    Raises:
        DataError: If it is not a run table.
    """
    if not hasattr(table, "packed_correct_train"):  # the class itself is built on this module
        raise DataError(f"{type(table).__name__}: expected a RunTable, because this counts correct predictions")
    trained, both, correct = (np.zeros(table.runs, np.int64) for _ in range(3))
    for part in chunks(table.train_examples, table.runs):
        in_subset = unpack(table.packed_trained_on[part], table.runs)
        right = unpack(table.packed_correct_train[part], table.runs)
        trained += np.count_nonzero(in_subset, axis=0)
        correct += np.count_nonzero(right, axis=0)
        both += np.count_nonzero(in_subset & right, axis=0)
    test = count_by_run(table.packed_correct_test, table.runs)
    with np.errstate(invalid="ignore"):
        return Accuracies(
            both / trained, (correct - both) / (table.train_examples - trained), test / np.float64(table.test_examples)
        )


def spread(values: np.ndarray) -> Spread:
    """Compute mean and spread of a number over the runs that have it (not NaN)."""
    known = values[~np.isnan(values)]
    if not len(known):
        return Spread(*4 * [float("nan")])
    return Spread(float(known.mean()), float(known.std()), float(known.min()), float(known.max()))


def accuracy_columns(accuracies: Mapping[float, Accuracies]) -> Columns:
    """Return the results table, a row for each subset ratio: number of runs, and mean and spread of each accuracy.

    Args:
        accuracies: By subset ratio.
    """
    given = as_kind(accuracies, Mapping, "accuracies").items()  # type: ignore[type-abstract]
    accuracies = {as_subset_ratio(ratio): as_kind(found, Accuracies, "accuracies") for ratio, found in given}
    ratios = sorted(accuracies)
    columns = {
        "subset_ratio": np.array(ratios),
        "runs": np.array([len(accuracies[ratio].test) for ratio in ratios]),
    }
    for part in PARTS:
        spreads = [spread(getattr(accuracies[ratio], part)) for ratio in ratios]
        for figure in ("mean", "deviation", "least", "most"):
            columns[f"{part}_{figure}"] = np.array([getattr(one, figure) for one in spreads])
    return columns


def run_columns(table: "run_table.RunTable") -> Columns:
    """Return a row for each run of a table: its name, the size of its subset, and its accuracies."""
    accuracies = run_accuracies(table)
    return {
        "run": np.array(table.keys),
        "subset_size": table.subset_sizes,
        **{f"accuracy_{part}": getattr(accuracies, part) for part in PARTS},
    }


def fit_warning(accuracy: float, subset_ratio: float) -> str | None:
    """Return a warning if runs do not classify nearly all that they trained on, as the estimates assume, else None.

    Args:
        accuracy: Mean over the runs, on what each trained on.
        subset_ratio: Of the runs.
    """
    if not accuracy < _LEAST_FIT:
        return None
    return (
        f"runs at subset ratio {subset_ratio:.3g} classify only {accuracy:.1%} of the examples that they "
        "trained on correctly; memorization and influence assume nearly all (train longer, or a larger network)"
    )


def warn_of_fit(table: "run_table.RunTable", counted: tuple[np.ndarray, np.ndarray] | None = None) -> None:
    """Warn if runs did not fit what they trained on, once for a table and those that `select_runs` makes of it.

    Args:
        table: The runs.
        counted: Numbers of the runs that trained on each example, and of those that are also right on it, if they are
            counted already.
    """
    kept = vars(table)  # where its cached properties are
    told = kept.setdefault(_TOLD, [])
    if told or _FIT in kept:
        return
    if counted is None:
        counts = kernels.count_examples(table.packed_trained_on, table.packed_correct_train)
        counted = counts[:, 0], counts[:, 2]
    trained, right = (int(row.sum(dtype=np.int64)) for row in counted)
    kept[_FIT] = right / trained if trained else float("nan")
    if line := fit_warning(kept[_FIT], trained / table.runs / table.train_examples):
        told.append(line)
        warn(line, stacklevel=0)


def share_warnings(table: "run_table.RunTable", part: "run_table.RunTable") -> None:
    """Let a table of some runs of another share the other's warnings, so that none is given twice."""
    vars(part)[_TOLD] = vars(table).setdefault(_TOLD, [])
