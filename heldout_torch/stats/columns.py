"""Tables of results as files that other tools read, CSV and Parquet."""

import csv
import io
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np

from heldout_torch.errors import DataError, one_line, os_errors
from heldout_torch.optional import require
from heldout_torch.stats.arguments import as_array
from heldout_torch.storage.files import check_new_file, remove_stale, write_atomically
from heldout_torch.storage.kinds import kind_of
from heldout_torch.storage.paths import Location, local_path

_MAX_BYTES = 10**9  # of a table that is read
_MAX_ROWS = 2**25  # of it: 26 times ImageNet's; a few bytes of a Parquet file can declare any number
_MAX_LINE = 2**16  # letters of a line of CSV
_PIECE = 2**16  # rows of a Parquet file held at once
_MAX_TEXTS = 2**21  # of its rows, where texts are read
_MAX_TEXT = 120  # letters of one
SUFFIXES = (".npz", ".csv", ".parquet")

Kind = Literal["i", "f", "d", "U"]  # of a column that is read: integers, floats, float64, text
_KIND_NAMES = {"i": "integers", "f": "floats", "d": "floats", "U": "text"}
_CODES = {"i": "q", "f": "d", "d": "d"}

# Rows of one length by the name of their column.
Columns = Mapping[str, np.ndarray]


def check_file(path: Location, suffixes: Sequence[str] = SUFFIXES) -> Path:
    """Check, before long work, that a file can be written after it, and return its path.

    Raises:
        HeldoutError: If it is a URL, its suffix is none of those, it is a folder or a device, its folder cannot be
            written, or the package that writes it is not installed.
    """
    file = local_path(path)
    if file.suffix.lower() not in suffixes:
        raise DataError(f"{file}: the file name must end in {'one of ' * (len(suffixes) > 1)}{', '.join(suffixes)}")
    check_new_file(file)
    if file.suffix.lower() == ".parquet":
        _arrow("pyarrow")
    return file


def write_columns(path: Path, columns: Columns) -> None:
    """Write columns as CSV or Parquet, by the suffix; what is missing (NaN) is an empty field, or null.

    Raises:
        DataError: If the suffix is another one, columns are not rows of one length, or the file cannot be written.
        HeldoutError: If pyarrow is needed and not installed.
    """
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise DataError(f"{path}: expected a name ending in .csv or .parquet")
    columns = _as_rows(columns, path)
    remove_stale(path.parent)
    data = _as_csv(columns) if path.suffix.lower() == ".csv" else _as_parquet(columns)
    with os_errors(DataError, f"{path}: cannot be written"):
        write_atomically(path, data)


def read_columns(
    path: Path, kinds: Mapping[str, Kind], constant: Iterable[str] = ()
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read those of some columns that a CSV or Parquet file has.

    Args:
        path: The file.
        kinds: By name, what a column holds: `i` integers, `f` floats, `d` float64, `U` text of at most 120 letters.
        constant: Columns of one value, the same in every row, such as the name of a data set.

    Returns:
        By name, the columns that are there, of shape (rows,): integers as int64, text, and floats, NaN where a field is
        empty. Floats are of the type that Parquet has; in CSV they are float32 if their decimals are those of float32
        numbers, else float64. And by name, the values of the constant columns, at most 80 letters each.

    Raises:
        DataError: If the file is missing, damaged, or larger than 1 GB or 33 million rows (2 million with text), a
            column holds something else, or a constant one has two values.
        HeldoutError: If pyarrow is needed and not installed.
    """
    with os_errors(DataError, f"{path}: cannot be read"):
        if path.is_dir():
            raise DataError(f"{path}: is a folder, expected a table")
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(f"{path}: is larger than {_MAX_BYTES} bytes, too large for a table")
    read = _from_csv if path.suffix.lower() == ".csv" else _from_parquet
    constants: dict[str, str] = {}
    try:
        return read(path, kinds, set(constant), constants), constants
    except (ValueError, TypeError, OverflowError, KeyError, OSError, NotImplementedError, csv.Error) as error:
        why = f"it is {kind_of(path)}" if isinstance(error, UnicodeDecodeError) else one_line(error)
        raise DataError(f"{path}: cannot be read as a table ({why})") from None


def _as_rows(columns: Columns, path: Path) -> Columns:
    """Return columns in the machine's byte order, after checking that all are rows as long as the first one."""
    rows = {name: as_array(values, f"{path}: {name}") for name, values in columns.items()}
    length = next(iter(rows.values())).size
    for name, row in rows.items():
        if row.shape != (length,):
            raise DataError(f"{path}: {name} is {row.dtype} {row.shape}, expected a row of length {length}")
    return {name: row.astype(row.dtype.newbyteorder("="), copy=False) for name, row in rows.items()}


def _as_csv(columns: Columns) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*map(_texts, columns.values()), strict=True))
    return text.getvalue().encode()


