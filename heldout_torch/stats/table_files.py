"""A run table as a folder: `table.json`, and an npy file for each packed array."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from heldout_torch.errors import DataError, ZooError, one_line, os_errors
from heldout_torch.stats.counting.packing import ARRAYS, check_packed
from heldout_torch.storage.files import new_folder, read_bounded, remove_stale, write_plainly
from heldout_torch.storage.kinds import check_folder
from heldout_torch.storage.npz import map_npy, write_npy
from heldout_torch.storage.paths import check_folder_name

FORMAT_VERSION = 1
RECORD = "table.json"
_NAMED = 3  # folders in an error
MAX_KEYS = 2**26  # bytes of a record that names runs: 200,000 have some 5 million


def load_table(folder: Path) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Open a saved table.

    Returns:
        Names of the runs, and packed arrays, mapped from disk, by the names in ARRAYS.

    Raises:
        DataError: If the folder holds no table, or its files do not fit each other.
    """
    check_folder(folder, "the folder of a run table, as `RunTable.save` writes it")
    try:
        record = json.loads(read_bounded(folder / RECORD, MAX_KEYS))
        arrays = {name: map_npy(folder / f"{name}.npy") for name in ARRAYS}
        version, keys = record["format_version"], tuple(map(str, record["keys"]))
        n, m = int(record["train_examples"]), int(record["test_examples"])
    except FileNotFoundError as error:
        there = folders_with(RECORD, folder)
        hint = f"there are run tables{there}" if there else "RunTable.from_zoo makes one of the runs of a zoo"
        raise DataError(f"{folder}: holds no run table, for it has no {Path(error.filename).name}; {hint}") from None
    except OSError as error:
        raise DataError(f"{error.filename or folder}: cannot be read as a run table ({error.strerror})") from None
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise DataError(f"{folder}: is not a run table ({one_line(error)}); build it again") from None
    if version != FORMAT_VERSION:
        raise DataError(f"{folder}: has format version {version!r}, this package reads {FORMAT_VERSION}")
    check_packed(len(keys), arrays, str(folder))
    if (n, m) != (len(arrays["trained_on"]), len(arrays["correct_test"])):
        raise DataError(f"{folder}: its arrays are not about the {n} and {m} examples of its record; build it again")
    return keys, arrays


def folders_with(record: str, folder: Path) -> str:
    """Return ` in ONE, OTHER or 2 more` for folders below one that hold a record, such as those of a zoo, or nothing.

    Args:
        record: Name of the file.
        folder: What a user gave; folders down to three levels below it are looked at.
    """
    found = sorted(str(path.parent) for depth in ("*", "*/*", "*/*/*") for path in folder.glob(f"{depth}/{record}"))
    named = found[:_NAMED] + ([f"{len(found) - _NAMED} more"] if len(found) > _NAMED else [])
    return f" in {' or '.join(filter(None, [', '.join(named[:-1]), named[-1]]))}" if found else ""


def read_source(folder: Path) -> str | None:
    """Return the digest of what a saved table was made of; None if it has none, or is not a table."""
    try:
        return str(json.loads(read_bounded(folder / RECORD, MAX_KEYS))["source"])
    except (OSError, ZooError, KeyError, TypeError, ValueError, RecursionError):
        return None


def save_table(folder: Path, keys: tuple[str, ...], arrays: dict[str, np.ndarray], source: str | None) -> None:
    """Write a table; the folder appears at once, and replaces a table that lies there.

    Args:
        folder: Where to.
        keys: Names of the runs.
        arrays: Packed arrays by the names in ARRAYS.
        source: Digest of what the table was made of, which `read_source` returns; None if it is not known.

    Raises:
        DataError: If something other than a run table lies there, the folder has the name of a file, or cannot be
            written.
    """
    if folder.exists() and not (folder / RECORD).is_file():
        raise DataError(f"{folder}: exists and is not a run table, so it is not replaced; choose another path")
    check_folder_name(folder)
    record: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "keys": keys,
        "train_examples": len(arrays["trained_on"]),
        "test_examples": len(arrays["correct_test"]),
    }
    remove_stale(folder.parent)
    if source is not None:
        record["source"] = source
    with os_errors(DataError, f"{folder}: cannot be written"), new_folder(folder, overwrite=True) as temporary:
        for name, words in arrays.items():
            write_npy(temporary / f"{name}.npy", words)
        write_plainly(temporary / RECORD, json.dumps(record).encode())
