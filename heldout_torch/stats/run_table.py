"""The run table: for every example, which runs trained on it and which classify it correctly, one bit each."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from heldout_torch.errors import DataError, HeldoutError, ZooError
from heldout_torch.stats.bits import pack, unpack, word_count
from heldout_torch.stats.rows import ARRAYS, Row, check_sizes, check_subset, pack_rows, run_names

if TYPE_CHECKING:
    from heldout_torch.zoo import AuxArrays, RunKey

FORMAT_VERSION = 1
_RECORD = "table.json"
_CHUNK_BITS = 2**27


@dataclass(frozen=True, eq=False)
class RunTable:
    """Bits of many runs over one data set, by published index. 2,000 ImageNet runs take 0.67 GB.

    Build one by `from_arrays`, `from_aux`, `from_zoo` or `load`.

    Attributes:
        keys: Names of the runs, such as `cifar10-inception/0.7/12`; run r is bit r of every row.
        trained_on: uint64 of shape (n, words), whether a run trained on an example; packed as in `stats.bits`.
        correct_train: uint64 of shape (n, words), whether a run classifies a training example correctly, which it may
            have trained on or not.
        correct_test: uint64 of shape (m, words), the same for the test set.
    """

    keys: tuple[str, ...]
    trained_on: np.ndarray
    correct_train: np.ndarray
    correct_test: np.ndarray

    @classmethod
    def from_arrays(
        cls,
        trained_on: np.ndarray,
        correct_train: np.ndarray,
        correct_test: np.ndarray,
        keys: "Sequence[str | RunKey] | None" = None,
        mix_ratios: bool = False,
    ) -> Self:
        """Pack arrays in memory.

        Args:
            trained_on: bool or 0/1 of shape (runs, n).
            correct_train: bool or 0/1 of shape (runs, n).
            correct_test: bool or 0/1 of shape (runs, m).
            keys: Names of the runs; `0`, `1`, ... by default.
            mix_ratios: Allow runs that trained on different numbers of examples. Estimates over them are those of a
                mixture of subset ratios.

        Raises:
            DataError: If there is no run, shapes disagree, values are not 0/1, a key is given twice, or the subsets'
                sizes differ.
        """
        names = run_names(keys, len(trained_on))
        if not len(trained_on) == len(correct_train) == len(correct_test):
            lengths = f"{len(trained_on)}, {len(correct_train)} and {len(correct_test)}"
            raise DataError(f"trained_on, correct_train and correct_test have {lengths} rows, expected one a run")
        return cls._of(zip(names, trained_on, correct_train, correct_test, strict=True), len(names), mix_ratios)

    @classmethod
    def from_aux(
        cls,
        aux: "Iterable[AuxArrays]",
        keys: "Sequence[str | RunKey] | None" = None,
        mix_ratios: bool = False,
    ) -> Self:
        """Pack the aux arrays of runs in one pass, holding at most 64 of them.

        Args:
            aux: One for each run.
            keys: Names of the runs; `0`, `1`, ... by default.
            mix_ratios: As in `from_arrays`.

        Raises:
            DataError: As `from_arrays`.
            ZooError: If a run's `index_test` is not 0 ... m-1 in some order.
        """
        names = None if keys is None else run_names(keys)
        return cls._of(_aux_rows(aux, names), None if names is None else len(names), mix_ratios)

    @classmethod
    def from_zoo(cls, zoo: str | Path, experiment: str, subset_ratio: float, runs: Sequence[int] | None = None) -> Self:
        """Pack the runs of one subset ratio of a zoo or TensorFlow tree; models are not read.

        Args:
            zoo: Folder of the zoo, or of an unpacked TensorFlow archive; or URL of a zoo, of which the aux arrays are
                fetched into the cache.
            experiment: Such as `cifar10-inception`.
            subset_ratio: Share of the training set that a run saw.
            runs: Only these; all by default.

        Raises:
            ZooError: If there is no such run, or aux arrays are missing, damaged, or cannot be fetched.
            DataError: As `from_arrays`.
        """
        from heldout_torch.storage.urls import REQUESTS, is_remote
        from heldout_torch.zoo.run_aux import aux_readers

        readers = aux_readers(zoo, experiment)
        found = {key.run: key for key in readers if key.subset_ratio == subset_ratio}
        wanted = sorted(found) if runs is None else list(runs)
        missing = [run for run in wanted if run not in found]
        if missing or not wanted:
            which = f"runs {', '.join(map(str, missing[:10]))} of " if missing else "runs of "
            raise ZooError(f"{which}{experiment}/{subset_ratio!r} are not in {zoo}")
        threads = REQUESTS if is_remote(zoo) else min(8, os.cpu_count() or 1)
        return cls.from_aux(_ahead([readers[found[run]] for run in wanted], threads), [found[run] for run in wanted])

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Open a saved table; its arrays stay on disk and are mapped into memory as they are read.

        Raises:
            DataError: If the folder holds no table, or its files do not fit each other.
        """
        folder = Path(path)
        try:
            record = json.loads((folder / _RECORD).read_bytes())
            arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ARRAYS}
            version, keys = record["format_version"], tuple(map(str, record["keys"]))
            n, m = int(record["train_examples"]), int(record["test_examples"])
        except OSError as error:
            raise DataError(f"{error.filename or folder}: cannot be read as a run table ({error.strerror})") from None
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{folder}: is no run table ({' '.join(str(error).split())}); build it again") from None
        if version != FORMAT_VERSION:
            raise DataError(f"{folder}: has format version {version!r}, this package reads {FORMAT_VERSION}")
        for name, array in arrays.items():
            expected = (m if name == "correct_test" else n, word_count(len(keys)))
            if array.dtype != np.uint64 or array.shape != expected:
                raise DataError(f"{folder}/{name}.npy: is {array.dtype} {array.shape}, expected uint64 {expected}")
        return cls(keys, **arrays)

    def save(self, path: str | Path) -> None:
        """Write the table as a folder, which appears at once; a table that lies there is replaced.

        Raises:
            DataError: If something other than a run table lies there.
        """
        from heldout_torch.storage.files import new_folder, sync, write_synced

        folder = Path(path)
        if folder.exists() and not (folder / _RECORD).is_file():
            raise DataError(f"{folder}: exists and is no run table, so it is not replaced; choose another path")
        record = {
            "format_version": FORMAT_VERSION,
            "keys": self.keys,
            "train_examples": self.train_examples,
            "test_examples": self.test_examples,
        }
        with new_folder(folder, overwrite=True) as temporary:
            for name in ARRAYS:
                np.save(temporary / f"{name}.npy", getattr(self, name), allow_pickle=False)
                sync(temporary / f"{name}.npy")
            write_synced(temporary / _RECORD, json.dumps(record).encode())

    @classmethod
    def concat(cls, tables: "Sequence[RunTable]", mix_ratios: bool = False) -> Self:
        """Join the runs of several tables over the same data set.

        Args:
            tables: At least one; no run may be in two of them.
            mix_ratios: As in `from_arrays`.

        Raises:
            DataError: If there is none, sizes disagree, a run is in two of them, or subset sizes differ.
        """
        if not tables:
            raise DataError("no tables to join")
        for table in tables[1:]:
            check_sizes(tables[0].keys[0], tables[0]._sizes, table.keys[0], table._sizes)
        keys = run_names([key for table in tables for key in table.keys])
        if not mix_ratios:
            sizes = [table.subset_sizes for table in tables]
            for key, size in zip(keys, np.concatenate(sizes), strict=True):
                check_subset(keys[0], int(sizes[0][0]), key, int(size))
        arrays = {
            name: _repack([(getattr(table, name), table.runs) for table in tables], slice(None)) for name in ARRAYS
        }
        return cls(keys, **arrays)

    def select_runs(self, runs: Sequence[int] | np.ndarray | slice) -> "RunTable":
        """Give a table of some of the runs, by position 0 ... runs-1.

        Raises:
            DataError: If none is selected, one is selected twice, or a position is outside.
        """
        try:
            positions = np.arange(self.runs)[runs]
        except IndexError:
            raise DataError(f"runs are selected by position 0 ... {self.runs - 1}, got {runs!r}") from None
        keys = run_names([self.keys[position] for position in positions])
        return RunTable(keys, **{name: _repack([(getattr(self, name), self.runs)], positions) for name in ARRAYS})

    @property
    def runs(self) -> int:
        """Number of runs."""
        return len(self.keys)

    @property
    def train_examples(self) -> int:
        """Size of the whole training set, n."""
        return len(self.trained_on)

    @property
    def test_examples(self) -> int:
        """Size of the test set, m."""
        return len(self.correct_test)

    @property
    def subset_sizes(self) -> np.ndarray:
        """How many examples each run trained on, int64 of shape (runs,)."""
        sizes = np.zeros(self.runs, np.int64)
        for rows in _chunks(self.train_examples, self.runs):
            sizes += np.count_nonzero(unpack(self.trained_on[rows], self.runs), axis=0)
        return sizes

    @property
    def subset_ratio(self) -> float:
        """Mean share of the training set that the runs trained on."""
        return float(self.subset_sizes.mean() / self.train_examples)

    def who_trained_on(self, example: int) -> tuple[np.ndarray, np.ndarray]:
        """Tell which runs trained on a training example, and which held it out.

        Args:
            example: Published index.

        Returns:
            Positions of the runs that trained on it and of those that did not, int64; `keys` has their names.

        Raises:
            DataError: If there is no such example.
        """
        if not 0 <= example < self.train_examples:
            raise DataError(f"example {example} is not in 0 ... {self.train_examples - 1}")
        bits = unpack(self.trained_on[example : example + 1], self.runs)[0]
        return np.flatnonzero(bits), np.flatnonzero(~bits)

    @property
    def _sizes(self) -> tuple[int, int]:
        return self.train_examples, self.test_examples

    @classmethod
    def _of(cls, rows: Iterable[Row], total: int | None, mix_ratios: bool) -> Self:
        names, arrays = pack_rows(rows, total, mix_ratios)
        return cls(names, **arrays)


