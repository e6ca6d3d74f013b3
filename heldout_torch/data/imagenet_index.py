"""`imagenet_index.npz`: the published index of every ImageNet file, by base name."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from heldout_torch.data.literals import as_bytes, read_literals
from heldout_torch.data.originals import check_labels
from heldout_torch.errors import DataError

NUM_CLASSES = 1000


@dataclass(frozen=True)
class IndexedFiles:
    """Files and labels of one split, by published index.

    Attributes:
        names: Base names such as `n01440764_10026.JPEG`.
        labels: int64 of shape (n,), 0 ... 999.
    """

    names: list[str]
    labels: np.ndarray


def read_imagenet_index(path: Path) -> dict[str, IndexedFiles]:
    """Read the published file's `tr_filenames`, `tr_labels`, `tt_filenames`, `tt_labels`, for `train` and `test`.

    File names may be an array of Python objects, whose pickle is read as plain values; nothing is ever unpickled.

    Raises:
        DataError: If the file is missing, damaged, or not such an index.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            index = {
                split: IndexedFiles(
                    _read_names(archive, f"{prefix}_filenames", path), _read_labels(archive, f"{prefix}_labels", path)
                )
                for split, prefix in (("train", "tr"), ("test", "tt"))
            }
    except KeyError as error:
        raise DataError(f"{path}: is no index of ImageNet ({error.args[0]})") from None
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
    for split, files in index.items():
        if len(files.names) != len(files.labels):
            raise DataError(f"{path}: has {len(files.names)} names for {split}, but {len(files.labels)} labels")
        if len(set(files.names)) != len(files.names):
            raise DataError(f"{path}: names a file of {split} twice")
        check_labels(files.labels, NUM_CLASSES, f"{path}: labels of {split}")
    return index


def _read_names(archive: zipfile.ZipFile, member: str, path: Path) -> list[str]:
    with archive.open(f"{member}.npy") as file:
        shape, dtype = _read_header(file)
        if dtype.hasobject:
            texts = [as_bytes(value) for value in read_literals(file.read(), f"{path}: {member}")]
            # The pickle also holds names of NumPy's own; only files end so.
            names = [text for text in texts if text is not None and text.upper().endswith(b".JPEG")]
            if shape != (len(names),):
                raise DataError(f"{path}: {member} holds {len(names)} names that end in .JPEG, expected {shape[0]}")
        elif dtype.kind in "SU":
            names = np.frombuffer(file.read(), dtype).reshape(shape).astype(bytes).tolist()
        else:
            raise DataError(f"{path}: {member} is {dtype}, expected names of files")
    return [name.decode("latin-1").rsplit("/", 1)[-1] for name in names]


def _read_labels(archive: zipfile.ZipFile, member: str, path: Path) -> np.ndarray:
    with archive.open(f"{member}.npy") as file:
        shape, dtype = _read_header(file)
        if dtype.kind not in "iu" or len(shape) != 1:
            raise DataError(f"{path}: {member} is {dtype} {shape}, expected a row of integers")
        return np.frombuffer(file.read(), dtype).astype(np.int64)  # (n,)


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype
