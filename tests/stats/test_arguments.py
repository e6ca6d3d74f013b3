"""What functions of statistics take for examples, pairs, devices and tables, and what they refuse in one line."""

import numpy as np
import pytest

from heldout_torch import DataError, HeldoutError
from heldout_torch.stats import (
    OutputTable,
    RunTable,
    class_summary,
    consistency,
    datamodels,
    example_counts,
    influence,
    influence_counts,
    influence_error,
    influence_interval,
    influence_pairs,
    lds,
    memorization_interval,
    pair_error,
    pair_interval,
    pair_p_values,
    to_original,
    to_published,
    top_influences,
)
from tests.stats.reference import random_runs

MASKS, CORRECT, CORRECT_TEST = random_runs(80, 10, 6, seed=0)
BITS = RunTable.from_arrays(MASKS, CORRECT, CORRECT_TEST, mix_ratios=True)
OUTPUTS = OutputTable.from_arrays(MASKS, CORRECT_TEST + 0.5, CORRECT + 0.5)
OF_PAIRS = [(pair_error, BITS), (pair_error, OUTPUTS), (pair_interval, BITS), (pair_p_values, BITS)]


@pytest.mark.parametrize("table", [BITS, OUTPUTS])
def test_errors_of_pairs_take_lists(table):
    matrix = influence_error(table)
    np.testing.assert_allclose(pair_error(table, [4, 9], [5, 0]), matrix[[5, 0], [4, 9]], rtol=1e-6)
    np.testing.assert_array_equal(
        pair_error(table, [np.int64(4)], np.array([5], np.uint8)), pair_error(table, np.array([4], np.uint64), (5,))
    )
    assert pair_error(table, [], []).shape == (0,)


@pytest.mark.parametrize(("of_pairs", "table"), OF_PAIRS)
@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (np.arange(50), [3], "train_index names example 10, expected 0 ... 9"),
        ([0], [6], "test_index names example 6, expected 0 ... 5"),
        ([-1], [0], "train_index names example -1"),  # of top influences that stands for none
        (np.array([2**63], np.uint64), [0], "train_index names example 9223372036854775808"),
        ([1, 2], [0], "2 training and 1 test examples given, expected pairs"),
        ([1.0], [0], r"train_index is float64 \(1,\), expected a row of published indices"),
        ([[1, 2]], [[0, 1]], r"train_index is int64 \(1, 2\)"),
        (3, 3, r"train_index is int64 \(\)"),
        (np.arange(10) < 1, [0], "train_index is bool"),
        (None, None, "train_index is object"),
    ],
)
def test_pairs_that_do_not_exist_are_refused(of_pairs, table, train, test, message):
    with pytest.raises(DataError, match=message):
        of_pairs(table, train, test)


def test_what_counts_right_runs_asks_for_a_run_table():
    calls = [example_counts, influence_counts, memorization_interval, influence_interval, consistency]
    for call in (*calls, lambda table: pair_p_values(table, [0], [0]), lambda table: pair_interval(table, [0], [0])):
        with pytest.raises(DataError, match="OutputTable: expected a RunTable"):
            call(OUTPUTS)
    for call in (lambda table: lds(np.zeros((6, 10)), table), datamodels):
        with pytest.raises(DataError, match="RunTable: expected an OutputTable"):
            call(BITS)


@pytest.mark.parametrize("table", [BITS, OUTPUTS])
def test_devices_that_are_not_here_are_one_line(table):
    calls = (influence, lambda table, device: top_influences(table, 2, device=device))
    for call in (*calls, lambda table, device: influence_pairs(table, same_class=False, device=device)):
        for device in ("gpu", "cuda:99"):
            with pytest.raises(HeldoutError, match=f"device '{device}' cannot be used here"):
                call(table, device=device)
    if table is OUTPUTS:
        for call in (
            lambda device: lds(np.zeros((6, 10)), table, device=device),
            lambda device: datamodels(table, device=device),
        ):
            with pytest.raises(HeldoutError, match="device 'gpu' cannot be used here"):
                call("gpu")


def test_products_are_of_one_of_two_precisions():
    for dtype in ("float16", np.float64):
        with pytest.raises(DataError, match="expected one of float32, float64"):
            influence(OUTPUTS, dtype=dtype)


def test_labels_are_whole_rows_of_integers():
    labels = np.arange(10) % 2, np.arange(6) % 2
    whole = class_summary(BITS, *labels)
    np.testing.assert_array_equal(
        class_summary(BITS, labels[0].astype(np.uint8), labels[1].tolist()).influence, whole.influence
    )
    for wrong in (labels[1][:5], labels[1] * 1.0, None, labels[1][None]):
        with pytest.raises(DataError, match="labels_test is"):
            class_summary(BITS, labels[0], wrong)


@pytest.mark.parametrize("move", [to_original, to_published])
def test_orders_that_name_an_example_twice_or_none_are_refused(move):
    for order in ([0, 1, 1], [0, 1, 3], [0, 1, -1], [0.0, 1.0, 2.0], [True, True, True]):
        with pytest.raises(DataError, match="the order of 3 examples is not"):
            move(np.ones(3), np.array(order))
    with pytest.raises(DataError, match="3 values and an order of 2 examples"):
        move(np.ones(3), np.array([0, 1]))
    np.testing.assert_array_equal(
        to_published(to_original(np.eye(3), np.array([2, 0, 1])), np.array([2, 0, 1])), np.eye(3)
    )
