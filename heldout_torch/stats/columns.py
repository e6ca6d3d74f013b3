"""Tables of results as files that other tools read, CSV and Parquet."""

import csv
import io
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from heldout_torch.errors import DataError, one_line
from heldout_torch.optional import require
from heldout_torch.storage.files import check_new_file, remove_stale, write_atomically
from heldout_torch.storage.kinds import kind_of
from heldout_torch.storage.paths import Location, local_path

_MAX_BYTES = 10**9  # of a table that is read
_MAX_ROWS = 2**25  # of it: 26 times ImageNet's; a few bytes of a Parquet file can declare any number
_MAX_LINE = 2**16  # letters of a line of CSV
_PIECE = 2**16  # rows of a Parquet file held at once
SUFFIXES = (".npz", ".csv", ".parquet")

# Rows of one length by the name of their column.
Columns = Mapping[str, np.ndarray]


def check_file(path: Location, suffixes: Sequence[str] = SUFFIXES) -> Path:
    """Return the path of a file that is to be written after long work, checked before it.

    Raises:
        HeldoutError: If it is a URL, its suffix is none of those, it is a folder or a device, its folder cannot be
            written, or the package that writes it is not installed.
    """
    file = local_path(path)
    if file.suffix not in suffixes:
        raise DataError(f"{file}: the name of the file says its format, expected one ending in {', '.join(suffixes)}")
    check_new_file(file)
    if file.suffix == ".parquet":
        _arrow("pyarrow")
    return file


def write_columns(path: Path, columns: Columns) -> None:
    """Write columns as CSV or Parquet, by the suffix; what is missing (NaN) is an empty field, or null.

    Raises:
        DataError: If the suffix is another one, or the file cannot be written.
        HeldoutError: If pyarrow is needed and not installed.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise DataError(f"{path}: expected a name ending in .csv or .parquet")
    remove_stale(path.parent)
    data = _as_csv(columns) if path.suffix == ".csv" else _as_parquet(columns)
    try:
        write_atomically(path, data)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from None


def read_columns(
    path: Path, names: Iterable[str], same: Iterable[str] = ()
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read those of some columns that a CSV or Parquet file has.

    Args:
        path: The file.
        names: Columns of integers.
        same: Columns that say the same in every row, such as the name of a data set.

    Returns:
        By name the columns of integers, each int64 of shape (rows,), and what those of the second kind say, at most 80
        letters of it.

    Raises:
        DataError: If the file is missing, damaged, or larger than 1 GB or 33 million rows, a column of integers holds
            something else, or one that is to say the same does not.
        HeldoutError: If pyarrow is needed and not installed.
    """
    try:
        if path.is_dir():
            raise DataError(f"{path}: is a folder, expected a table of indices")
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(f"{path}: is larger than {_MAX_BYTES} bytes, too large for a table of indices")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    said: dict[str, str] = {}
    try:
        columns = (_from_csv if path.suffix == ".csv" else _from_parquet)(path, set(names), set(same), said)
        return {name: np.frombuffer(values or b"", np.int64) for name, values in columns.items()}, said
    except (ValueError, TypeError, OverflowError, OSError, NotImplementedError, csv.Error) as error:
        why = f"it is {kind_of(path)}" if isinstance(error, UnicodeDecodeError) else one_line(error)
        raise DataError(f"{path}: is no table of indices ({why})") from None


def _as_csv(columns: Columns) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*map(_texts, columns.values()), strict=True))
    return text.getvalue().encode()


def _from_csv(path: Path, names: set[str], same: set[str], said: dict[str, str]) -> dict[str, "array[int]"]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(_lines(file))
        header = next(rows, [])
        columns = {place: array("q") for place, name in enumerate(header) if name in names}
        alike = [(place, name) for place, name in enumerate(header) if name in same]
        for count, row in enumerate(filter(None, rows), 1):
            if len(row) != len(header):
                raise ValueError(f"a row of {len(row)} fields, expected {len(header)}")
            _check_rows(count)
            for place, column in columns.items():
                column.append(int(row[place]))
            for place, name in alike:
                _hear(said, name, row[place])
    return {header[place]: column for place, column in columns.items()}


def _hear(said: dict[str, str], name: str, value: object) -> None:
    """Keep what a row says in a column whose rows all say the same."""
    text = str(value)[:80]
    if said.setdefault(name, text) != text:
        raise ValueError(f"column {name} says {said[name]} and {text}, expected the same in all rows")


def _lines(file: TextIO) -> Iterator[str]:
    while line := file.readline(_MAX_LINE):
        if len(line) == _MAX_LINE:
            raise ValueError(f"a line of {_MAX_LINE} letters or more")
        yield line


def _from_parquet(path: Path, names: set[str], same: set[str], said: dict[str, str]) -> dict[str, "array[int]"]:
    arrow, parquet = _arrow("pyarrow"), _arrow("pyarrow.parquet")
    with parquet.ParquetFile(path) as file:
        _check_rows(file.metadata.num_rows)
        columns = {name: array("q") for name in file.schema_arrow.names if name in names}
        alike = [name for name in file.schema_arrow.names if name in same]
        for piece in file.iter_batches(_PIECE, columns=[*columns, *alike]):
            for name, column in columns.items():
                values = piece.column(name)
                if not arrow.types.is_integer(values.type) or values.null_count:
                    raise ValueError(f"column {name} holds other than integers")
                column.frombytes(values.cast(arrow.int64()).to_numpy().tobytes())
                _check_rows(len(column))
            for name in alike:
                for value in piece.column(name).unique():
                    _hear(said, name, value)
    return columns


def _check_rows(count: int) -> None:
    if count > _MAX_ROWS:
        raise ValueError(f"it has more than {_MAX_ROWS} rows")


def _texts(values: np.ndarray) -> list[str]:
    texts = values.astype(str)  # the shortest decimals that give the numbers back
    if values.dtype.kind == "f":
        texts[np.isnan(values)] = ""
    return texts.tolist()


def _as_parquet(columns: Columns) -> bytes:
    arrow, parquet = _arrow("pyarrow"), _arrow("pyarrow.parquet")
    buffer = io.BytesIO()
    arrays = {name: arrow.array(values, from_pandas=True) for name, values in columns.items()}
    parquet.write_table(arrow.table(arrays), buffer)
    return buffer.getvalue()


def _arrow(module: str) -> Any:
    return require(module, "a .parquet file", "or take .csv or .npz")