def _aux_rows(aux: "Iterable[AuxArrays]", names: tuple[str, ...] | None) -> Iterator[Row]:
    given = 0
    for given, arrays in enumerate(aux, start=1):
        if names is not None and given > len(names):
            raise DataError(f"{len(names)} keys given for more runs")
        key = str(given - 1) if names is None else names[given - 1]
        try:
            yield key, arrays.trained_on, arrays.correct_train, arrays.correct_test
        except HeldoutError as error:
            raise type(error)(f"run {key}: {error}") from None
    if names is not None and given < len(names):
        raise DataError(f"{len(names)} keys given for {given} runs")


def _chunks(examples: int, runs: int) -> Iterator[slice]:
    step = max(1, _CHUNK_BITS // runs)
    for start in range(0, examples, step):
        yield slice(start, start + step)


def _repack(parts: list[tuple[np.ndarray, int]], runs: np.ndarray | slice) -> np.ndarray:
    examples, total = len(parts[0][0]), sum(count for _, count in parts)
    chunks = [
        pack(np.concatenate([unpack(words[rows], count) for words, count in parts], axis=1)[:, runs])
        for rows in _chunks(examples, total)
    ]
    return np.concatenate(chunks)


def _ahead(readers: "Sequence[Callable[[], AuxArrays]]", threads: int) -> "Iterator[AuxArrays]":
    """Read aux arrays with a few threads (unzipping lets go of the interpreter), a few runs ahead of their use."""
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(readers), 2 * threads):
            yield from pool.map(lambda read: read(), readers[start : start + 2 * threads])
