"""The run table: for every example, which runs trained on it and which classify it correctly, one bit each."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from heldout_torch.errors import DataError, HeldoutError, ZooError
from heldout_torch.stats.bits import WORD_BITS, pack, pack_runs, unpack, word_count
from heldout_torch.stats.progress import progress

if TYPE_CHECKING:
    from heldout_torch.zoo import AuxArrays, RunKey

FORMAT_VERSION = 1
_RECORD = "table.json"
_ARRAYS = ("trained_on", "correct_train", "correct_test")
_CHUNK_BITS = 2**27

# One run: its name, then bits of shape (n,), (n,), (m,) in the order of _ARRAYS.
_Row = tuple[str, np.ndarray, np.ndarray, np.ndarray]


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
        names = _names(keys, len(trained_on))
        if not len(trained_on) == len(correct_train) == len(correct_test):
            lengths = f"{len(trained_on)}, {len(correct_train)} and {len(correct_test)}"
            raise DataError(f"trained_on, correct_train and correct_test have {lengths} rows, expected one a run")
        return cls._build(zip(names, trained_on, correct_train, correct_test, strict=True), len(names), mix_ratios)

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
        names: Iterable[str] = map(str, range(2**31)) if keys is None else _names(keys, len(keys))
        return cls._build(map(_aux_row, names, aux), None if keys is None else len(keys), mix_ratios)

    @classmethod
    def from_zoo(cls, zoo: str | Path, experiment: str, subset_ratio: float, runs: Sequence[int] | None = None) -> Self:
        """Pack the runs of one subset ratio of a zoo or TensorFlow tree; models are not read.

        Args:
            zoo: Folder of the zoo, or of an unpacked TensorFlow archive.
            experiment: Such as `cifar10-inception`.
            subset_ratio: Share of the training set that a run saw.
            runs: Only these; all by default.

        Raises:
            ZooError: If there is no such run, or aux arrays are missing or damaged.
            DataError: As `from_arrays`.
        """
        from heldout_torch.zoo.layout import find_runs
        from heldout_torch.zoo.load import read_run_aux

        found = {run.key.run: run for run in find_runs(Path(zoo), experiment) if run.key.subset_ratio == subset_ratio}
        wanted = sorted(found) if runs is None else list(runs)
        missing = [run for run in wanted if run not in found]
        if missing or not wanted:
            which = f"runs {', '.join(map(str, missing[:10]))} of " if missing else "runs of "
            raise ZooError(f"{which}{experiment}/{subset_ratio!r} are not in {zoo}")
        aux = _ahead(lambda run: read_run_aux(zoo, found[run]), wanted)
        return cls.from_aux(aux, [found[run].key for run in wanted])

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Open a saved table; its arrays stay on disk and are mapped into memory as they are read.

        Raises:
            DataError: If the folder holds no table, or its files do not fit each other.
        """
        folder = Path(path)
        try:
            record = json.loads((folder / _RECORD).read_bytes())
            arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS}
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
        from heldout_torch.zoo.files import new_folder, write_synced

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
            for name in _ARRAYS:
                with open(temporary / f"{name}.npy", "wb") as file:
                    np.save(file, getattr(self, name), allow_pickle=False)
                    file.flush()
                    os.fsync(file.fileno())
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
            _same_sizes(tables[0].keys[0], tables[0]._sizes, table.keys[0], table._sizes)
        keys = _names([key for table in tables for key in table.keys])
        if not mix_ratios:
            sizes = [table.subset_sizes for table in tables]
            for key, size in zip(keys, np.concatenate(sizes), strict=True):
                _same_subset(keys[0], int(sizes[0][0]), key, int(size))
        arrays = {
            name: _repack([(getattr(table, name), table.runs) for table in tables], slice(None)) for name in _ARRAYS
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
        keys = _names([self.keys[position] for position in positions])
        return RunTable(keys, **{name: _repack([(getattr(self, name), self.runs)], positions) for name in _ARRAYS})

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
    def _build(cls, rows: Iterable[_Row], total: int | None, mix_ratios: bool) -> Self:
        columns: dict[str, list[np.ndarray]] = {name: [] for name in _ARRAYS}
        buffers: dict[str, np.ndarray] = {}
        keys: list[str] = []
        size = 0
        for key, *arrays in progress(rows, "run table", "run", total):
            bits = {name: _bits(array, key, name) for name, array in zip(_ARRAYS, arrays, strict=True)}
            lengths = len(bits["correct_train"]), len(bits["correct_test"])
            _same_sizes(key, (len(bits["trained_on"]), lengths[1]), key, lengths)
            if not keys:
                buffers = {name: np.empty((WORD_BITS, len(row)), bool) for name, row in bits.items()}
                size = int(bits["trained_on"].sum())
            else:
                _same_sizes(keys[0], tuple(buffers[name].shape[1] for name in _ARRAYS[1:]), key, lengths)
                if not mix_ratios:
                    _same_subset(keys[0], size, key, int(bits["trained_on"].sum()))
            for name, row in bits.items():
                buffers[name][len(keys) % WORD_BITS] = row
            keys.append(key)
            if len(keys) % WORD_BITS == 0:
                for name in _ARRAYS:
                    columns[name].append(pack_runs(buffers[name]))
        names = _names(keys)
        if rest := len(keys) % WORD_BITS:
            for name in _ARRAYS:
                columns[name].append(pack_runs(buffers[name][:rest]))
        del buffers
        return cls(names, **{name: _stack(columns.pop(name)) for name in _ARRAYS})


def _aux_row(key: str, aux: "AuxArrays") -> _Row:
    try:
        return key, aux.trained_on, aux.correct_train, aux.correct_test
    except HeldoutError as error:
        raise type(error)(f"run {key}: {error}") from None


def _bits(array: Any, key: str, name: str) -> np.ndarray:
    array = np.asarray(array)
    if array.ndim != 1 or array.dtype.kind not in "biuf":
        raise DataError(f"run {key}: {name} is {array.dtype} {array.shape}, expected a row of 0 and 1")
    if array.dtype != bool and not ((array == 0) | (array == 1)).all():
        raise DataError(f"run {key}: {name} has values other than 0 and 1")
    return array.astype(bool, copy=False)


def _names(keys: "Sequence[str | RunKey] | None", runs: int | None = None) -> tuple[str, ...]:
    names = tuple(map(str, range(runs or 0) if keys is None else keys))
    if not names:
        raise DataError("no runs given, a run table needs at least one")
    if runs is not None and len(names) != runs:
        raise DataError(f"{len(names)} keys given for {runs} runs")
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise DataError(f"runs given twice: {', '.join(twice[:10])}; their keys must tell them apart")
    return names


def _same_sizes(first: str, expected: tuple[int, ...], key: str, sizes: tuple[int, ...]) -> None:
    if sizes != expected:
        raise DataError(
            f"run {key} has {sizes[0]} training and {sizes[1]} test examples, "
            f"run {first} has {expected[0]} and {expected[1]}; a table is about one data set"
        )


def _same_subset(first: str, expected: int, key: str, size: int) -> None:
    if size != expected:
        raise DataError(
            f"run {key} trained on {size} examples, run {first} on {expected}: runs of different subset ratios do not "
            "mix; pass mix_ratios=True if you mean it"
        )


def _stack(columns: list[np.ndarray]) -> np.ndarray:
    table = np.empty((len(columns[0]), len(columns)), np.uint64)
    for word in reversed(range(len(columns))):
        table[:, word] = columns.pop()  # each column is freed once copied, so that the table is never held twice
    return table  # (examples, words)


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


def _ahead(read: "Callable[[int], AuxArrays]", runs: list[int]) -> "Iterator[AuxArrays]":
    """Read aux arrays with a few threads (unzipping lets go of the interpreter), a few runs ahead of their use."""
    threads = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(runs), 2 * threads):
            yield from pool.map(read, runs[start : start + 2 * threads])
