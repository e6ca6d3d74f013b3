"""What functions of statistics take for examples, pairs, devices and tables, and what they refuse in one line.

Also of stats/selection.py.
"""

import numpy as np
import pytest
import torch

from heldout_torch import DataError, HeldoutError
from heldout_torch.stats import (
    OutputTable,
    RunTable,
    brittleness,
    class_summary,
    classwise_influence,
    consistency,
    consistency_interval,
    datamodels,
    example_counts,
    group_influence,
    histogram,
    influence,
    influence_counts,
    influence_error,
    influence_interval,
    influence_pairs,
    keep_indices,
    lds,
    memorization,
    memorization_error,
    memorization_interval,
    mislabel_auc,
    pair_error,
    pair_interval,
    pair_p_values,
    reliability,
    removal_curves,
    run_accuracies,
    score_agreement,
    split_by_ratio,
    stratified_influence,
    stratified_memorization,
    to_original,
    to_published,
    top_influences,
)
from heldout_torch.zoo import RunKey
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
    with pytest.raises(DataError, match="intervals need counts of correct runs, which outputs do not have"):
        classwise_influence(OUTPUTS, np.zeros(10, int), np.zeros(6, int), level=0.9)
    assert len(list(classwise_influence(OUTPUTS, np.zeros(10, int), np.zeros(6, int)))) == 1
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
        with pytest.raises(DataError, match="expected 'float32' or 'float64'"):
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


@pytest.mark.parametrize("table", [BITS, OUTPUTS])
def test_a_mask_of_numbers_is_no_list_of_examples(table):
    """It would mean the examples 0 and 1, many times."""
    mask = np.arange(10) % 3 == 1
    expected = influence(table, mask, [2])
    for wrong in (mask.astype(np.uint8), mask.astype(int), mask.astype(int).tolist(), torch.from_numpy(mask).int()):
        with pytest.raises(DataError, match="10 numbers that are all 0 or 1 look like a mask; pass it as bool"):
            influence(table, wrong, [2])
    np.testing.assert_array_equal(influence(table, torch.from_numpy(mask), [2]), expected)
    np.testing.assert_array_equal(influence(table, mask.tolist(), [2]), expected)
    assert influence(table, [0, 1, 1, 0], [2]).shape == (1, 4)  # not as many as there are examples


@pytest.mark.parametrize("table", [BITS, OUTPUTS])
def test_numbers_too_large_are_no_examples_from_the_end(table):
    for wrong in (np.array([2**64 - 1], np.uint64), [10], np.array([-11])):
        with pytest.raises(DataError, match=r"train: cannot select .* from 0 \.\.\. 9"):
            influence(table, wrong)
    np.testing.assert_array_equal(influence(table, np.array([9, 3], ">u8")), influence(table, [9, 3]))


def test_what_is_no_table_is_told():
    anything = [memorization, influence, memorization_error, influence_error, split_by_ratio, stratified_memorization]
    anything += [lambda table: influence_pairs(table, same_class=False), lambda table: top_influences(table, 2)]
    anything += [lambda table: class_summary(table, [0], [0]), lambda table: group_influence(table, [0])]
    anything += [lambda table: reliability(table, memorization), lambda table: removal_curves(table, np.zeros((6, 1)))]
    anything += [lambda table: classwise_influence(table, [0], [0]), run_accuracies, example_counts]
    for call in anything:
        for wrong in (None, "table", MASKS, [BITS], 3):
            with pytest.raises(DataError, match="RunTable"):
                call(wrong)
    with pytest.raises(DataError, match="OutputTable: expected a RunTable"):
        run_accuracies(OUTPUTS)


@pytest.mark.parametrize("table", [BITS, OUTPUTS])
def test_bounds_of_pairs_are_numbers(table):
    for name in ("min_influence", "min_memorization"):
        for wrong in (float("nan"), "high", [0.1], np.array([0.1, 0.2])):
            with pytest.raises(DataError, match=f"{name} is .* expected a number"):
                influence_pairs(table, same_class=False, **{name: wrong})
    with pytest.raises(DataError, match="min_influence is None"):
        influence_pairs(table, same_class=False, min_influence=None)
    everything = influence_pairs(table, same_class=False, min_influence=-np.inf, min_memorization=None)
    assert len(everything) == 6 * 8  # two examples were never in, or never out


