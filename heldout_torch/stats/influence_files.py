"""Published influence: high-influence pairs, class-wise matrices, and ImageNet's index with memorization.

Mind the transpose: class-wise matrices are train x test, everything else here is test x train. Standard errors,
intervals and chances, which published files do not have, are written where they are known, and passed over by others.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from heldout_torch.errors import DataError, listed
from heldout_torch.stats.arguments import as_kind
from heldout_torch.stats.classwise import ClassInfluence
from heldout_torch.stats.columns import SUFFIXES
from heldout_torch.stats.npz_files import ORDER, as_indices, as_row, check_contents, read_order, write_npz
from heldout_torch.stats.orders import Order, check_order
from heldout_torch.stats.pairs import InfluencePairs
from heldout_torch.stats.result_tables import read_pair_table
from heldout_torch.stats.shown import short_repr
from heldout_torch.storage.npz import read_npz
from heldout_torch.storage.paths import Location, local_path

_ALSO = ("low", "high", "p_value", "false_discovery_rate")
_OF_EXAMPLES = ("tr_labels", "tt_labels", "tr_mem")


def load_pairs(path: Location) -> InfluencePairs:
    """Read `tr_idx`, `tt_idx`, `infl`, `mem` (and the others of InfluencePairs); numbers are as the file has them.

    Indices are in the order of the file. Published files do not say which it is, and their pairs have order None.
    Standard errors are NaN if there are none. CSV and Parquet files, as `write_pairs` makes them, are read with
    original indices if they have them.

    Raises:
        DataError: If the file is missing, damaged, or arrays are not rows of one length.
    """
    path = local_path(path)
    if path.suffix.lower() in SUFFIXES[1:]:
        arrays = read_pair_table(path)
    else:
        check_contents(path, "pairs")
        arrays = read_npz(path, wanted=["tr_idx", "tt_idx", "infl", "mem"], optional=["standard_error", *_ALSO, ORDER])
    influence = as_row(arrays["infl"], "f", None, f"{path}: infl")
    pairs = len(influence)
    train, test = (as_indices(arrays[name], pairs, f"{path}: {name}") for name in ("tr_idx", "tt_idx"))
    arrays.setdefault("standard_error", np.full(pairs, np.nan, influence.dtype))
    memorization, error = (as_row(arrays[name], "f", pairs, f"{path}: {name}") for name in ("mem", "standard_error"))
    also = {name: as_row(arrays[name], "f", pairs, f"{path}: {name}") for name in _ALSO if name in arrays}
    return InfluencePairs(train, test, influence, memorization, error, read_order(arrays, path), **also)


def save_pairs(path: Location, pairs: InfluencePairs) -> None:
    """Write pairs as `tr_idx`, `tt_idx`, `infl`, `mem` (and the others of InfluencePairs where they are known).

    Raises:
        DataError: If arrays are not as in InfluencePairs, they do not say their order, or the file cannot be written.
    """
    as_kind(pairs, InfluencePairs, f"{path}")
    rows: dict[str, np.ndarray | None] = {
        "infl": pairs.influence,
        "mem": pairs.memorization,
        "standard_error": None if len(pairs) and np.isnan(pairs.standard_error).all() else pairs.standard_error,
        **{name: getattr(pairs, name) for name in _ALSO},
    }
    arrays = {
        "tr_idx": as_indices(pairs.train_index, None, f"{path}: tr_idx"),
        "tt_idx": as_indices(pairs.test_index, len(pairs), f"{path}: tt_idx"),
        **{
            name: None if row is None else as_row(row, "f", len(pairs), f"{path}: {name}") for name, row in rows.items()
        },
    }
    write_npz(path, arrays, pairs.order)


@dataclass(frozen=True, eq=False, repr=False)
class ClasswiseInfluence:
    """Class-wise influence matrices of a data set, as one published file holds them.

    Attributes:
        classes: One matrix for each class, in order of label.
        labels_train: Integers of shape (n,).
        labels_test: Integers of shape (m,).
        memorization: Float of shape (n,).
        order: How all of these count examples; None if the file does not say.
    """

    classes: list[ClassInfluence]
    labels_train: np.ndarray
    labels_test: np.ndarray
    memorization: np.ndarray
    order: Order | None = None

    def __post_init__(self) -> None:
        if self.order is not None:
            check_order(self.order, "order")

    __repr__ = short_repr


def load_classwise(path: Location, index: Location | None = None) -> ClasswiseInfluence:
    """Read `tr_classidx_K`, `tt_classidx_K`, `infl_matrix_classK`, `tr_labels`, `tt_labels`, `tr_mem` (and `order`).

    Intervals, `infl_low_classK` and `infl_high_classK`, are read if they are there.

    Args:
        path: The file.
        index: `imagenet_index.npz`, which has labels and memorization where the file has only the first three.

    Raises:
        DataError: If a file is missing, damaged, or matrices do not fit their indices or labels.
    """
    path = local_path(path)
    check_contents(path, "class-wise influence")
    arrays = read_npz(path)
    if index is not None:
        arrays = {**read_npz(local_path(index), wanted=_OF_EXAMPLES), **arrays}
    if missing := set(_OF_EXAMPLES) - set(arrays):
        raise DataError(f"{path}: has no {', '.join(sorted(missing))}, only {listed(sorted(arrays))}")
    train, test = (as_row(arrays[name], "iu", None, f"{path}: {name}") for name in ("tr_labels", "tt_labels"))
    matches = (re.fullmatch(r"infl_matrix_class(0|[1-9][0-9]{0,8})", name) for name in arrays)
    labels = sorted(int(match[1]) for match in matches if match)
    classes = []
    for label in labels:
        names = f"tr_classidx_{label}", f"tt_classidx_{label}", f"infl_matrix_class{label}"
        if missing := set(names) - set(arrays):
            raise DataError(f"{path}: has no {', '.join(sorted(missing))}, which must come with {names[2]}")
        low, high = (arrays.get(f"infl_{end}_class{label}") for end in ("low", "high"))
        train_index, test_index, matrix = (arrays[name] for name in names)
        one = ClassInfluence(label, train_index, test_index, matrix, low, high)
        _check_class(one, train, test, path)
        classes.append(one)
    memorization = as_row(arrays["tr_mem"], "f", len(train), f"{path}: tr_mem")
    return ClasswiseInfluence(classes, train, test, memorization, read_order(arrays, path))


def save_classwise(
    path: Location,
    classes: Iterable[ClassInfluence],
    labels_train: np.ndarray,
    labels_test: np.ndarray,
    memorization: np.ndarray,
    order: Order = "published",
) -> None:
    """Write class-wise matrices, which may come one at a time, in the published layout.

    Args:
        path: The file.
        classes: As `classwise_influence` yields them.
        labels_train: Integers of shape (n,).
        labels_test: Integers of shape (m,).
        memorization: Float of shape (n,).
        order: How all of these count examples.

    Raises:
        DataError: If matrices do not fit their indices or labels, a label is not in 0 ... 999999999, or the file cannot
            be written.
    """
    train, test = (
        as_row(labels, "iu", None, f"{path}: {name}")
        for labels, name in zip((labels_train, labels_test), _OF_EXAMPLES, strict=False)
    )
    memorized = as_row(memorization, "f", len(train), f"{path}: tr_mem")
    arrays: dict[str, np.ndarray | None] = {"tr_labels": train, "tt_labels": test, "tr_mem": memorized}
    for one in as_kind(classes, Iterable, f"{path}"):  # type: ignore[type-abstract]
        _check_class(one, train, test, path)
        arrays[f"tr_classidx_{one.label}"] = one.train_index
        arrays[f"tt_classidx_{one.label}"] = one.test_index
        arrays[f"infl_matrix_class{one.label}"] = one.influence  # (train, test)
        arrays[f"infl_low_class{one.label}"], arrays[f"infl_high_class{one.label}"] = one.low, one.high
    write_npz(path, arrays, order)


def load_imagenet_memorization(path: Location) -> np.ndarray:
    """Read the published memorization of ImageNet, `tr_mem` of `imagenet_index.npz`, float by published index.

    Names and labels of the same file are read by `heldout_torch.data.imagenet_index`.

    Raises:
        DataError: If the file is missing, damaged, or has no such row.
    """
    return as_row(read_npz(local_path(path), wanted=["tr_mem"])["tr_mem"], "f", None, f"{path}: tr_mem")


def save_imagenet_index(
    path: Location,
    filenames_train: list[str],
    labels_train: np.ndarray,
    memorization: np.ndarray,
    filenames_test: list[str],
    labels_test: np.ndarray,
) -> None:
    """Write an index of ImageNet in the published layout, names as bytes (never as Python objects).

    Raises:
        DataError: If names are not ASCII text, rows of a split are not of one length, or the file cannot be written.
    """
    names = _as_bytes(filenames_train, f"{path}: tr_filenames"), _as_bytes(filenames_test, f"{path}: tt_filenames")
    n, m = map(len, names)
    arrays = {
        "tr_filenames": names[0],
        "tr_labels": as_row(labels_train, "iu", n, f"{path}: tr_labels"),
        "tr_mem": as_row(memorization, "f", n, f"{path}: tr_mem"),
        "tt_filenames": names[1],
        "tt_labels": as_row(labels_test, "iu", m, f"{path}: tt_labels"),
    }
    write_npz(path, arrays, "published")


def _check_class(one: ClassInfluence, train: np.ndarray, test: np.ndarray, path: Location) -> None:
    label = as_kind(one, ClassInfluence, f"{path}").label
    if not 0 <= label < 10**9:
        raise DataError(f"{path}: label {label} cannot be written, expected 0 ... 999999999")
    sides = (one.train_index, train, f"tr_classidx_{label}"), (one.test_index, test, f"tt_classidx_{label}")
    for places, split, name in sides:
        as_row(places, "iu", None, f"{path}: {name}")
        if not np.array_equal(np.sort(places), np.flatnonzero(split == label)):
            raise DataError(f"{path}: {name} does not name the examples of label {label}")
    shape = len(one.train_index), len(one.test_index)
    for name, matrix in (("matrix_", one.influence), ("low_", one.low), ("high_", one.high)):
        if matrix is not None and (matrix.shape != shape or matrix.dtype.kind != "f"):
            found = f"infl_{name}class{label} is {matrix.dtype} {matrix.shape}"
            raise DataError(f"{path}: {found}, expected floats {shape}")


def _as_bytes(names: Sequence[str], name: str) -> np.ndarray:
    try:
        return np.char.encode(as_row(names, "U", None, name), "ascii")
    except UnicodeEncodeError as error:
        raise DataError(f"{name}: {error.object!r} is not ASCII text") from None
