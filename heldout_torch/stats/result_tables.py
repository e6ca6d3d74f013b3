"""Scores and pairs in CSV and Parquet files, read as the arrays that npz files of them have."""

from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import numpy as np

from heldout_torch.errors import DataError
from heldout_torch.stats.columns import Kind, read_columns
from heldout_torch.stats.orders import Order, to_original

_ORDERS: tuple[Order | None, ...] = (*get_args(Order), None)  # of two columns of indices the first counts
_SCORES = {"scores": "score", "standard_error": "standard_error", "low": "low", "high": "high"}
_PAIRS = {"infl": "influence", "mem": "memorization"}
_ALSO, _CHANCES = ("standard_error", "low", "high"), ("p_value", "false_discovery_rate")


def read_score_table(path: Path) -> dict[str, np.ndarray]:
    """Read scores; row i of the arrays is example i, whatever the order of the file's rows.

    Args:
        path: A file as `write_scores` makes it, or `Scores.to_pandas`, of which the index of the examples and `score`
            must be there.

    Raises:
        DataError: If it is missing or damaged, lacks one of these, or does not have a row for each example.
    """
    kinds: dict[str, Kind] = {"label": "i", "filename": "U"}
    kinds.update(dict.fromkeys(map(_index, _ORDERS), "i"), **dict.fromkeys(_SCORES.values(), "f"))
    columns = read_columns(path, kinds)[0]
    order = _order(columns, [""], path)
    found = {**_SCORES, "labels": "label", "filenames": "filename"}
    try:
        arrays = {
            name: to_original(columns[column], columns[_index(order)])
            for name, column in found.items()
            if column in columns
        }
    except DataError as error:
        raise DataError(f"{path}: expected a row for each example; {error}") from None
    return _checked(arrays, ["scores"], _SCORES, order, path)


def read_pair_table(path: Path) -> dict[str, np.ndarray]:
    """Read pairs, in the order of the file's rows.

    Args:
        path: A file as `write_pairs` makes it, or `InfluencePairs.to_pandas`, of which both indices, `influence` and
            `memorization` must be there.

    Raises:
        DataError: If it is missing or damaged, or lacks one of these.
    """
    indices = [_index(order, side) for order in _ORDERS for side in ("train_", "test_")]
    kinds: dict[str, Kind] = dict.fromkeys([*_PAIRS.values(), *_ALSO], "f")
    kinds.update(dict.fromkeys(indices, "i"), **dict.fromkeys(_CHANCES, "d"))
    columns = read_columns(path, kinds)[0]
    order = _order(columns, ["train_", "test_"], path)
    found = {"tr_idx": _index(order, "train_"), "tt_idx": _index(order, "test_"), **_PAIRS}
    found |= {name: name for name in (*_ALSO, *_CHANCES)}
    arrays = {name: columns[column] for name, column in found.items() if column in columns}
    return _checked(arrays, list(_PAIRS), _PAIRS, order, path)


def _index(order: Order | None, side: str = "") -> str:
    return f"{side}index" if order is None else f"{side}{order}_index"


def _order(columns: dict[str, np.ndarray], sides: list[str], path: Path) -> Order | None:
    """Return how a table counts examples, by the names of its columns."""
    for order in _ORDERS:
        if all(_index(order, side) in columns for side in sides):
            return order
    if sides == [""] and read_columns(path, {_PAIRS["infl"]: "f"})[0]:
        raise DataError(f"{path}: holds pairs, not scores")
    if sides != [""] and read_columns(path, {_SCORES["scores"]: "f"})[0]:
        raise DataError(f"{path}: holds scores, not pairs")
    lacking = " or ".join(" and ".join(_index(order, side) for side in sides) for order in get_args(Order))
    raise DataError(f"{path}: has no column {lacking}")


def _checked(
    arrays: dict[str, np.ndarray], needed: Iterable[str], names: dict[str, str], order: Order | None, path: Path
) -> dict[str, np.ndarray]:
    for name in needed:
        if name not in arrays:
            raise DataError(f"{path}: has no column {names[name]}")
    return arrays if order is None else {**arrays, "order": np.array(order)}
