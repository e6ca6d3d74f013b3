"""The output table: which examples each run trained on, and its margin on every example."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from heldout_torch.data.checks import SplitName, check_split
from heldout_torch.errors import DataError
from heldout_torch.stats.arguments import as_array
from heldout_torch.stats.counting.packing import run_names
from heldout_torch.stats.output_files import open_outputs
from heldout_torch.stats.selection import Runs, Selection, selected, selected_runs
from heldout_torch.stats.shown import table_repr
from heldout_torch.storage.npz import map_npy
from heldout_torch.storage.paths import Location, local_path
from heldout_torch.zoo.keys import RunKey

_LARGEST = float(np.float32(1e30))  # size of a margin: sums over runs are float32


@dataclass(frozen=True, eq=False, repr=False)
class OutputTable:
    """Margins of many runs on one data set, by published index; arrays may stay on disk.

    A margin is any number that is larger where a run does better on an example. `heldout evaluate --save outputs`
    writes the log odds of the label, which are above 0 where it has more than half of the probability. Build a table
    by `load`, `from_arrays` or `from_files`.

    Attributes:
        keys: Names of the runs, such as `cifar10-inception/0.7/12`.
        train_examples: Size of the whole training set, n.
        stored: The arrays as stored: `masks`, bool of shape (stored runs, n), or packed bits, uint8 of shape (stored
            runs, ceil(n / 8)), lowest bit first; `margins_test`, float of shape (stored runs, m); and perhaps
            `margins_train`, of shape (stored runs, n).
        rows: Row of each run in the stored arrays, int64 of shape (runs,).
    """

    keys: tuple[str, ...]
    train_examples: int
    stored: dict[str, np.ndarray]
    rows: np.ndarray

    def __post_init__(self) -> None:
        if not self.train_examples:
            raise DataError("outputs have no training examples, expected at least one")

    @classmethod
    def from_arrays(
        cls,
        masks: np.ndarray,
        margins_test: np.ndarray,
        margins_train: np.ndarray | None = None,
        keys: Sequence[str | RunKey] | None = None,
    ) -> Self:
        """Make a table of arrays, which may be memory maps and are not copied.

        Args:
            masks: Which training examples each run trained on, bool of shape (runs, n).
            margins_test: Float of shape (runs, m).
            margins_train: Float of shape (runs, n), for memorization; may be missing.
            keys: Names of the runs; `0`, `1`, ... by default.

        Raises:
            DataError: If there is no run, shapes or types are not as above, or a key is given twice.
        """
        masks = as_array(masks, "masks")
        if masks.ndim != 2 or masks.dtype != bool:
            raise DataError(f"masks are {masks.dtype} {masks.shape}, expected bool (runs, training examples)")
        runs, n = masks.shape
        stored = {"masks": masks, "margins_test": _as_margins(margins_test, "margins_test", runs, None)}
        if margins_train is not None:
            stored["margins_train"] = _as_margins(margins_train, "margins_train", runs, n)
        names = run_names(keys, runs)
        return cls(names, n, stored, np.arange(len(names)))

    @classmethod
    def from_files(
        cls,
        masks: Location,
        margins_test: Location,
        margins_train: Location | None = None,
        keys: Sequence[str | RunKey] | None = None,
    ) -> Self:
        """Open npy files, as datamodels are published: masks, bool (runs, n), and margins, float (runs, m).

        Raises:
            DataError: If a file cannot be read, or is not as for `from_arrays`.
        """
        train = None if margins_train is None else map_npy(local_path(margins_train))
        return cls.from_arrays(map_npy(local_path(masks)), map_npy(local_path(margins_test)), train, keys)

    @classmethod
    def load(cls, path: Location) -> Self:
        """Open the output of `heldout evaluate --save outputs`; runs that are not evaluated yet are left out.

        The arrays are mapped into memory. If a run is evaluated again while the table is in use, its row changes. The
        files must not be truncated, or the system would kill the process (SIGBUS).

        Args:
            path: Folder such as `OUT/cifar10-inception/0.7/outputs`.

        Raises:
            DataError: If the folder holds no outputs, or no run is evaluated.
        """
        layout, arrays = open_outputs(local_path(path))
        rows = np.flatnonzero(arrays.pop("filled"))
        if not len(rows):
            raise DataError(f"{path}: no run of {len(layout.keys)} is evaluated yet; run `heldout evaluate` again")
        names = run_names([layout.keys[row] for row in rows])
        return cls(names, layout.train_examples, arrays, rows)

    @property
    def runs(self) -> int:
        """Number of runs."""
        return len(self.keys)

    @property
    def test_examples(self) -> int:
        """Size of the test set, m."""
        return self.stored["margins_test"].shape[1]

    @property
    def margins_train(self) -> np.ndarray:
        """Margins on the training set, float of shape (runs, n); in memory only if runs were selected."""
        return self._whole("train")

    @property
    def margins_test(self) -> np.ndarray:
        """Margins on the test set, float of shape (runs, m); in memory only if runs were selected."""
        return self._whole("test")

    @property
    def subset_sizes(self) -> np.ndarray:
        """How many examples each run trained on, int64 of shape (runs,)."""
        return np.array([np.count_nonzero(self.mask([run])) for run in range(self.runs)], np.int64)

    @cached_property  # all statistics over several ratios ask for it
    def subset_ratio(self) -> float:
        """Mean share of the training set that the runs trained on."""
        return float(self.subset_sizes.mean() / self.train_examples)

    def mask(self, runs: Runs = None, train: Selection = None) -> np.ndarray:
        """Return which training examples runs trained on.

        Args:
            runs: Positions 0 ... runs-1 in the table, a slice, a bool mask of shape (runs,), or names of runs, such as
                `RunTable.who_trained_on` returns; all by default.
            train: Published indices of training examples, a slice or a mask; all by default.

        Returns:
            bool of shape (runs selected, examples selected).

        Raises:
            DataError: If a run or an example is selected that does not exist.
        """
        rows = self.rows[selected_runs(runs, self.keys)]
        index = selected(train, self.train_examples, "train")
        masks = self.stored["masks"]
        if masks.dtype == bool:
            return _cut(masks, rows, index)
        byte, place = np.unique(index >> 3, return_inverse=True)
        bits = np.unpackbits(_cut(masks, rows, byte), axis=1, bitorder="little")
        return bits[:, 8 * place + (index & 7)].view(bool)

    def margins(self, split: SplitName, examples: Selection = None) -> np.ndarray:
        """Read the margins on some examples of all runs, and check them.

        Args:
            split: `train` or `test`.
            examples: Published indices, a slice or a mask; all by default.

        Returns:
            Float of shape (runs, examples selected), in memory.

        Raises:
            DataError: If there are no margins on that split, an example is selected that does not exist, or a margin
                is not a finite number, or one whose sum over runs float32 cannot hold.
        """
        stored = self._stored(split)
        index = selected(examples, stored.shape[1], split)
        values = _cut(stored, self.rows, index)
        if not -_LARGEST <= float(values.min(initial=0)) <= float(values.max(initial=0)) <= _LARGEST:
            run, example = np.argwhere(~(np.abs(values) <= np.float32(_LARGEST)))[0]
            raise DataError(
                f"run {self.keys[run]}: margin {values[run, example]} on example {index[example]} of {split}, expected "
                f"a finite number of at most {_LARGEST:g}; leave the run out with select_runs, or evaluate it again"
            )
        return values

    def select_runs(self, runs: Runs) -> Self:
        """Return a table of some of the runs; nothing is read.

        Args:
            runs: As in `mask`.

        Raises:
            DataError: If none is selected, one is selected twice, or a position is outside.
        """
        positions = selected_runs(runs, self.keys)
        keys = run_names([self.keys[position] for position in positions])
        return type(self)(keys, self.train_examples, self.stored, self.rows[positions])

    __repr__ = table_repr

    def _whole(self, split: SplitName) -> np.ndarray:
        stored = self._stored(split)
        return stored if np.array_equal(self.rows, np.arange(len(stored))) else stored[self.rows]

    def _stored(self, split: SplitName) -> np.ndarray:
        if (name := f"margins_{check_split(split)}") not in self.stored:
            raise DataError(
                "this table has no margins on the training set, which memorization needs; pass margins_train"
            )
        return self.stored[name]


def _as_margins(margins: np.ndarray, name: str, runs: int, examples: int | None) -> np.ndarray:
    array = as_array(margins, name)
    fits = array.ndim == 2 and array.dtype.kind == "f" and len(array) == runs
    if not fits or examples not in (None, array.shape[1]):
        length = "test examples" if examples is None else examples
        raise DataError(f"{name} is {array.dtype} {array.shape}, expected float ({runs}, {length})")
    return array


def _cut(array: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Read some rows and columns; of neighbouring columns only their part of the file."""
    if len(columns) and np.array_equal(columns, np.arange(columns[0], columns[0] + len(columns))):
        return np.asarray(array[:, columns[0] : columns[0] + len(columns)][rows])
    return np.asarray(array[np.ix_(rows, columns)])
