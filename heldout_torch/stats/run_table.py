"""The run table: for every example, which runs trained on it and which classify it correctly, one bit each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from heldout_torch.data.checks import SplitName, check_split
from heldout_torch.errors import DataError, counted
from heldout_torch.lazy import lazy_module
from heldout_torch.stats.accuracies import run_columns, share_warnings
from heldout_torch.stats.counting import packing
from heldout_torch.stats.counting.bits import count_by_run, repack, unpack_runs
from heldout_torch.stats.joining import joined_keys
from heldout_torch.stats.selection import Runs, Selection, selected, selected_runs
from heldout_torch.stats.shown import table_repr
from heldout_torch.stats.table_files import load_table, save_table
from heldout_torch.stats.table_rows import array_rows, aux_rows, find_runs, read_aux
from heldout_torch.stats.who_trained_on import who_trained_on
from heldout_torch.storage.notebook import as_code, data_frame
from heldout_torch.storage.paths import Location, local_path
from heldout_torch.zoo.aux_arrays import AuxArrays
from heldout_torch.zoo.keys import RunKey

if TYPE_CHECKING:
    from heldout_torch.zoo import open as places
else:
    places = lazy_module("heldout_torch.zoo.open")


@dataclass(frozen=True, eq=False, repr=False)
class RunTable:
    """Bits of many runs on one data set, by published index. 2,000 ImageNet runs take 0.67 GB.

    Make a table with `from_arrays`, `from_aux`, `from_zoo` or `load`.

    Attributes:
        keys: Names of the runs, such as `cifar10-inception/0.7/12`; run r is bit r of every packed row.
        packed_trained_on: uint64 of shape (n, words), whether a run trained on an example; packed as in
            `stats.counting.bits`. `mask` unpacks it.
        packed_correct_train: uint64 of shape (n, words), whether a run classifies a training example correctly, which
            it may have trained on or not. `correct("train")` unpacks it.
        packed_correct_test: uint64 of shape (m, words), the same for the test set.

    Raises:
        DataError: If a key is given twice, shapes disagree, or there are bits behind the last run.
    """

    keys: tuple[str, ...]
    packed_trained_on: np.ndarray
    packed_correct_train: np.ndarray
    packed_correct_test: np.ndarray

    def __post_init__(self) -> None:
        if not isinstance(self.keys, tuple) or packing.run_names(self.keys) != self.keys:
            raise DataError("keys are not a tuple of names, expected such as ('e/0.7/0', 'e/0.7/1')")
        packing.check_packed(self.runs, self._packed, f"table of {counted(self.runs, 'run')}")

    @classmethod
    def from_arrays(
        cls,
        trained_on: np.ndarray,
        correct_train: np.ndarray,
        correct_test: np.ndarray,
        keys: Sequence[str | RunKey] | None = None,
        mix_ratios: bool = False,
    ) -> Self:
        """Make a table from arrays in memory.

        Args:
            trained_on: bool or 0/1 of shape (runs, n).
            correct_train: bool or 0/1 of shape (runs, n).
            correct_test: bool or 0/1 of shape (runs, m).
            keys: Names of the runs; `0`, `1`, ... by default.
            mix_ratios: Allow runs that trained on different numbers of examples. Estimates are then over a mixture of
                subset ratios.

        Raises:
            DataError: If there is no run, shapes disagree, values are not 0/1, a key is given twice, or the subsets'
                sizes differ.
        """
        runs, rows = array_rows(trained_on, correct_train, correct_test, keys)
        return cls._of(rows, runs, mix_ratios)

    @classmethod
    def from_aux(
        cls,
        aux: Iterable[AuxArrays],
        keys: Sequence[str | RunKey] | None = None,
        mix_ratios: bool = False,
    ) -> Self:
        """Make a table from the aux arrays of runs in one pass; at most 64 are held in memory.

        Args:
            aux: One for each run.
            keys: Names of the runs; `0`, `1`, ... by default.
            mix_ratios: As in `from_arrays`.

        Raises:
            DataError: As `from_arrays`.
            ZooError: If a run's `index_test` is not 0 ... m-1 in some order.
        """
        names = None if keys is None else packing.run_names(keys)
        return cls._of(aux_rows(aux, names), None if names is None else len(names), mix_ratios)

    @classmethod
    def from_zoo(
        cls,
        zoo: "places.Place | None",
        experiment: str,
        subset_ratio: float | None = None,
        runs: Sequence[int] | None = None,
    ) -> Self:
        """Make a table of the runs of one subset ratio in a zoo or TensorFlow tree; models are not read.

        Args:
            zoo: A place as in `heldout_torch.load_run`; from a zoo at a URL, aux arrays are fetched into the cache.
            experiment: Such as `cifar10-inception`.
            subset_ratio: Share of the training set that a run saw; by default the only one that is there.
            runs: Only these; all by default.

        Raises:
            ZooError: If there is no such run, no ratio is given where there are several, or aux arrays are missing,
                damaged, or cannot be fetched.
            DataError: As `from_arrays`.
        """
        opened = places.open_zoo(zoo)
        keys = find_runs(opened, experiment, subset_ratio, runs)
        return cls.from_aux(read_aux(opened, keys), keys)

    @classmethod
    def load(cls, path: Location) -> Self:
        """Open a saved table; its arrays stay on disk and are mapped into memory as they are read.

        While the table is in use, its files must not be changed or truncated: counts would change, or the system would
        kill the process (SIGBUS). It is safe to remove the folder, or to replace it by renaming, as `save` does.

        Raises:
            DataError: If the folder holds no table, or its files do not fit each other.
        """
        keys, arrays = load_table(local_path(path))
        return cls(keys, *arrays.values())

    def save(self, path: Location, source: str | None = None) -> None:
        """Write the table as a folder, which appears at once; a table that is there is replaced.

        `source` may be a digest of what the table was made of, which is kept with it.

        Raises:
            DataError: If something other than a run table lies there, or the folder cannot be written.
        """
        save_table(local_path(path), self.keys, self._packed, source)

    @classmethod
    def concat(cls, tables: "Sequence[RunTable]", mix_ratios: bool = False) -> Self:
        """Join the runs of several tables over the same data set.

        Args:
            tables: At least one; no run may be in two of them.
            mix_ratios: As in `from_arrays`.

        Raises:
            DataError: If there is none, sizes disagree, a run is in two of them, or subset sizes differ.
        """
        parts = list(tables) if np.iterable(tables) else [None]
        if not all(isinstance(part, RunTable) for part in parts):
            raise DataError("tables to join are not run tables in a list, such as [one, other]")
        keys = joined_keys(parts, mix_ratios)
        whole = np.arange(len(keys))
        return cls(
            keys, *(repack([(part._packed[name], part.runs) for part in parts], whole) for name in packing.ARRAYS)
        )

    def select_runs(self, runs: Runs) -> Self:
        """Return a table of some of the runs.

        Args:
            runs: Positions 0 ... runs-1 in the table, a slice, a bool mask of shape (runs,), or names of runs, such as
                `who_trained_on` returns.

        Raises:
            DataError: If none is selected, one is selected twice, or a position is outside.
        """
        rows = selected_runs(runs, self.keys)
        keys = packing.run_names([self.keys[row] for row in rows])
        part = type(self)(keys, *(repack([(words, self.runs)], rows) for words in self._packed.values()))
        share_warnings(self, part)
        return part

    def mask(self, runs: Runs = None, train: Selection = None) -> np.ndarray:
        """Return which training examples runs trained on.

        Args:
            runs: As in `select_runs`; all by default, which for all of ImageNet and 2,000 runs takes 2.6 GB.
            train: Published indices of training examples, a slice or a mask; all by default.

        Returns:
            bool of shape (runs selected, examples selected).

        Raises:
            DataError: If a run or an example is selected that does not exist.
        """
        return self._unpacked("trained_on", runs, train, "train")

    def correct(self, split: SplitName, runs: Runs = None, examples: Selection = None) -> np.ndarray:
        """Return which examples runs classify correctly.

        Args:
            split: `train` (the whole training set, whether a run trained on an example or not) or `test`.
            runs: As in `mask`.
            examples: Published indices of examples of that split, a slice or a mask; all by default.

        Returns:
            bool of shape (runs selected, examples selected).

        Raises:
            DataError: If there is no such split, or a run or an example is selected that does not exist.
        """
        return self._unpacked(f"correct_{check_split(split)}", runs, examples, split)

    @property
    def runs(self) -> int:
        """Number of runs."""
        return len(self.keys)

    @property
    def train_examples(self) -> int:
        """Size of the whole training set, n."""
        return len(self.packed_trained_on)

    @property
    def test_examples(self) -> int:
        """Size of the test set, m."""
        return len(self.packed_correct_test)

    @property
    def subset_sizes(self) -> np.ndarray:
        """How many examples each run trained on, int64 of shape (runs,)."""
        return count_by_run(self.packed_trained_on, self.runs)

    @cached_property  # all statistics over several ratios ask for it
    def subset_ratio(self) -> float:
        """Mean share of the training set that the runs trained on."""
        return float(self.subset_sizes.mean() / self.train_examples)

    def who_trained_on(self, examples: Selection, how: Literal["all", "any", "none"] = "all") -> list[RunKey | str]:
        """Return the runs that trained on some training examples, or held them out.

        Args:
            examples: Published index, several of them, a slice or a mask of shape (n,).
            how: `all` for runs that trained on every one of them, `any` for those that trained on at least one,
                `none` for those that held all of them out.

        Returns:
            Keys, as `heldout_torch.load_run` takes them, in the table's order. If the name of a run is not a key, its
            name.

        Raises:
            DataError: If there is no such example, none is given, or `how` is not as above.
        """
        return who_trained_on(self.packed_trained_on, self.keys, examples, how)

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame`, a row a run: name, size of its subset, accuracies. It needs pandas."""
        return data_frame(run_columns(self))

    __repr__ = table_repr

    _repr_html_ = as_code

    @property
    def _packed(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, f"packed_{name}") for name in packing.ARRAYS}

    def _unpacked(self, name: str, runs: Runs, examples: Selection, split: str) -> np.ndarray:
        words = self._packed[name]
        if examples is not None:
            words = words[selected(examples, len(words), split)]
        return unpack_runs(words, selected_runs(runs, self.keys))

    @classmethod
    def _of(cls, rows: Iterable[packing.Row], total: int | None, mix_ratios: bool) -> Self:
        names, arrays = packing.pack_rows(rows, total, mix_ratios)
        return cls(names, *arrays.values())
