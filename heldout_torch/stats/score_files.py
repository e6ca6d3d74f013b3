"""Scores of training examples, such as C-scores, read and written as published files hold them."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from heldout_torch.data.literals import read_file_names
from heldout_torch.errors import DataError, counted
from heldout_torch.stats.arguments import hold_arrays
from heldout_torch.stats.columns import SUFFIXES
from heldout_torch.stats.npz_files import ORDER, as_names, as_row, check_contents, read_order, write_npz
from heldout_torch.stats.orders import Order, check_order
from heldout_torch.stats.result_tables import read_score_table
from heldout_torch.storage.notebook import as_table, data_frame
from heldout_torch.storage.npz import read_npy, read_npz
from heldout_torch.storage.paths import Location, local_path

_KINDS = {"labels": "iu", "standard_error": "f", "low": "f", "high": "f"}


@dataclass(frozen=True, eq=False, repr=False)
class Scores:
    """Scores of training examples, as one published file holds them.

    Attributes:
        scores: float of shape (n,).
        labels: Integers of shape (n,); None if the file has none.
        filenames: Text of shape (n,), for ImageNet; None if the file has none.
        standard_error: Of the scores, float of shape (n,); None if the file has none.
        low: Lower ends of intervals that cover the truth 95 times in 100, float of shape (n,), and
        high: their upper ends; None if the file has none.
        order: How the examples count, by published index or as the data set's original files do; None if the file
            does not say, as published ones do not. `save_scores` must know it.
    """

    scores: np.ndarray
    labels: np.ndarray | None = None
    filenames: np.ndarray | None = None
    standard_error: np.ndarray | None = None
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    order: Order | None = None

    def __post_init__(self) -> None:
        hold_arrays(self, vars(self).keys() - {"order"})
        if self.order is not None:
            check_order(self.order, "order")

    def __len__(self) -> int:
        return len(self.scores)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the scores, so that `np.argsort(scores)` sorts them; without it, NumPy would see one object."""
        return np.array(self.scores, dtype) if copy else np.asarray(self.scores, dtype)

    def __repr__(self) -> str:
        also = [
            name for name in ("labels", "filenames", "standard_error", "low", "high") if getattr(self, name) is not None
        ]
        return f"Scores({counted(len(self.scores), 'example')}, order {self.order}; {', '.join(also) or 'scores only'})"

    def _repr_html_(self) -> str:
        return as_table(repr(self), self.columns())

    def columns(self) -> dict[str, np.ndarray]:
        """Return a column for each array, and one of the examples' indices, named by their order."""
        arrays = {"filename": self.filenames, "label": self.labels, "score": self.scores}
        arrays |= {name: getattr(self, name) for name in ("standard_error", "low", "high")}
        index = {"index" if self.order is None else f"{self.order}_index": np.arange(len(self.scores))}
        return index | {name: array for name, array in arrays.items() if array is not None}

    def by_filename(self) -> dict[str, float]:
        """Return the score of each file by its base name, such as `n01440764_10026.JPEG`.

        Raises:
            DataError: If there are no names of files, or one is there twice.
        """
        return dict(zip(self.base_names(), self.scores.tolist(), strict=True))

    def base_names(self, what: str = "scores") -> list[str]:
        """Return the names of the files without their folders.

        Raises:
            DataError: If there are none, or one is there twice; `what` is what the error calls them.
        """
        if self.filenames is None:
            raise DataError(f"{what}: has no file names; examples are identified by their index")
        names = [name.rsplit("/", 1)[-1] for name in self.filenames.tolist()]
        if len(set(names)) != len(names):
            raise DataError(f"{what}: names a file twice")
        return names

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame` of the columns.

        Raises:
            HeldoutError: If pandas is not installed.
        """
        return data_frame(self.columns())


def values_of(scores: np.ndarray | Scores) -> np.ndarray:
    """Return the values of scores that are given as an array or as `Scores`."""
    return scores.scores if isinstance(scores, Scores) else scores


def load_scores(path: Location) -> Scores:
    """Read `scores` (and `labels`, `filenames`, `standard_error`, `order` if there) of an npz file, or an npy array.

    CSV and Parquet files, as `write_scores` makes them, are read in original order if they have original indices.
    Names of files may be an array of Python objects, as in the published file of ImageNet; they are not unpickled.

    A published file is loaded by its name with `load_published`.

    Raises:
        DataError: If the file is missing, damaged, or arrays are not as in `Scores`.
    """
    path = local_path(path)
    if path.suffix.lower() == ".npy":
        return Scores(as_row(read_npy(path), "f", None, f"{path}"))
    if path.suffix.lower() in SUFFIXES[1:]:
        arrays = read_score_table(path)
    else:
        check_contents(path, "scores")
        optional, objects = [*_KINDS, "filenames", ORDER], partial(read_file_names, name=str(path))
        arrays = read_npz(path, wanted=["scores"], optional=optional, objects=objects)
    scores = as_row(arrays["scores"], "f", None, f"{path}: scores")
    others = {
        name: as_row(arrays[name], kind, len(scores), f"{path}: {name}")
        for name, kind in _KINDS.items()
        if name in arrays
    }
    if "filenames" in arrays:
        others["filenames"] = as_names(arrays["filenames"], len(scores), f"{path}: filenames")
    return Scores(scores, **others, order=read_order(arrays, path))


def save_scores(path: Location, scores: Scores) -> None:
    """Write scores and their order as an npz file.

    Raises:
        DataError: If arrays are not as in Scores, they do not say their order, or the file cannot be written.
    """
    if not isinstance(scores, Scores):
        raise DataError(
            f"{path}: given {type(scores).__name__}, expected Scores, such as Scores(values, order='published')"
        )
    rows = {"scores": as_row(scores.scores, "f", None, f"{path}: scores")}
    for name, kind in {**_KINDS, "filenames": "SU"}.items():
        if (row := getattr(scores, name)) is not None:
            rows[name] = as_row(row, kind, len(scores.scores), f"{path}: {name}")
    if "filenames" in rows:
        rows["filenames"] = as_names(rows["filenames"], len(scores.scores), f"{path}: filenames")
    write_npz(path, rows, scores.order)
