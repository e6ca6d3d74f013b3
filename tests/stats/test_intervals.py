"""Intervals cover the truth as often as they say, which is computed and not simulated."""

import numpy as np
import pytest
from scipy.stats import binom

from heldout_torch import DataError
from heldout_torch.stats import (
    RunTable,
    consistency_interval,
    influence,
    influence_interval,
    memorization,
    memorization_interval,
    pair_interval,
)
from heldout_torch.stats.counting.bits import pack
from tests.stats.reference import random_runs

SHARES = (0, 0.002, 0.02, 0.1, 0.5, 0.9, 1)
ROUNDING = 1e-6  # ends are float32


def every_outcome(trained, held_out, insides=None):
    """A table with one training example for each pair of numbers of right runs in, all or some, and out."""
    insides = np.arange(trained + 1) if insides is None else insides
    run = np.arange(trained + held_out)
    right_in, right_out = (pack(bits) for bits in (
        run < insides[:, None],
        (run >= trained) & (run < trained + np.arange(held_out + 1)[:, None]),
    ))  # fmt: skip
    correct = (right_in[:, None] | right_out).reshape(-1, right_in.shape[1])  # (outcomes, words)
    mask = np.repeat(pack(run[None] < trained), len(correct), axis=0)
    return RunTable(tuple(map(str, run)), mask, correct, correct[:1])


