"""Tables as CSV, Parquet and data frames, read back by pandas; names that cannot be are refused beforehand."""

import csv
import sys

import numpy as np
import pandas
import pytest

from heldout_torch import DataError, HeldoutError
from heldout_torch.stats.columns import check_file, read_columns, write_columns
from heldout_torch.storage.notebook import data_frame

COLUMNS = {
    "index": np.arange(4),
    "score": np.array([0.1, np.nan, 1 / 3, -0.0], np.float32),
    "filename": np.array(["a.JPEG", 'b,"c".JPEG', "ü.JPEG", ""]),
}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_files_hold_the_columns_to_the_last_bit(tmp_path, suffix):
    write_columns(tmp_path / f"table{suffix}", COLUMNS)
    if suffix == ".csv":
        frame = pandas.read_csv(tmp_path / "table.csv", keep_default_na=False, na_values={"score": ""})
    else:
        frame = pandas.read_parquet(tmp_path / "table.parquet")
    assert list(frame) == list(COLUMNS)
    np.testing.assert_array_equal(frame["index"], COLUMNS["index"])
    np.testing.assert_array_equal(frame["score"].to_numpy(np.float32), COLUMNS["score"])
    assert frame["filename"].tolist() == COLUMNS["filename"].tolist()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_columns_are_rows_of_one_length_in_any_order_of_bytes(tmp_path, suffix):
    path = tmp_path / f"table{suffix}"
    for wrong in (np.arange(3), np.zeros((4, 2)), np.float32(1)):
        with pytest.raises(DataError, match=rf"table{suffix}: label is .*, expected a row of length 4"):
            write_columns(path, {**COLUMNS, "label": wrong})
    assert not path.exists()
    swapped = np.array([0.5, np.nan, 2, 3], ">f4")
    write_columns(path, {"index": COLUMNS["index"], "score": swapped, "label": [1, 2, 3, 4]})
    columns, _ = read_columns(path, {"score": "f", "label": "i"})
    np.testing.assert_array_equal(columns["score"], swapped)
    assert columns["label"].tolist() == [1, 2, 3, 4]


def test_missing_numbers_are_empty_fields_and_nulls(tmp_path):
    write_columns(tmp_path / "table.csv", COLUMNS)
    with open(tmp_path / "table.csv", newline="") as file:
        assert list(csv.reader(file))[2] == ["1", "", 'b,"c".JPEG']
    write_columns(tmp_path / "table.parquet", COLUMNS)
    assert pandas.read_parquet(tmp_path / "table.parquet", dtype_backend="pyarrow")["score"].isna().tolist() == [
        False, True, False, False,
    ]  # fmt: skip


def test_a_data_frame_has_the_columns():
    frame = data_frame(COLUMNS)
    assert isinstance(frame, pandas.DataFrame)
    np.testing.assert_array_equal(frame["score"], COLUMNS["score"])


def test_files_that_cannot_be_written_are_refused_before_the_work(tmp_path):
    assert check_file(tmp_path / "new" / "mem.csv") == tmp_path / "new" / "mem.csv"
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "file").touch()
    for path, message in (
        ("mem.txt", "the file name must end in one of .npz, .csv, .parquet"),
        (".", "the file name must end in one of"),
        ("folder.npz", "is a folder"),
        ("file/mem.npz", "is a file, expected a folder"),
    ):
        with pytest.raises(HeldoutError, match=message):
            check_file(tmp_path / path)
    with pytest.raises(DataError, match="is a URL"):
        check_file("s3://bucket/mem.npz")
    assert {path.name for path in tmp_path.iterdir()} == {"folder.npz", "file"}


def test_missing_packages_are_named_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(
        HeldoutError,
        match=r"needs pyarrow, which is not installed: pip install pyarrow, or take \.csv or \.npz$",
    ):
        check_file(tmp_path / "mem.parquet")
    with pytest.raises(HeldoutError, match=r"a data frame needs pandas, which is not installed: pip install pandas$"):
        data_frame(COLUMNS)
    write_columns(tmp_path / "mem.csv", COLUMNS)  # needs neither