@pytest.mark.parametrize("wrong", [0, 1, 95, "95 %", None, float("nan"), np.array([0.5, 0.9])])
def test_levels_are_shares(wrong):
    calls = [memorization_interval, consistency_interval, lambda table, level: influence_interval(table, level=level)]
    calls += [lambda table, level: pair_interval(table, [0], [0], level)]
    calls += [lambda table, level: lds(np.zeros((6, 10)), OUTPUTS, level=level)]
    if wrong is not None:
        calls += [lambda table, level: classwise_influence(table, np.zeros(10, int), np.zeros(6, int), level=level)]
    for call in calls:
        with pytest.raises(DataError, match=r"level is .* expected a share between 0 and 1"):
            call(BITS, level=wrong)


def test_devices_are_the_cpu_and_cuda():
    np.testing.assert_array_equal(influence(BITS, device="cpu:0"), influence(BITS))
    for table in (BITS, OUTPUTS):
        for device in ("meta", None, 3.5, ""):
            for call in (influence, lambda table, device: top_influences(table, 2, device=device)):
                with pytest.raises(HeldoutError, match=r"device '.*' cannot be used here"):
                    call(table, device=device)
    for call in (lambda: lds(np.zeros((6, 10)), OUTPUTS, device="meta"), lambda: datamodels(OUTPUTS, device="meta")):
        with pytest.raises(HeldoutError, match="device 'meta' cannot be used here"):
            call()


def test_scores_are_numbers():
    for wrong in (["a"], np.array([1, None]), [1j], None):
        for call in (lambda s: keep_indices(s, 0.5), histogram, lambda s: score_agreement(s, s)):
            with pytest.raises(DataError, match=r"expected .*numbers"):
                call(wrong)
        with pytest.raises(DataError, match="expected a row of numbers"):
            mislabel_auc(wrong, [True])
    with pytest.raises(DataError, match="scores are infinite"):
        score_agreement([0.5, np.inf, 0.1], [0.5, np.inf, 0.2])
    for wrong in (5, (0,), ("a", "b"), (None, 1), "ab"):
        with pytest.raises(DataError, match="expected the lowest and the highest edge"):
            histogram([0.5], range=wrong)
    for dtype in (np.float16, np.float32, bool):
        assert histogram(np.array([0, 1], dtype), range=None).edges.dtype == np.float64
    for wrong in ("half", [0.5], np.array([0.5])):
        with pytest.raises(DataError, match="fraction is"):
            keep_indices([0.5, 0.1], wrong)


def test_a_reliability_is_of_numbers():
    for statistic in (consistency, lambda table: np.zeros(int(table.keys[0])), lambda table: "a", lambda table: None):
        with pytest.raises(DataError, match=r"the statistic gives .* expected numbers of one shape"):
            reliability(BITS, statistic)


def test_curves_are_of_rankings_that_end_with_none():
    ranking = np.array([[3, 7, -1]] * 6)
    runs = removal_curves(BITS, ranking).runs
    np.testing.assert_array_equal(runs[:, 3], 0)
    np.testing.assert_array_equal(runs[:, :3], removal_curves(BITS, ranking[:, :2].astype(np.uint8)).runs)
    with pytest.raises(DataError, match="names an example after -1"):
        removal_curves(BITS, ranking[:, [0, 2, 1]])
    curves = removal_curves(BITS, ranking)
    for below, min_runs in ((float("nan"), 10), ("a", 10), (None, 10), (0.5, 0), (0.5, "a"), (0.5, 2.5)):
        with pytest.raises(DataError, match=r"below is|min_runs is"):
            brittleness(curves, below, min_runs)


def test_parts_of_pairs_are_pairs():
    pairs = influence_pairs(BITS, same_class=False, min_influence=-1, min_memorization=None)
    for part in (slice(2, 5), [2, 3, 4], np.isin(np.arange(len(pairs)), [2, 3, 4])):
        np.testing.assert_array_equal(pairs[part].influence, pairs.influence[2:5])
        np.testing.assert_array_equal(pairs[part].p_value, pairs.p_value[2:5])
    for wrong in (0, np.int64(1), "a", [len(pairs)]):
        with pytest.raises(DataError, match="pairs: "):
            pairs[wrong]


