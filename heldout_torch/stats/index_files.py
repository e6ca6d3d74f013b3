"""Files that list training examples to keep or to train on. Each says its order; the order is never guessed."""

from dataclasses import dataclass
from pathlib import Path
from typing import get_args
from zipfile import is_zipfile

import numpy as np

from heldout_torch.errors import DataError
from heldout_torch.stats.columns import SUFFIXES, read_columns, write_columns
from heldout_torch.stats.npz_files import ORDER, as_indices, read_order, write_npz
from heldout_torch.stats.orders import Order, check_order, to_original
from heldout_torch.storage.counts import as_count
from heldout_torch.storage.kinds import kind_of
from heldout_torch.storage.npz import read_npy, read_npz
from heldout_torch.storage.paths import Location, local_path

_INDICES = "indices"
_OF = ("dataset", "examples")  # which training set a file is about


def save_indices(
    path: Location, indices: np.ndarray, order: Order, dataset: str | None = None, examples: int | None = None
) -> None:
    """Write indices, their order, and which training set they are about.

    Args:
        path: The file. One ending in .csv or .parquet has the columns `original_index` or `published_index`, and the
            same `dataset` and `examples` in every row; any other is an npz file of the arrays `indices`, `order`,
            `dataset` and `examples`.
        indices: Row of integers, each at most once.
        order: `original` or `published`.
        dataset: Name of the data set whose training examples they are, such as `cifar10`.
        examples: Size of that training set.

    Raises:
        DataError: If they are not a row of indices, an example is named twice, the order is neither `original` nor
            `published`, or the file cannot be written.
        HeldoutError: If pyarrow is needed and not installed.
    """
    path, order = local_path(path), check_order(order, ORDER)
    row = _once(as_indices(indices, None, _INDICES), _INDICES)
    about = {name: np.array(value) for name, value in zip(_OF, (dataset, examples), strict=True) if value is not None}
    if path.suffix.lower() in SUFFIXES[1:]:
        same = {name: np.broadcast_to(value, len(row)) for name, value in about.items()}
        return write_columns(path, {f"{order}_index": row, **same})
    return write_npz(path, {_INDICES: row, **about}, order)


def load_indices(path: Location, order: Order | None = None) -> tuple[np.ndarray, Order]:
    """Read indices of examples and their order.

    Args:
        path: A file as `save_indices` writes it, of which a CSV or Parquet file needs only the column `original_index`
            or `published_index`; or a bare npy array.
        order: `original` or `published`, which a bare array needs, and a file that says otherwise contradicts.

    Returns:
        Indices, int64 of shape (k,) in the order of the file, and whether they are original or published ones.

    Raises:
        DataError: If the file is missing, damaged, names an example twice, does not say its order, or says another one
            than `order`.
    """
    path = local_path(path)
    found = _read(path, order)
    return _once(as_indices(found.indices, None, str(path)), str(path)), found.order


@dataclass(frozen=True, eq=False)
class _Found:
    """What a file holds, unchecked.

    Attributes:
        indices: As the file has them.
        order: Of these indices.
        about: `dataset` and `examples` of the training set, where the file says them.
        other: The indices of the same examples in the other order, where a table has both.
    """

    indices: np.ndarray
    order: Order
    about: dict[str, str]
    other: np.ndarray | None = None


def _read(path: Path, order: Order | None) -> _Found:
    order = None if order is None else check_order(order, ORDER)
    said, about, other = None, dict[str, str](), None
    if path.suffix.lower() == ".npy":
        array = read_npy(path)
    elif path.suffix.lower() in SUFFIXES[1:]:
        array, said, about, other = _read_columns(path, order)
    elif path.suffix.lower() != ".npz" and path.is_file() and not is_zipfile(path):
        raise DataError(f"{path}: is {kind_of(path)}, expected indices as .npz, .csv, .parquet or .npy")
    else:
        arrays = read_npz(path, wanted=[_INDICES], optional=[ORDER, *_OF])
        array, said = arrays[_INDICES], read_order(arrays, path)
        about = {name: str(arrays[name])[:80] for name in _OF if name in arrays}
    found = said or order
    if found is None:
        raise DataError(f"{path}: does not say how it counts examples; pass order='original' or order='published'")
    if order not in (None, found):
        raise DataError(f"{path}: has {found} indices, not {order} ones as asked for")
    return _Found(array, found, about, other)


def _read_columns(path: Path, order: Order | None) -> tuple[np.ndarray, Order, dict[str, str], np.ndarray | None]:
    """Return a table's column of indices, its order, what the table is about, and the other column of indices.

    Of two such columns, the first is the one in the order asked for, or the original one.
    """
    names = {f"{said}_index": said for said in get_args(Order)}
    columns, about = read_columns(path, dict.fromkeys(names, "i"), _OF)
    for name, said in names.items():
        if name in columns and (order in (None, said) or len(columns) == 1):
            return columns.pop(name), said, about, next(iter(columns.values()), None)
    raise DataError(f"{path}: has no column {' or '.join(names)}")


def load_published_indices(
    path: Location,
    examples: int,
    original_index: np.ndarray | None,
    order: Order | None = None,
    dataset: str | None = None,
) -> np.ndarray:
    """Read indices of training examples as published ones.

    Args:
        path: As in `load_indices`.
        examples: Size of the training set.
        original_index: Position in the data set's own files of each published index, int64 of shape (examples,); None
            if it is not known, and original indices cannot be mapped.
        order: As in `load_indices`.
        dataset: Name of the data set, which a file that says of which it is must name.

    Returns:
        Published indices, int64 of shape (k,), in the order of the file.

    Raises:
        DataError: As `load_indices`; if the file is about another training set, an example is outside it, original
            indices cannot be mapped, two columns of indices contradict each other, or `original_index` is not
            0 ... examples-1 in some order.
    """
    path = local_path(path)
    found = _read(path, order)
    for name, expected in zip(_OF, (dataset, examples), strict=True):
        if expected is not None and found.about.get(name, str(expected)) != str(expected):
            raise DataError(
                f"{path}: is about a training set of {name} {found.about[name]}, not {expected}; to use it "
                "nevertheless, save its indices as an npy file, and say their order"
            )
    examples = as_count(examples, "examples", least=0)
    indices = _once(as_indices(found.indices, None, str(path), examples), str(path))
    if found.other is not None and original_index is not None:
        other = as_indices(found.other, None, str(path), examples)
        _check_both(path, *((indices, other) if found.order == "published" else (other, indices)), original_index)
    if found.order == "published":
        return indices
    if original_index is None:
        raise DataError(f"{path}: has original indices, which only the data set can map; pass its original_index")
    return to_original(np.arange(examples), original_index)[indices]


def _check_both(path: Path, published: np.ndarray, original: np.ndarray, original_index: np.ndarray) -> None:
    """Refuse a table whose rows name, by their two indices, two different examples of the data set."""
    if len(wrong := np.flatnonzero(original_index[published] != original)):
        row = wrong[0]
        raise DataError(
            f"{path}: original index {original[row]} and published index {published[row]} of one row are different "
            f"examples of this data set ({len(wrong)} such rows); keep only the column that is right"
        )


def _once(indices: np.ndarray, name: str) -> np.ndarray:
    if len(np.unique(indices)) != len(indices):
        raise DataError(f"{name}: names an example twice")
    return indices
