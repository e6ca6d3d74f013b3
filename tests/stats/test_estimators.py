"""Estimates against the published formulas, computed by hand; on the CPU, and on CUDA where there is one.

Also of stats/counting/axis.py, stats/selection.py.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heldout_torch import DataError
from heldout_torch.stats import (
    RunTable,
    consistency,
    example_counts,
    influence,
    influence_counts,
    memorization,
    memorization_error,
    top_influences,
)
from tests.helpers.devices import on_cuda
from tests.stats.reference import (
    count_by_hand,
    influence_formula,
    mean_over,
    memorization_formula,
    random_runs,
)

RUNS = st.one_of(st.sampled_from([1, 2, 63, 64, 65]), st.integers(1, 200))


def table_of(runs, n, m, seed, ratio=0.7):
    arrays = random_runs(runs, n, m, seed, ratio)
    return RunTable.from_arrays(*arrays, mix_ratios=True), *arrays


@settings(max_examples=40, deadline=None)
@given(RUNS, st.integers(1, 37), st.integers(1, 19), st.integers(0, 2**32))
def test_counts_equal_counting_by_hand(runs, n, m, seed):
    table, trained_on, correct_train, correct_test = table_of(runs, n, m, seed)
    assert np.array_equal(influence_counts(table), count_by_hand(trained_on, correct_test))
    counts = example_counts(table)
    assert counts.trained_on.tolist() == [sum(map(bool, column)) for column in trained_on.T]
    assert np.array_equal(counts.held_out, runs - counts.trained_on)
    assert np.array_equal(counts.correct_trained_on, (trained_on & correct_train).sum(0))
    assert np.array_equal(counts.correct_held_out, (~trained_on & correct_train).sum(0))


@pytest.mark.parametrize("shape", [(2, 3, 1), (64, 1023, 255), (129, 1025, 257), (70, 2100, 1030)])
def test_influence_equals_the_formula_at_sizes_around_blocks(shape):
    table, trained_on, _, correct_test = table_of(*shape, seed=1)
    estimate = influence(table)
    assert estimate.shape == (shape[2], shape[1])
    assert estimate.dtype == np.float32
    np.testing.assert_allclose(estimate, influence_formula(trained_on, correct_test), atol=1e-6)
    assert np.isnan(estimate[:, :2]).all()  # one was never in, one never out


def test_influence_of_a_hundred_thousand_runs_equals_the_formula():
    table, trained_on, _, correct_test = table_of(100_000, 3, 2, 0, 0.5)
    np.testing.assert_allclose(influence(table), influence_formula(trained_on, correct_test), atol=1e-6)


@on_cuda
@pytest.mark.parametrize("runs", [20, 60, 2000])
def test_equal_accuracies_differ_by_exactly_0(runs, device):
    trained_on, _, correct = random_runs(runs, 300, 3, 2, 0.7)
    correct[:, 0], correct[:, 1] = True, False  # whoever was trained on what
    table = RunTable.from_arrays(trained_on, np.ones_like(trained_on), correct, mix_ratios=True)
    for where in ("cpu", device):
        estimate, top = influence(table, device=where), top_influences(table, k=3, device=where)
        known = np.flatnonzero(~np.isnan(estimate[0]))
        assert not estimate[:2, known].any()
        assert top.index[:2].tolist() == [known[:3].tolist()] * 2  # of equals the first
        np.testing.assert_allclose(estimate, influence_formula(trained_on, correct), rtol=2e-7)


@on_cuda
def test_influence_is_the_same_on_every_device(device):
    table, *_ = table_of(333, 5000, 1234, seed=2)
    np.testing.assert_array_equal(influence(table), influence(table, device=device))


def test_memorization_equals_the_formula():
    table, trained_on, correct_train, _ = table_of(130, 999, 1, seed=3)
    estimate = memorization(table)
    assert estimate.dtype == np.float32
    np.testing.assert_allclose(estimate, memorization_formula(trained_on, correct_train), atol=1e-6)
    assert np.isnan(estimate[:2]).all()


def test_examples_that_all_runs_classify_alike_have_a_memorization_of_0_and_no_error():
    trained_on = np.random.default_rng(0).random((98, 300)) < 0.5  # 49 runs on some side: 49 * (1 / 49) is not 1
    correct = np.ones_like(trained_on)
    table = RunTable.from_arrays(trained_on, correct, correct[:, :2], mix_ratios=True)
    assert (trained_on.sum(0) == 49).any()
    assert not memorization(table).any()
    assert not memorization_error(table).any()
    assert (consistency(table).scores == 1).all()
    assert not consistency(table).standard_error.any()


def test_empty_zero_takes_a_mean_over_no_runs_for_zero_as_the_published_demo_does():
    table, trained_on, correct_train, correct_test = table_of(50, 9, 7, seed=4)
    inside, outside = np.maximum(trained_on.sum(0), 1e-10), np.maximum((~trained_on).sum(0), 1e-10)
    expected = (correct_train * trained_on).sum(0) / inside - (correct_train * ~trained_on).sum(0) / outside
    np.testing.assert_allclose(memorization(table, empty="zero"), expected, atol=1e-6)
    expected = (correct_test.T @ trained_on.astype(float)) / inside - (
        correct_test.T @ (~trained_on).astype(float)
    ) / outside
    np.testing.assert_allclose(influence(table, empty="zero"), expected, atol=1e-6)


@pytest.mark.parametrize("selection", [[5, 0, 5], slice(3, 20, 4), np.arange(30) % 3 == 0, [29], []])
def test_influence_takes_any_selection(selection):
    table, *_ = table_of(65, 30, 30, seed=5)
    whole = influence(table)
    index = np.array(selection, int) if isinstance(selection, list) else selection
    np.testing.assert_array_equal(influence(table, train=selection), whole[:, index])
    np.testing.assert_array_equal(influence(table, test=selection), whole[index])


def test_influence_fills_a_memory_map(tmp_path):
    table, *_ = table_of(65, 30, 20, seed=6)
    out = np.lib.format.open_memmap(tmp_path / "influence.npy", "w+", np.float32, (20, 30))
    assert influence(table, out=out) is out
    out.flush()
    np.testing.assert_array_equal(np.load(tmp_path / "influence.npy"), influence(table))


@pytest.mark.parametrize("out", [np.empty((20, 30)), np.empty((30, 20), np.float32), np.empty((30, 20), np.float32).T])
def test_influence_refuses_an_output_that_does_not_fit(out):
    with pytest.raises(DataError, match=r"expected writeable C-contiguous float32 \(20, 30\)"):
        influence(table_of(65, 30, 20, seed=6)[0], out=out)


def test_influence_refuses_examples_that_do_not_exist():
    with pytest.raises(DataError, match=r"train: cannot select \[30\] from 0 ... 29"):
        influence(table_of(65, 30, 20, seed=6)[0], train=[30])


@pytest.mark.parametrize("statistic", [memorization, influence])
def test_one_run_alone_gives_no_estimate(statistic):
    table = RunTable.from_arrays(*random_runs(1, 5, 5, 0), keys=["lonely/0.7/3"])
    with pytest.raises(DataError, match=r"run lonely/0\.7/3 is the only one"):
        statistic(table)


def test_unknown_treatment_of_empty_groups_is_refused():
    with pytest.raises(DataError, match="empty is 'none'"):
        memorization(table_of(5, 5, 5, seed=0)[0], empty="none")


@pytest.fixture(scope="module")
def by_ratio():
    """Tables of three ratios, and the scores of each; two of the examples are held out at one ratio or at none."""
    tables, scores = {}, []
    for k, ratio in enumerate([0.9, 0.3, 0.5]):
        trained_on, correct_train, correct_test = random_runs(70, 400, 3, seed=k, ratio=ratio)
        trained_on[:, 1] = ratio != 0.5  # held out at one ratio only
        trained_on[:, 2] = True  # never held out
        tables[ratio] = RunTable.from_arrays(trained_on, correct_train, correct_test, mix_ratios=True)
        scores.append(mean_over(correct_train, ~trained_on))
    return tables, np.array(scores)


def test_consistency_is_the_mean_over_the_ratios_that_held_an_example_out(by_ratio):
    tables, scores = by_ratio
    result = consistency(tables)
    assert result.ratios.tolist() == [0.3, 0.5, 0.9]
    np.testing.assert_allclose(result.per_ratio, scores[[1, 2, 0]], atol=1e-6)
    assert result.ratios_counted[:4].tolist() == [3, 1, 0, 3]
    np.testing.assert_allclose(result.scores, mean_over(scores, np.isfinite(scores)), atol=1e-6)
    assert np.isnan(result.scores).tolist() == [i == 2 for i in range(400)]


def test_the_error_of_consistency_is_that_of_a_mean_of_sample_means(by_ratio):
    tables, _ = by_ratio
    error = consistency(tables).standard_error
    for i in range(0, 400, 7):
        variances = []
        for table in tables.values():
            held_out = table.correct("train")[~table.mask()[:, i], i]
            if len(held_out):
                variances.append(held_out.var(ddof=1) / len(held_out) if len(held_out) > 1 else np.nan)
        expected = np.sqrt(sum(variances)) / len(variances) if variances else np.nan
        assert error[i] == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_empty_zero_averages_a_0_in_as_the_published_demo_does(by_ratio):
    tables, scores = by_ratio
    result = consistency(tables, empty="zero")
    np.testing.assert_allclose(result.scores, np.nan_to_num(scores).mean(0), atol=1e-6)  # 0 / 1e-10, then the mean
    assert result.scores[1] == pytest.approx(scores[2, 1] / 3)
    assert result.scores[2] == 0
    known = np.isfinite(consistency(tables).standard_error)
    whole = result.ratios_counted == 3
    np.testing.assert_array_equal(
        result.standard_error[whole & known], consistency(tables).standard_error[whole & known]
    )


def test_consistency_refuses_tables_that_are_not_of_their_ratio_or_come_twice(by_ratio):
    tables, _ = by_ratio
    with pytest.raises(DataError, match=r"given for subset ratio 0\.9 has runs that trained on a share of 0\.[23]"):
        consistency({0.9: tables[0.3]})
    with pytest.raises(DataError, match="run 0 is in two of the tables"):
        consistency({0.49: tables[0.5], 0.51: tables[0.5]})
    named = RunTable.from_arrays(*random_runs(5, 400, 3, 0, 0.5), [f"a/0.5/{r}" for r in range(5)], mix_ratios=True)
    with pytest.raises(DataError, match=r"run a/0\.5/2 is in two of the tables"):
        consistency({0.49: named, 0.51: named.select_runs([2])})
    for wrong in ([tables[0.3], tables[0.5]], None, {"many": tables[0.3]}, {0.3: "table"}):
        with pytest.raises(DataError, match=r"expected .*a run table") as told:
            consistency(wrong)
        assert "no tables" not in str(told.value)


def test_consistency_of_one_table_and_of_none():
    table, trained_on, correct_train, _ = table_of(70, 40, 3, seed=1)
    np.testing.assert_allclose(consistency(table).scores, mean_over(correct_train, ~trained_on), atol=1e-6)
    with pytest.raises(DataError, match="no tables given, expected a run table"):
        consistency({})


def test_consistency_refuses_tables_of_different_data_sets():
    small, large = (table_of(90, n, 3, seed=1, ratio=ratio)[0] for n, ratio in ((300, 0.3), (400, 0.5)))
    with pytest.raises(DataError, match="400 training and 3 test examples, run 0 has 300 and 3"):
        consistency({0.3: small, 0.5: large})