def test_orders_take_lists():
    assert to_published([5, 6, 7], [2, 0, 1]).tolist() == [7, 5, 6]
    assert to_original([5, 6, 7], [2, 0, 1]).tolist() == [6, 7, 5]
    for move in (to_original, to_published):
        for values, order in ((3, [0]), (None, None), ([5, 6], [[0], [1]]), ([5], 0)):
            with pytest.raises(DataError, match="expected rows of one length"):
                move(values, order)


@pytest.mark.parametrize("wrong", [[-1], [0, -1], np.array([-1], np.int8), range(-2, 0), torch.tensor([-3]), (-1,)])
def test_nothing_is_counted_from_the_end(wrong):
    """`TopInfluences` fills up with -1, which NumPy would take for the last example."""
    outside = rf"cannot select .* \({int(np.min(np.asarray(wrong)))} is outside\)"
    pairs = influence_pairs(BITS, same_class=False, min_influence=-1, min_memorization=None)
    calls = [
        BITS.select_runs,
        BITS.mask,
        lambda some: BITS.correct("test", some),
        BITS.who_trained_on,
        pairs.__getitem__,
    ]
    calls += [OUTPUTS.select_runs, OUTPUTS.mask, lambda some: OUTPUTS.mask(None, some)]
    calls += [lambda some: OUTPUTS.margins("test", some), lambda some: datamodels(OUTPUTS, some)]
    calls += [
        lambda some: lds(np.zeros((6, 1)), OUTPUTS, some),
        lambda some: lds(np.zeros((1, 10)), OUTPUTS, None, some),
    ]
    calls += [lambda some: influence_interval(BITS, some), lambda some: influence_counts(BITS, None, some)]
    for table in (BITS, OUTPUTS):
        for call in (influence, influence_error, stratified_influence):
            calls += [lambda some, call=call, table=table: call(table, some)]
            calls += [lambda some, call=call, table=table: call(table, None, some)]
        calls += [lambda some, table=table: group_influence(table, some)]
        calls += [lambda some, table=table: group_influence(table, [0], some)]
        calls += [lambda some, table=table: removal_curves(table, np.zeros((1, 1), int), some)]
    for call in calls:
        with pytest.raises(DataError, match=outside):
            call(wrong)
    assert BITS.select_runs(slice(-2, None)).keys == ("78", "79")  # as in Python
    with pytest.raises(DataError, match=r"examples: cannot select array\(\[-1\]\) from 0 \.\.\. 9 \(-1 is outside\)"):
        BITS.who_trained_on(-1)


@pytest.mark.parametrize("kind", [str, RunKey.parse])
def test_runs_of_a_table_are_named_as_who_trained_on_returns_them(kind):
    keys = [f"e/0.5/{run}" for run in range(300, 380)]
    bits = RunTable.from_arrays(MASKS, CORRECT, CORRECT_TEST, keys, mix_ratios=True)
    outputs = OutputTable.from_arrays(MASKS, CORRECT_TEST + 0.5, CORRECT + 0.5, keys)
    held_out = bits.who_trained_on(3, how="none")
    places = np.flatnonzero(~MASKS[:, 3])
    assert held_out == [RunKey("e", 0.5, 300 + place) for place in places]
    for runs in (list(map(kind, map(str, held_out))), tuple(map(kind, map(str, held_out)))):
        assert np.array_equal(bits.mask(runs), MASKS[places])
        assert np.array_equal(bits.correct("test", runs), CORRECT_TEST[places])
        assert np.array_equal(outputs.mask(runs), MASKS[places])
        assert bits.select_runs(runs).keys == outputs.select_runs(runs).keys == tuple(map(str, held_out))
    assert np.array_equal(bits.mask(kind("e/0.5/307")), MASKS[7:8])
    with pytest.raises(DataError, match=r"run e/0.5/7 is not in this table of 80 runs, e/0.5/300 ... e/0.5/379"):
        bits.mask([kind("e/0.5/300"), kind("e/0.5/7")])
    with pytest.raises(DataError, match=r"run e/0.5/30 is not in this table"):
        outputs.select_runs("e/0.5/30")
