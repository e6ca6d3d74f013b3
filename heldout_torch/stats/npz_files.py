"""Reading and writing npz files: checked, atomic, and never unpickled."""

import io
import zipfile
from pathlib import Path

import numpy as np

from heldout_torch.errors import DataError


def read_npz(path: str | Path, required: set[str], optional: set[str] | None) -> dict[str, np.ndarray]:
    """Read the arrays named, or all if `optional` is None; never unpickling.

    Raises:
        DataError: If the file is missing or damaged, or a required array is not there.
    """
    try:
        with np.load(path, allow_pickle=False) as npz:
            if missing := required - set(npz.files):
                raise DataError(f"{path}: has no {', '.join(sorted(missing))}, only {', '.join(npz.files[:10])}")
            wanted = set(npz.files) if optional is None else required | optional
            return {name: npz[name] for name in npz.files if name in wanted}
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: is no readable npz file ({' '.join(str(error).split())})") from None


def read_npy(path: Path) -> np.ndarray:
    """Read a bare npy array, never unpickling.

    Raises:
        DataError: If the file is missing or damaged.
    """
    try:
        return np.asarray(np.lib.format.read_array(io.BytesIO(path.read_bytes()), allow_pickle=False))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, EOFError) as error:
        raise DataError(f"{path}: is no readable npy file ({' '.join(str(error).split())})") from None


def as_row(array: np.ndarray, kinds: str, length: int | None, name: str) -> np.ndarray:
    """Give an array back if it is a row of a kind (NumPy's letters) and length.

    Raises:
        DataError: If it is not; `name` is what the error calls it.
    """
    if array.ndim != 1 or array.dtype.kind not in kinds or length not in (None, len(array)):
        kind = {"f": "floats", "iu": "integers", "SU": "text"}[kinds]
        expected = "" if length is None else f" of length {length}"
        raise DataError(f"{name} is {array.dtype} {array.shape}, expected a row of {kind}{expected}")
    return array


def write_npz(path: str | Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays atomically, uncompressed; the same arrays give the same bytes."""
    from heldout_torch.storage.files import write_atomically

    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_atomically(Path(path), buffer.getvalue())
