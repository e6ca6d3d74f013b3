"""Published influence: high-influence pairs, class-wise matrices, and ImageNet's index with memorization.

Mind the transpose: class-wise matrices are train x test, everything else here is test x train. Standard errors,
intervals and chances, which published files do not have, are written where they are known, and passed over by others.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from heldout_torch.errors import DataError
from heldout_torch.stats.classwise import ClassInfluence
from heldout_torch.stats.npz_files import ORDER, as_indices, as_row, read_order, write_npz
from heldout_torch.stats.orders import Order
from heldout_torch.stats.pairs import InfluencePairs
from heldout_torch.stats.shown import short_repr
from heldout_torch.storage.npz import read_npz

_ALSO = ("low", "high", "p_value", "false_discovery_rate")
_OF_EXAMPLES = ("tr_labels", "tt_labels", "tr_mem")


def load_pairs(path: str | Path) -> InfluencePairs:
    """Read `tr_idx`, `tt_idx`, `infl`, `mem` (and the others of InfluencePairs); numbers are as the file has them.

    Indices count as the file does: published files do not say how, and their pairs have order None. Standard errors
    are NaN if there are none.

    Raises:
        DataError: If the file is missing, damaged, or arrays are not rows of one length.
    """
    arrays = read_npz(path, wanted=["tr_idx", "tt_idx", "infl", "mem"], optional=["standard_error", *_ALSO, ORDER])
    influence = as_row(arrays["infl"], "f", None, f"{path}: infl")
    pairs = len(influence)
    train, test = (as_indices(arrays[name], pairs, f"{path}: {name}") for name in ("tr_idx", "tt_idx"))
    arrays.setdefault("standard_error", np.full(pairs, np.nan, influence.dtype))
    memorization, error = (as_row(arrays[name], "f", pairs, f"{path}: {name}") for name in ("mem", "standard_error"))
    also = {name: as_row(arrays[name], "f", pairs, f"{path}: {name}") for name in _ALSO if name in arrays}
    return InfluencePairs(train, test, influence, memorization, error, read_order(arrays, path), **also)


def save_pairs(path: str | Path, pairs: InfluencePairs) -> None:
    """Write pairs as `tr_idx`, `tt_idx`, `infl`, `mem` (and the others of InfluencePairs where they are known).

    Raises:
        DataError: If arrays are not as in InfluencePairs, or the file cannot be written.
    """
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

    __repr__ = short_repr


def load_classwise(path: str | Path, index: str | Path | None = None) -> ClasswiseInfluence:
    """Read `tr_classidx_K`, `tt_classidx_K`, `infl_matrix_classK`, `tr_labels`, `tt_labels`, `tr_mem` (and `order`).

    Intervals, `infl_low_classK` and `infl_high_classK`, are read if they are there.

    Args:
        path: The file.
        index: `imagenet_index.npz`, which has labels and memorization where the file has only the first three.

    Raises:
        DataError: If a file is missing, damaged, or matrices do not fit their indices or labels.
    """
    arrays = read_npz(path)
    if index is not None:
        arrays = {**read_npz(index, wanted=_OF_EXAMPLES), **arrays}
    if missing := set(_OF_EXAMPLES) - set(arrays):
        raise DataError(f"{path}: has no {', '.join(sorted(missing))}, only {', '.join(sorted(arrays)[:10])}")
    train, test = (as_row(arrays[name], "iu", None, f"{path}: {name}") for name in ("tr_labels", "tt_labels"))
    matches = (re.fullmatch(r"infl_matrix_class(0|[1-9][0-9]{0,8})", name) for name in arrays)
    labels = sorted(int(match[1]) for match in matches if match)
    classes = []
    for label in labels:
        names = f"tr_classidx_{label}", f"tt_classidx_{label}", f"infl_matrix_class{label}"
        if missing := set(names) - set(arrays):
            raise DataError(f"{path}: has no {', '.join(sorted(missing))}, which belongs to {names[2]}")
        train_index, test_index, matrix = (arrays[name] for name in names)
        ends = {end: arrays.get(f"infl_{end}_class{label}") for end in ("low", "high")}
        for places, split, name in ((train_index, train, names[0]), (test_index, test, names[1])):
            as_row(places, "iu", None, f"{path}: {name}")
            if not np.array_equal(np.sort(places), np.flatnonzero(split == label)):
                raise DataError(f"{path}: {name} does not name the examples of label {label}")
        for name, one in ((names[2], matrix), *((f"infl_{end}_class{label}", ends[end]) for end in ends)):
            if one is not None and (one.shape != (len(train_index), len(test_index)) or one.dtype.kind != "f"):
                expected = f"floats {(len(train_index), len(test_index))}"
                raise DataError(f"{path}: {name} is {one.dtype} {one.shape}, expected {expected}")
        classes.append(ClassInfluence(label, train_index, test_index, matrix, **ends))
    memorization = as_row(arrays["tr_mem"], "f", len(train), f"{path}: tr_mem")
    return ClasswiseInfluence(classes, train, test, memorization, read_order(arrays, path))


def save_classwise(
    path: str | Path,
    classes: Iterable[ClassInfluence],
    labels_train: np.ndarray,
    labels_test: np.ndarray,
    memorization: np.ndarray,
    order: Order | None = "published",
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
        DataError: If the file cannot be written.
    """
    arrays: dict[str, np.ndarray | None] = {"tr_labels": labels_train, "tt_labels": labels_test, "tr_mem": memorization}
    for one in classes:
        arrays[f"tr_classidx_{one.label}"] = one.train_index
        arrays[f"tt_classidx_{one.label}"] = one.test_index
        arrays[f"infl_matrix_class{one.label}"] = one.influence  # (train, test)
        arrays[f"infl_low_class{one.label}"], arrays[f"infl_high_class{one.label}"] = one.low, one.high
    write_npz(path, arrays, order)


def load_imagenet_memorization(path: str | Path) -> np.ndarray:
    """Read the published memorization of ImageNet, `tr_mem` of `imagenet_index.npz`, float by published index.

    Names and labels of the same file are read by `heldout_torch.data.imagenet_index`.

    Raises:
        DataError: If the file is missing, damaged, or has no such row.
    """
    return as_row(read_npz(path, wanted=["tr_mem"])["tr_mem"], "f", None, f"{path}: tr_mem")


def save_imagenet_index(
    path: str | Path,
    filenames_train: list[str],
    labels_train: np.ndarray,
    memorization: np.ndarray,
    filenames_test: list[str],
    labels_test: np.ndarray,
) -> None:
    """Write an index of ImageNet in the published layout, names as bytes (never as Python objects).

    Raises:
        DataError: If the file cannot be written.
    """
    arrays = {
        "tr_filenames": np.array(filenames_train, np.bytes_),
        "tr_labels": labels_train,
        "tr_mem": memorization,
        "tt_filenames": np.array(filenames_test, np.bytes_),
        "tt_labels": labels_test,
    }
    write_npz(path, arrays, "published")
