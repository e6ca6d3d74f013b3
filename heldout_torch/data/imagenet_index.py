"""`imagenet_index.npz`: the published index of every ImageNet file, by base name."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from heldout_torch.data.checks import SPLITS, SplitName, check_labels
from heldout_torch.data.literals import read_file_names
from heldout_torch.errors import DataError
from heldout_torch.storage.npz import read_npz
from heldout_torch.storage.paths import Location, local_path

NUM_CLASSES = 1000
_PREFIXES = {"train": "tr", "test": "tt"}


@dataclass(frozen=True, eq=False)
class IndexedFiles:
    """Files and labels of one split, by published index.

    Attributes:
        names: Base names such as `n01440764_10026.JPEG`.
        labels: int64 of shape (n,), 0 ... 999.
    """

    names: list[str]
    labels: np.ndarray

    def __repr__(self) -> str:
        return f"<IndexedFiles: {len(self.names):,} names and labels>"


def read_imagenet_index(path: Location) -> dict[SplitName, IndexedFiles]:
    """Read the published file's `tr_filenames`, `tr_labels`, `tt_filenames`, `tt_labels`, for `train` and `test`.

    File names may be an array of Python objects, whose pickle is read as plain values; nothing is ever unpickled.

    Raises:
        DataError: If the file is missing, damaged, or not such an index.
    """
    where = str(local_path(path))
    wanted = [f"{prefix}_{part}" for prefix in _PREFIXES.values() for part in ("filenames", "labels")]
    arrays = read_npz(where, wanted=wanted, objects=partial(read_file_names, name=where))
    return {split: _files(arrays, split, where) for split in SPLITS}


def _files(arrays: dict[str, np.ndarray], split: SplitName, where: str) -> IndexedFiles:
    prefix = _PREFIXES[split]
    names, labels = arrays[f"{prefix}_filenames"], arrays[f"{prefix}_labels"]
    if names.dtype.kind not in "SU" or names.ndim != 1:
        raise DataError(f"{where}: {prefix}_filenames is {names.dtype} {names.shape}, expected a row of names of files")
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise DataError(f"{where}: {prefix}_labels is {labels.dtype} {labels.shape}, expected a row of integers")
    texts = [name.decode("latin-1") if isinstance(name, bytes) else name for name in names.tolist()]
    base_names = [text.rsplit("/", 1)[-1] for text in texts]
    if len(base_names) != len(labels):
        raise DataError(f"{where}: has {len(base_names)} names for {split}, but {len(labels)} labels")
    if len(set(base_names)) != len(base_names):
        raise DataError(f"{where}: names a file of {split} twice")
    check_labels(labels, NUM_CLASSES, f"{where}: labels of {split}")
    return IndexedFiles(base_names, labels.astype(np.int64))
