"""Outputs of runs as a folder of arrays that can be mapped into memory, filled in run by run by several processes.

`outputs.json` names the runs in order of their rows, and the sizes n of the training and m of the test set. By
published index, `masks.npy`, uint8 of shape (runs, ceil(n / 8)), has the bit of each training example, the first in the
lowest bit, and `margins_train.npy` and `margins_test.npy`, float32 of shape (runs, n) and (runs, m), have the log odds
of the label. `filled.npy`, bool of shape (runs,), says which rows are filled in. `outputs.json` also has, as `made_of`,
what all rows have in common, such as the digest of the data set.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from heldout_torch.errors import DataError, counted, one_line, os_errors, warn
from heldout_torch.stats.table_files import MAX_KEYS, folders_with
from heldout_torch.storage import posix
from heldout_torch.storage.files import new_folder, read_bounded, remove_stale, write_plainly
from heldout_torch.storage.kinds import check_folder
from heldout_torch.storage.locks import locked
from heldout_torch.storage.npz import map_npy
from heldout_torch.zoo.keys import RunKey

FORMAT_VERSION = 1
RECORD = "outputs.json"
_ANEW = "remove that folder, and evaluate again"
_ELSEWHERE = "write them elsewhere with `heldout evaluate ZOO --out OTHER --save outputs`, and train without --save"


class Layout(NamedTuple):
    """What a folder of outputs holds: names of its runs, sizes of training and test set, and what rows are made of."""

    keys: tuple[str, ...]
    train_examples: int
    test_examples: int
    made_of: dict[str, Any]

    @property
    def arrays(self) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
        """Data type and shape of each array, by name."""
        runs = len(self.keys)
        return {
            "margins_train": (np.dtype(np.float32), (runs, self.train_examples)),
            "margins_test": (np.dtype(np.float32), (runs, self.test_examples)),
            "masks": (np.dtype(np.uint8), (runs, -(-self.train_examples // 8))),
            "filled": (np.dtype(np.bool_), (runs,)),
        }


def start_outputs(
    folder: Path, keys: Sequence[str], train_examples: int, test_examples: int, made_of: Mapping[str, Any] | None = None
) -> None:
    """Make a folder of outputs with empty rows, or add rows for more runs to one that is there.

    Several processes may do it at once, also while rows are filled in.

    Args:
        folder: Where; folders on the way are made. Rows not filled in take no space on most disks.
        keys: Runs that will have a row; those that have one keep it.
        train_examples: Size of the whole training set, n.
        test_examples: Size of the test set, m.
        made_of: What all rows have in common, as JSON holds it.

    Raises:
        DataError: If there are outputs of other examples or made of something else, or it cannot be written.
    """
    layout = Layout(tuple(keys), train_examples, test_examples, dict(made_of or {}))
    with os_errors(DataError, "cannot be written", folder):
        if not folder.is_dir():
            remove_stale(folder.parent)
            with new_folder(folder) as temporary:
                _write_folder(temporary, layout)
        check_outputs(folder, *layout[1:])
        if not set(keys).issubset(_read_layout(folder).keys):
            with _alone(folder):
                _add_rows(folder, keys)


def check_outputs(
    folder: Path, train_examples: int, test_examples: int, made_of: Mapping[str, Any] | None = None
) -> None:
    """Check that a folder of outputs that is there is about the same examples and made of the same.

    Raises:
        DataError: If there are outputs of other examples or made of something else, or none.
    """
    found = _read_layout(folder)
    if (found.train_examples, found.test_examples) != (train_examples, test_examples):
        raise DataError(
            f"{folder}: has outputs on {found.train_examples} training and {found.test_examples} test examples, not on "
            f"{train_examples} and {test_examples}; {_ELSEWHERE}"
        )
    if found.made_of != dict(made_of or {}):
        raise DataError(
            f"{folder}: has outputs made with {found.made_of}, not {dict(made_of or {})}; remove it, or {_ELSEWHERE}"
        )


def write_outputs(
    folder: Path, key: str, trained_on: np.ndarray, margins_train: np.ndarray, margins_test: np.ndarray
) -> None:
    """Fill in the row of a run, or replace it; it counts as filled in only while it is whole.

    Args:
        folder: What `start_outputs` made.
        key: The run, one of those named then.
        trained_on: bool of shape (n,).
        margins_train: Float of shape (n,).
        margins_test: Float of shape (m,).

    Raises:
        DataError: If the folder has no such row, or cannot be written.
    """
    with os_errors(DataError, "cannot be written", folder), _alone(folder):
        _write_row(folder, key, trained_on, margins_train, margins_test)


def filled_rows(folder: Path) -> set[str]:
    """Return the names of the runs whose rows are filled in; none if there is no such folder.

    Raises:
        DataError: If the folder holds something other than outputs.
    """
    if not folder.exists():
        return set()
    layout, arrays = open_outputs(folder)
    return {layout.keys[row] for row in np.flatnonzero(arrays["filled"])}


def open_outputs(folder: Path) -> tuple[Layout, dict[str, np.ndarray]]:
    """Open the arrays of a folder of outputs, mapped from disk, by the names in `Layout.arrays`.

    Raises:
        DataError: If the folder holds no outputs, or its files do not fit each other.
    """
    layout = _read_layout(folder)
    arrays: dict[str, np.ndarray] = {}
    for name, (dtype, shape) in layout.arrays.items():
        try:
            arrays[name] = map_npy(folder / f"{name}.npy")
        except DataError as error:
            raise DataError(f"{error}; {_ANEW}") from None
        if arrays[name].dtype != dtype or arrays[name].shape != shape:
            found = f"{arrays[name].dtype} {arrays[name].shape}"
            raise DataError(f"{folder}/{name}.npy: is {found}, expected {dtype} {shape}; {_ANEW}")
    return layout, arrays


def _write_row(
    folder: Path, key: str, trained_on: np.ndarray, margins_train: np.ndarray, margins_test: np.ndarray
) -> None:
    layout = _read_layout(folder)
    if key not in layout.keys:
        there = f"{counted(len(layout.keys), 'run')}, {layout.train_examples} training and {layout.test_examples} test"
        raise DataError(f"{folder}: has no row for run {key}, only for {there} examples")
    row = layout.keys.index(key)
    steps = (
        ("filled", np.False_),
        ("margins_train", margins_train),
        ("margins_test", margins_test),
        ("masks", np.packbits(trained_on, bitorder="little")),
        ("filled", np.True_),
    )
    for name, values in steps:
        dtype, shape = layout.arrays[name]
        line = np.ascontiguousarray(values, dtype)
        path = folder / f"{name}.npy"
        array = map_npy(path)
        if array.dtype != dtype or array.shape != shape or line.size * len(layout.keys) != array.size:
            raise DataError(f"{folder}/{name}.npy: is {array.dtype} {array.shape}, run {key} has a row of {line.size}")
        # Through the file, not the map: on network file systems only so do neighbouring rows of others stay whole.
        with open(path, "r+b") as file:
            file.seek(row * line.nbytes - array.nbytes, os.SEEK_END)
            file.write(line.tobytes())
            file.flush()
            posix.sync_file(file.fileno())


def _add_rows(folder: Path, keys: Sequence[str]) -> None:
    """Put a folder with rows for more runs in the place of one, which nobody else writes into meanwhile.

    Arrays of the old one that are mapped stay readable. Rows are in the order of runs, whichever were there first.
    """
    layout, arrays = open_outputs(folder)
    names = tuple(sorted({*layout.keys, *keys}, key=RunKey.parse))
    grown = layout._replace(keys=names)
    filled = np.flatnonzero(arrays["filled"])
    rows = {name: row for row, name in enumerate(names)}
    with new_folder(folder, overwrite=True) as temporary:
        _write_folder(temporary, grown)
        for name, array in arrays.items():
            with open(temporary / f"{name}.npy", "r+b") as file:
                start = file.seek(0, os.SEEK_END) - len(names) * array[:1].nbytes
                for row in filled:  # one by one: those not filled in still take no space
                    file.seek(start + rows[layout.keys[row]] * array[:1].nbytes)
                    file.write(array[row].tobytes())


def _alone(folder: Path) -> AbstractContextManager[object]:
    """Keep others from writing into a folder of outputs, or putting another one in its place, while a block runs."""
    return locked(folder.with_name(f".{folder.name}.lock"), warn)


def _write_folder(temporary: Path, layout: Layout) -> None:
    for name, (dtype, shape) in layout.arrays.items():
        _write_empty(temporary / f"{name}.npy", dtype, shape)
    record = {"format_version": FORMAT_VERSION, **layout._asdict()}
    write_plainly(temporary / RECORD, json.dumps(record).encode())


def _write_empty(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    """Write an npy file of zeros, which takes no space on most disks."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + dtype.itemsize * math.prod(shape))


def _read_layout(folder: Path) -> Layout:
    check_folder(folder, "a folder of outputs, as `heldout evaluate --save outputs` writes it")
    try:
        record = json.loads(read_bounded(folder / RECORD, MAX_KEYS))
        version = record["format_version"]
        sizes = int(record["train_examples"]), int(record["test_examples"])
        layout = Layout(tuple(map(str, record["keys"])), *sizes, dict(record["made_of"]))
    except FileNotFoundError:
        there = folders_with(RECORD, folder)
        hint = "`heldout evaluate` and `heldout train` write them with --save outputs"
        hint = f"there are outputs{there}" if there else hint
        raise DataError(f"{folder}: holds no outputs, for it has no {RECORD}; {hint}") from None
    except OSError as error:
        raise DataError(f"{error.filename or folder}: cannot be read as outputs ({error.strerror})") from None
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise DataError(f"{folder}: holds no outputs ({one_line(error)}); {_ANEW}") from None
    if version != FORMAT_VERSION:
        raise DataError(f"{folder}: has format version {version!r}, this package reads {FORMAT_VERSION}")
    return layout
