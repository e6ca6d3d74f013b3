"""Numbers as people have them, and variables of the environment as shells leave them, mean what they look like.

Also of storage/counts.py.
"""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas
import pytest
import torch

from heldout_torch import (
    DataError,
    HeldoutError,
    RunKey,
    copy_runs,
    evaluate,
    list_runs,
    load_dataset,
    load_run,
    predict,
)  # fmt: skip
from heldout_torch.data import tfds_order
from heldout_torch.experiments import known_experiments
from heldout_torch.stats import (
    OutputTable,
    RunTable,
    accuracy_columns,
    consistency,
    datamodels,
    histogram,
    influence_pairs,
    lds,
    run_accuracies,
    top_influences,
)  # fmt: skip
from heldout_torch.storage.offline import is_offline
from heldout_torch.storage.paths import environment
from heldout_torch.training import Recipe, RunBatch
from heldout_torch.zoo import sample_zoo

EXPERIMENT = "digits-mlp-tf"
DIGITS = known_experiments()["digits-mlp"]
RATIOS = [
    0.7, np.float64(0.7), np.float32(0.7), np.float16(0.7), np.array(0.7), torch.tensor(0.7),
    torch.tensor(0.7, dtype=torch.bfloat16), pandas.Series([0.7])[0], Decimal("0.7"), Fraction(7, 10), "0.7", " 0.7 ",
]  # fmt: skip
RUNS = [3, np.int64(3), np.uint8(3), np.array(3), torch.tensor(3), pandas.Series([3])[0], "3"]
NO_RATIOS = [True, np.True_, "x", [0.7], np.array([0.7]), 1 + 0j, pandas.NA, 10**400]


@pytest.fixture(scope="module")
def table():
    return RunTable.from_zoo(sample_zoo(), EXPERIMENT, 0.7)


@pytest.mark.parametrize("ratio", RATIOS, ids=repr)
def test_a_ratio_of_any_kind_is_that_ratio(ratio, table):
    """A key of NumPy's numbers was written as `digits-mlp-tf/np.float64(0.7)/3`."""
    assert str(RunKey(EXPERIMENT, ratio, 3)) == f"{EXPERIMENT}/0.7/3"
    assert load_run(EXPERIMENT, ratio, 3, sample_zoo()).key == load_run(f"{EXPERIMENT}/0.7/3", zoo=sample_zoo()).key
    assert RunBatch(DIGITS, DIGITS.recipe, ratio, (0,)).subset_ratio == 0.7
    if not isinstance(ratio, np.ndarray):  # those are no keys of dictionaries
        assert consistency({ratio: table}).ratios.tolist() == [0.7]
        assert accuracy_columns({ratio: run_accuracies(table)})["subset_ratio"].tolist() == [0.7]


@pytest.mark.parametrize("run", RUNS, ids=repr)
def test_a_run_of_any_kind_is_that_run(run):
    assert str(RunKey(EXPERIMENT, 0.7, run)) == f"{EXPERIMENT}/0.7/3"
    batch = RunBatch(DIGITS, DIGITS.recipe, 0.7, run)
    assert batch.runs == RunBatch(DIGITS, DIGITS.recipe, 0.7, [run]).runs == (3,)
    assert type(batch.runs[0]) is int
    assert len(list_runs(sample_zoo(), runs=run)) == 1


@pytest.mark.parametrize("ratio", NO_RATIOS, ids=repr)
def test_what_is_no_ratio_is_one_line(ratio):
    for make in (
        lambda: RunKey(EXPERIMENT, ratio, 3),
        lambda: load_run(EXPERIMENT, ratio, 3, sample_zoo()),
        lambda: RunBatch(DIGITS, DIGITS.recipe, ratio, (0,)),
    ):
        with pytest.raises(HeldoutError, match="is not a number between 0 and 1"):
            make()


def test_a_batch_is_shown_short():
    shown = repr(RunBatch(DIGITS, DIGITS.recipe, 0.7, range(2000)))
    assert shown.startswith("RunBatch(digits-mlp/0.7, runs 0-1999, Recipe(")
    assert len(shown) < 400
    with pytest.raises(HeldoutError, match="run b'12' is not an integer"):
        RunBatch(DIGITS, DIGITS.recipe, 0.7, b"12")


