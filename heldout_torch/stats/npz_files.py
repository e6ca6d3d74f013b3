"""What the readers and writers of published files share: rows that are checked, and the order of their examples."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from heldout_torch.errors import DataError, os_errors
from heldout_torch.stats.arguments import as_array
from heldout_torch.stats.columns import SUFFIXES
from heldout_torch.stats.orders import Order, check_order
from heldout_torch.stats.published_list import list_published
from heldout_torch.storage.files import remove_stale, write_atomically
from heldout_torch.storage.npz import npz_bytes, read_names
from heldout_torch.storage.paths import Location, local_path

ORDER = "order"  # a string of no dimension, in every file written here


def check_contents(path: Path, wanted: str) -> None:
    """Check that an npz file may hold what is wanted.

    Raises:
        DataError: If it holds none of it but other statistics, or the name is that of a published file and no file's;
            another function reads both.

    Args:
        path: The file.
        wanted: `scores`, `pairs` or `class-wise influence`.
    """
    if not path.suffix and not path.exists() and path.name in list_published():
        raise DataError(f"{path}: there is no such file; load_published({path.name!r}) loads what is published")
    names = read_names(path)
    marks = {
        "scores": "scores" in names,
        "pairs": "infl" in names,
        "class-wise influence": any(name.startswith("infl_matrix_class") for name in names),
    }
    there = [kind for kind, found in marks.items() if found]
    if there and wanted not in there:
        raise DataError(f"{path}: holds {there[0]}, not {wanted}")


def as_row(array: Any, kinds: str, length: int | None, name: str) -> np.ndarray:
    """Return an array if it is a row of a kind (NumPy's letters) and length.

    Raises:
        DataError: If it is not; `name` is what the error calls it.
    """
    array = as_array(array, name)
    if array.ndim != 1 or array.dtype.kind not in kinds or length not in (None, len(array)):
        kind = {"f": "floats", "iu": "integers", "SU": "text", "U": "text"}[kinds]
        expected = "" if length is None else f" of length {length}"
        raise DataError(f"{name} is {array.dtype} {array.shape}, expected a row of {kind}{expected}")
    return array


def as_indices(array: Any, length: int | None, name: str, examples: int = 2**31) -> np.ndarray:
    """Return a row of indices as int64.

    Args:
        array: The row.
        length: What its length must be; None for any.
        name: What errors call it.
        examples: Size of the training set that they are about; by default the largest that there may be.

    Raises:
        DataError: If it is not a row of integers from 0 to `examples` - 1, or not of that length.
    """
    array = as_array(array, name)
    if array.dtype == np.bool_ and array.size:
        raise DataError(f"{name} is a mask, bool {array.shape}, expected indices: numpy.flatnonzero(mask)")
    row = as_row(array if array.size else array.astype(np.int64), "iu", length, name)
    if row.size and (row.min() < 0 or row.max() >= examples):
        last = "2^31-1" if examples == 2**31 else f"{examples - 1}, those of the training set"
        raise DataError(f"{name} has indices outside 0 ... {last}")
    return row.astype(np.int64)


def as_names(array: np.ndarray, length: int | None, name: str) -> np.ndarray:
    """Return a row of text as str; bytes are taken for Latin-1.

    Raises:
        DataError: If it is not a row of text of that length.
    """
    row = as_row(array, "SU", length, name)
    return np.char.decode(row, "latin-1") if row.dtype.kind == "S" else row


def read_order(arrays: Mapping[str, np.ndarray], path: Location) -> Order | None:
    """Return what a file says about the order of its examples; None if it says nothing.

    Raises:
        DataError: If it is neither of the two.
    """
    if ORDER not in arrays:
        return None
    order = arrays[ORDER]
    if order.shape != () or order.dtype.kind not in "SU":
        raise DataError(f"{path}: {ORDER} is {order.dtype} {order.shape}, expected a string")
    value = order.item()
    return check_order(value.decode("latin-1") if isinstance(value, bytes) else value, f"{path}: {ORDER}")


def write_npz(path: Location, arrays: Mapping[str, np.ndarray | None], order: Order | None) -> None:
    """Write arrays atomically, uncompressed, with their order; the same numbers give the same bytes.

    Args:
        path: The file.
        arrays: By name; those that are None are left out.
        order: Of the examples; None, where it is not known, is refused.

    Raises:
        DataError: If the name is that of another kind of file, the order is not known, an array holds Python objects,
            or the file cannot be written.
    """
    path = local_path(path)
    if path.suffix.lower() in (*SUFFIXES[1:], ".npy"):
        others = "write_scores, write_pairs and to_pandas make tables"
        raise DataError(f"{path}: is written as an npz file, expected a name ending in .npz; {others}")
    if order is None:
        raise DataError(
            f"{path}: would not say how it counts examples; give what is written order='published' (as functions of "
            "statistics return it) or order='original' (as the data set's own files count)"
        )
    known = {name: _plain(array, f"{path}: {name}") for name, array in arrays.items() if array is not None}
    known[ORDER] = np.array(check_order(order, ORDER))
    remove_stale(path.parent)
    with os_errors(DataError, f"{path}: cannot be written"):
        write_atomically(path, npz_bytes(known))


def _plain(array: Any, name: str) -> np.ndarray:
    """Return an array in the machine's byte order, rows first, as it is after reading."""
    array = as_array(array, name)
    if array.dtype.hasobject:
        raise DataError(f"{name} holds Python objects, expected numbers or text")
    return np.asarray(array, array.dtype.newbyteorder("="), order="C")
