"""Published influence: high-influence pairs, class-wise matrices, and ImageNet's index with memorization.

Mind the transpose: class-wise matrices are train x test, everything else here is test x train. The array
`standard_error`, which published files do not have, is written where it is known; other readers pass over it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from heldout_torch.errors import DataError
from heldout_torch.stats.npz_files import as_row, read_npz, write_npz
from heldout_torch.stats.pairs import ClassInfluence, InfluencePairs


def load_pairs(path: str | Path) -> InfluencePairs:
    """Read `tr_idx`, `tt_idx`, `infl`, `mem`; indices count as the file does, standard errors are NaN if not there.

    Raises:
        DataError: If the file is missing, damaged, or arrays are not rows of one length.
    """
    arrays = read_npz(path, {"tr_idx", "tt_idx", "infl", "mem"}, {"standard_error"})
    pairs = len(arrays["infl"])
    train, test = (
        as_row(arrays[name], "iu", pairs, f"{path}: {name}").astype(np.int64) for name in ("tr_idx", "tt_idx")
    )
    arrays.setdefault("standard_error", np.full(pairs, np.nan))
    floats = (
        as_row(arrays[name], "f", pairs, f"{path}: {name}").astype(np.float32)
        for name in ("infl", "mem", "standard_error")
    )
    return InfluencePairs(train, test, *floats)


def save_pairs(path: str | Path, pairs: InfluencePairs) -> None:
    """Write pairs as `tr_idx`, `tt_idx`, `infl`, `mem` (and `standard_error`)."""
    arrays = {
        "tr_idx": pairs.train_index,
        "tt_idx": pairs.test_index,
        "infl": pairs.influence,
        "mem": pairs.memorization,
        "standard_error": pairs.standard_error,
    }
    write_npz(path, arrays)


@dataclass(frozen=True, eq=False)
class ClasswiseInfluence:
    """Class-wise influence matrices of a data set, as one published file holds them.

    Attributes:
        classes: One matrix for each class, in order of label.
        labels_train: Integers of shape (n,).
        labels_test: Integers of shape (m,).
        memorization: Float of shape (n,).
    """

    classes: list[ClassInfluence]
    labels_train: np.ndarray
    labels_test: np.ndarray
    memorization: np.ndarray


def load_classwise(path: str | Path) -> ClasswiseInfluence:
    """Read `tr_classidx_K`, `tt_classidx_K`, `infl_matrix_classK`, `tr_labels`, `tt_labels`, `tr_mem`.

    Raises:
        DataError: If the file is missing, damaged, or matrices do not fit their indices or labels.
    """
    arrays = read_npz(path, {"tr_labels", "tt_labels", "tr_mem"}, None)
    train, test = (as_row(arrays[name], "iu", None, f"{path}: {name}") for name in ("tr_labels", "tt_labels"))
    prefix = "infl_matrix_class"
    labels = sorted(
        int(name[len(prefix) :]) for name in arrays if name.startswith(prefix) and name[len(prefix) :].isdigit()
    )
    classes = []
    for label in labels:
        names = f"tr_classidx_{label}", f"tt_classidx_{label}", f"{prefix}{label}"
        if missing := set(names) - set(arrays):
            raise DataError(f"{path}: has no {', '.join(sorted(missing))}, which belongs to {names[2]}")
        train_index, test_index, matrix = (arrays[name] for name in names)
        for index, split, name in ((train_index, train, names[0]), (test_index, test, names[1])):
            if not np.array_equal(np.sort(index), np.flatnonzero(split == label)):
                raise DataError(f"{path}: {name} does not name the examples of label {label}")
        if matrix.shape != (len(train_index), len(test_index)):
            raise DataError(f"{path}: {names[2]} is {matrix.shape}, expected {len(train_index), len(test_index)}")
        classes.append(ClassInfluence(label, train_index, test_index, matrix))
    return ClasswiseInfluence(classes, train, test, as_row(arrays["tr_mem"], "f", len(train), f"{path}: tr_mem"))


def save_classwise(
    path: str | Path,
    classes: Iterable[ClassInfluence],
    labels_train: np.ndarray,
    labels_test: np.ndarray,
    memorization: np.ndarray,
) -> None:
    """Write class-wise matrices, which may come one at a time, in the published layout."""
    arrays = {"tr_labels": labels_train, "tt_labels": labels_test, "tr_mem": memorization}
    for one in classes:
        arrays[f"tr_classidx_{one.label}"] = one.train_index
        arrays[f"tt_classidx_{one.label}"] = one.test_index
        arrays[f"infl_matrix_class{one.label}"] = one.influence  # (train, test)
    write_npz(path, arrays)


def load_imagenet_memorization(path: str | Path) -> np.ndarray:
    """Read the published memorization of ImageNet, `tr_mem` of `imagenet_index.npz`, float by published index.

    Names and labels of the same file are read by `heldout_torch.data.imagenet_index`.

    Raises:
        DataError: If the file is missing, damaged, or has no such row.
    """
    return as_row(read_npz(path, {"tr_mem"}, set())["tr_mem"], "f", None, f"{path}: tr_mem")


def save_imagenet_index(
    path: str | Path,
    filenames_train: list[str],
    labels_train: np.ndarray,
    memorization: np.ndarray,
    filenames_test: list[str],
    labels_test: np.ndarray,
) -> None:
    """Write an index of ImageNet in the published layout, names as bytes (never as Python objects)."""
    arrays = {
        "tr_filenames": np.array(filenames_train, np.bytes_),
        "tr_labels": labels_train,
        "tr_mem": memorization,
        "tt_filenames": np.array(filenames_test, np.bytes_),
        "tt_labels": labels_test,
    }
    write_npz(path, arrays)