def _from_csv(
    path: Path, kinds: Mapping[str, Kind], constant: set[str], constants: dict[str, str]
) -> dict[str, np.ndarray]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(_lines(file))
        header = next(rows, [])
        of = {place: kinds[name] for place, name in enumerate(header) if name in kinds}
        columns: dict[int, Any] = {place: [] if kind == "U" else array(_CODES[kind]) for place, kind in of.items()}
        fixed = [(place, name) for place, name in enumerate(header) if name in constant]
        for count, row in enumerate(filter(None, rows), 1):
            if len(row) != len(header):
                raise ValueError(f"a row of {len(row)} fields, expected {len(header)}")
            _check_rows(count, of.values())
            for place, column in columns.items():
                column.append(_PARSERS[of[place]](row[place]))
            for place, name in fixed:
                _keep_constant(constants, name, row[place])
    return {header[place]: _as_array(column, of[place]) for place, column in columns.items()}


def _as_array(column: Any, kind: Kind) -> np.ndarray:
    if kind == "U":
        return np.array(column, np.str_)
    values = np.frombuffer(column or b"", np.int64 if kind == "i" else np.float64)
    if kind != "f":
        return values
    with np.errstate(over="ignore"):
        short = values.astype(np.float32)
    same = np.array_equal(short.astype(str).astype(np.float64), values, equal_nan=True)
    return short if same else values


def _float(text: str) -> float:
    return float(text or "nan")


def _text(text: str) -> str:
    if len(text) > _MAX_TEXT:
        raise ValueError(f"a text of {len(text)} letters, expected at most {_MAX_TEXT}")
    return text


_PARSERS: dict[Kind, Callable[[str], Any]] = {"i": int, "f": _float, "d": _float, "U": _text}


def _keep_constant(constants: dict[str, str], name: str, value: object) -> None:
    text = str(value)[:80]
    if constants.setdefault(name, text) != text:
        raise ValueError(f"column {name} says {constants[name]} and {text}, expected the same in all rows")


def _lines(file: TextIO) -> Iterator[str]:
    while line := file.readline(_MAX_LINE):
        if len(line) == _MAX_LINE:
            raise ValueError(f"a line of {_MAX_LINE} letters or more")
        yield line


def _from_parquet(
    path: Path, kinds: Mapping[str, Kind], constant: set[str], constants: dict[str, str]
) -> dict[str, np.ndarray]:
    arrow, parquet = _arrow("pyarrow"), _arrow("pyarrow.parquet")
    # A text is held once, however often it is repeated.
    texts = [name for name in parquet.read_schema(path).names if kinds.get(name) == "U"]
    with parquet.ParquetFile(path, read_dictionary=texts) as file:
        schema = file.schema_arrow
        pieces: dict[str, list[np.ndarray]] = {name: [] for name in schema.names if name in kinds}
        _check_rows(file.metadata.num_rows, (kinds[name] for name in pieces))
        fixed = [name for name in schema.names if name in constant]
        for name in pieces:
            if not _holds(arrow.types, schema.field(name).type, kinds[name]):
                raise ValueError(f"column {name} holds other than {_KIND_NAMES[kinds[name]]}")
        rows = 0
        for piece in file.iter_batches(_PIECE, columns=[*pieces, *fixed]):
            rows += len(piece)
            _check_rows(rows, (kinds[name] for name in pieces))
            for name, found in pieces.items():
                found.append(_of_piece(piece.column(name), name, kinds[name]))
            for name in fixed:
                for value in piece.column(name).unique():
                    _keep_constant(constants, name, value)
        empty = {name: schema.empty_table().column(name).combine_chunks() for name in pieces}
    return {
        name: np.concatenate(found) if found else _of_piece(empty[name], name, kinds[name])
        for name, found in pieces.items()
    }


def _holds(types: Any, kind: Any, expected: Kind) -> bool:
    if expected == "U":
        return bool(types.is_dictionary(kind) and types.is_string(kind.value_type))
    return bool(types.is_integer(kind) if expected == "i" else types.is_floating(kind))


def _of_piece(values: Any, name: str, kind: Kind) -> np.ndarray:
    """Return a column of a piece of a Parquet file as an array."""
    if kind in "iU" and values.null_count:
        raise ValueError(f"column {name} holds other than {_KIND_NAMES[kind]}")
    if kind == "U":
        texts, places = list(map(_text, values.dictionary.to_pylist())), values.indices.to_numpy()
        if len(places) and not 0 <= places.min() <= places.max() < len(texts):
            raise ValueError(f"column {name} names texts that are not there")
        return np.array(texts, np.str_)[places]
    found = values.to_numpy(zero_copy_only=False)
    if kind == "i" and found.dtype == np.uint64 and found.max(initial=0) >= 2**63:
        raise ValueError(f"column {name} holds {found.max()}, expected numbers below 2^63")
    return found if kind == "f" else found.astype(np.int64 if kind == "i" else np.float64)


def _check_rows(count: int, kinds: Iterable[Kind]) -> None:
    most = _MAX_TEXTS if "U" in kinds else _MAX_ROWS
    if count > most:
        raise ValueError(f"it has more than {most} rows")


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