def intervals(trained, held_out):
    """Ends of the interval of every outcome, (trained + 1, held_out + 1) each; a hundred rows are a table."""
    parts = [
        [end.reshape(-1, held_out + 1) for end in memorization_interval(every_outcome(trained, held_out, insides))]
        for insides in np.array_split(np.arange(trained + 1), trained // 100 + 1)
    ]
    return (np.concatenate(ends) for ends in zip(*parts, strict=True))


@pytest.fixture(scope="module")
def coverages():
    """Exact coverage at nominal 95 %, of memorization, over runs x ratios x shares x shares."""
    coverages = {}
    for runs in (20, 200, 2000):
        for ratio in (0.5, 0.7, 0.9):
            trained = round(runs * ratio)
            low, high = intervals(trained, runs - trained)
            for share in SHARES:
                inside = binom.pmf(np.arange(trained + 1), trained, share)
                for other in SHARES:
                    outside = binom.pmf(np.arange(runs - trained + 1), runs - trained, other)
                    covers = (low <= share - other + ROUNDING) & (high >= share - other - ROUNDING)
                    coverages[runs, ratio, share, other] = inside @ covers @ outside
    return coverages


def by_formula(trained, held_out):
    """Agresti and Caffo's interval of every outcome, as in their paper."""
    inside, outside = np.arange(trained + 1)[:, None] + 1, np.arange(held_out + 1) + 1
    p, q = inside / (trained + 2), outside / (held_out + 2)
    half = 1.959963984540054 * np.sqrt(p * (1 - p) / (trained + 2) + q * (1 - q) / (held_out + 2))
    return np.maximum(p - q - half, -1), np.minimum(p - q + half, 1)


def test_coverage_holds_at_every_corner(coverages):
    assert len(coverages) == 3 * 3 * 7 * 7
    print(f"least {min(coverages.values()):.4f} at {min(coverages, key=coverages.get)}, "
          f"mean {np.mean(list(coverages.values())):.4f}")  # fmt: skip
    assert min(coverages.values()) >= 0.925
    assert 0.94 <= np.mean(list(coverages.values())) <= 0.985


def test_the_interval_is_that_of_the_paper():
    for trained, held_out in ((14, 6), (1400, 600)):
        for end, expected in zip(intervals(trained, held_out), by_formula(trained, held_out), strict=True):
            np.testing.assert_allclose(end, expected, atol=ROUNDING)


def test_influence_intervals_are_the_same_of_pairs():
    trained_on, _, correct_test = random_runs(60, 9, 5, seed=1)
    table = RunTable.from_arrays(trained_on, trained_on, correct_test, mix_ratios=True)
    low, high = influence_interval(table, [5, 3], [4, 0, 2], level=0.8)
    assert low.shape == high.shape == (3, 2)
    for i, train in enumerate((5, 3)):
        # A training set whose correctness is that of the test example, so that memorization is the influence.
        same = np.broadcast_to(trained_on[:, [train]], (60, 5))
        one = RunTable.from_arrays(same, correct_test, correct_test, mix_ratios=True)
        for end, expected in zip((low, high), memorization_interval(one, level=0.8), strict=True):
            np.testing.assert_array_equal(end[:, i], expected[[4, 0, 2]])


def test_influence_intervals_are_the_same_in_blocks():
    table = RunTable.from_arrays(*random_runs(20, 3000, 2000, seed=7), mix_ratios=True)  # too many pairs for one block
    rows, columns = [3, 1000, 1999], [2, 2999]
    for whole, part in zip(influence_interval(table), influence_interval(table, columns, rows), strict=True):
        np.testing.assert_array_equal(whole[rows][:, columns], part)


def test_intervals_hold_the_estimates_and_are_nan_where_a_group_is_empty():
    trained_on, correct_train, correct_test = random_runs(80, 12, 7, seed=2)
    table = RunTable.from_arrays(trained_on, correct_train, correct_test, mix_ratios=True)
    for estimate, (low, high) in (
        (memorization(table), memorization_interval(table)),
        (influence(table), influence_interval(table)),
    ):
        empty = np.isnan(estimate)
        assert empty.any()
        np.testing.assert_array_equal(np.isnan(low), empty)
        np.testing.assert_array_equal(np.isnan(high), empty)
        assert (low <= estimate)[~empty].all()
        assert (estimate <= high)[~empty].all()


@pytest.mark.parametrize("runs", [(10,), (10, 6), (4, 10, 6)])
def test_consistency_intervals_cover_over_ratios(runs):
    """Every outcome at each ratio, and its chance; the ratios' examples are in other ratios not held out."""
    outcomes = np.stack([axis.ravel() for axis in np.meshgrid(*(np.arange(n + 1) for n in runs), indexing="ij")])
    tables = {}
    for number, (held_out, right) in enumerate(zip(runs, outcomes, strict=True)):
        correct = np.arange(held_out)[:, None] < right
        keys = [f"{number}-{run}" for run in range(held_out)]
        tables[number / 100] = RunTable.from_arrays(np.zeros_like(correct), correct, correct[:, :1], keys)
    low, high = consistency_interval(tables)
    assert low.min() >= 0
    assert high.max() <= 1
    for shares in (
        (0,) * len(runs),
        (1,) * len(runs),
        (0.02,) * len(runs),
        (0.5,) * len(runs),
        (0.9, 0.5, 0.1)[: len(runs)],
    ):
        chance = np.prod([binom.pmf(x, n, p) for x, n, p in zip(outcomes, runs, shares, strict=True)], axis=0)
        truth = np.mean(shares)
        assert chance[(low <= truth + ROUNDING) & (truth - ROUNDING <= high)].sum() > 0.92, shares


def test_consistency_intervals_leave_out_ratios_without_runs():
    rng = np.random.default_rng(3)
    masks = [rng.random((30, 40)) < ratio for ratio in (0.5, 0.9)]
    masks[0][:, :20] = True  # never held out at the first ratio
    masks[0][:, 0] = masks[1][:, 0] = True  # at none
    correct = rng.random((30, 40)) < 0.7
    first, second = (RunTable.from_arrays(mask, correct, correct, mix_ratios=True) for mask in masks)
    tables = {table.subset_ratio: table for table in (first, second)}
    both = consistency_interval(tables)
    alone = consistency_interval(second)
    for end, expected in zip(both, alone, strict=True):
        np.testing.assert_array_equal(end[:20], expected[:20])
        assert np.isnan(end[0])
        assert not np.isnan(end[20:]).any()
    narrow = consistency_interval(tables, level=0.5)
    assert (both[0][20:] < narrow[0][20:]).all()
    assert (narrow[1][20:] < both[1][20:]).all()


def test_intervals_of_pairs_are_those_of_the_matrix():
    trained_on, _, correct_test = random_runs(90, 8, 6, seed=4)
    table = RunTable.from_arrays(trained_on, trained_on, correct_test, mix_ratios=True)
    train, test = [7, 0, 7, 3], [5, 0, 1, 1]
    for end, matrix in zip(pair_interval(table, train, test, 0.9), influence_interval(table, level=0.9), strict=True):
        np.testing.assert_array_equal(end, matrix[test, train])


def test_what_cannot_be_is_refused():
    table = RunTable.from_arrays(*random_runs(10, 4, 3, seed=6), mix_ratios=True)
    other = RunTable.from_arrays(*random_runs(10, 5, 3, seed=6), mix_ratios=True)
    for level in (0, 1, 95):
        with pytest.raises(DataError, match="level"):
            memorization_interval(table, level)
    with pytest.raises(DataError, match="one data set"):
        consistency_interval({0.6: table, 0.7: other})
    with pytest.raises(DataError, match=r"given for subset ratio 0\.1 has runs"):
        consistency_interval({0.1: table})
    with pytest.raises(DataError, match="run 0 is in two of the tables"):
        consistency_interval({table.subset_ratio: table, table.subset_ratio + 0.01: table})
    for wrong in ({}, None, [table, table]):
        with pytest.raises(DataError, match="expected a run table"):
            consistency_interval(wrong)
    with pytest.raises(DataError, match="expected pairs"):
        pair_interval(table, [0, 1], [0])