def test_two_tables_of_one_ratio_are_not_taken_for_one(table):
    halves = table.select_runs(slice(0, 3)), table.select_runs(slice(3, 6))
    with pytest.raises(DataError, match=r"two tables are given for subset ratio 0\.7; join them"):
        consistency({0.7: halves[0], np.float32(0.7): halves[1]})


def test_a_switch_in_a_number_s_place_is_refused(table):
    labels = [np.zeros(n, int) for n in (table.train_examples, table.test_examples)]
    for yes in (True, np.True_, torch.tensor(True), np.array(True)):  # `same_class`, one place too early
        with pytest.raises(DataError, match=r"min_memorization is .*True.*, expected a number"):
            influence_pairs(table, *labels, 0.15, yes)


def test_recipes_take_what_a_loop_over_numbers_gives():
    plain = Recipe(3, 8, 0.1, momentum=0.5)
    for recipe in (
        Recipe(np.int64(3), np.uint8(8), np.float64(0.1), np.float32(0.5)),
        Recipe(np.array(3), np.array(8), np.float32(0.1), Fraction(1, 2)),
        Recipe(3, 8, Decimal("0.1"), np.float16(0.5)),
    ):
        assert repr(recipe) == repr(plain)
    for wrong in (True, np.True_, 3.0, "3", np.float64(3)):
        with pytest.raises(HeldoutError, match="field 'epochs' of a recipe is"):
            Recipe(wrong, 8, 0.1)


def test_more_than_there_can_be_of_anything_is_one_line(table, tmp_path):
    """It was an OverflowError or a ValueError of a library, or had no end."""
    huge, digits, run = 2**70, load_dataset("digits"), load_run(EXPERIMENT, 0.7, 3, sample_zoo())
    outputs = OutputTable.from_arrays(table.mask(), table.correct("test").astype(np.float32))
    scores = np.zeros((table.test_examples, table.train_examples))
    for call in (
        lambda: top_influences(table, huge),
        lambda: histogram(np.zeros(3), huge),
        lambda: lds(scores, outputs, resamples=huge),
        lambda: datamodels(outputs, folds=huge),
        lambda: predict(run, torch.zeros(2, 1, 8, 8), batch_size=huge),
        lambda: evaluate(run, digits, "test", batch_size=huge),
        lambda: digits.batches("test", huge),
        lambda: list(copy_runs(sample_zoo(), tmp_path / "zoo", list_runs(sample_zoo()), threads=huge)),
        lambda: tfds_order("test", huge),
        lambda: list_runs(sample_zoo(), runs=huge),
    ):
        with pytest.raises(HeldoutError, match=r"expected at most|an integer from 0 to|number from 1 to"):
            call()
    with pytest.raises(HeldoutError, match="threads is -1, expected a number from 1"):
        list(copy_runs(sample_zoo(), tmp_path / "zoo", list_runs(sample_zoo()), threads=-1))


def test_batches_of_no_size_are_refused():
    """-1 gave no batch at all, True batches of one."""
    digits = load_dataset("digits")
    assert len(next(iter(digits.batches("test", np.int64(3)))).index) == 3
    for size in (-1, 0, True, 2.5, "8", None, np.float64(8)):
        with pytest.raises(DataError, match=r"batch_size is .*, expected a number from 1"):
            digits.batches("test", size)


@pytest.mark.parametrize(("value", "off"), [
    ("", False), ("0", False), (" '0' ", False), ("false", False), ("No", False), ('""', False),
    ("1", True), ("true", True), ('"1"', True), ("yes", True),
])  # fmt: skip
def test_no_is_no_however_it_is_written(value, off, monkeypatch):
    """`HELDOUT_TORCH_OFFLINE=false` forbade the network."""
    monkeypatch.setenv("HELDOUT_TORCH_OFFLINE", value)
    assert is_offline() is off


def test_variables_keep_no_quotes_and_an_empty_one_is_none(monkeypatch):
    monkeypatch.setenv("X", ' "a b"\n')
    assert environment("X") == "a b"
    assert environment("NOT_THERE") == ""
    for empty in ("''", '""', "  "):
        monkeypatch.setenv("HELDOUT_TORCH_ZOO", empty)
        assert len(list_runs()) == 6
    monkeypatch.setenv("HELDOUT_TORCH_ZOO", f"'{sample_zoo()}/' ")
    assert len(list_runs()) == 6
