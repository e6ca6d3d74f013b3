"""Accuracies of runs and ratios, and the warning where training did not fit."""

import warnings

import numpy as np
import pandas
import pytest

from heldout_torch.stats import (
    ExampleFacts,
    RunTable,
    accuracy_columns,
    class_summary,
    classwise_influence,
    consistency,
    influence,
    influence_pairs,
    memorization,
    memorization_scores,
    reliability,
    run_accuracies,
    stratified_influence,
    top_influences,
)
from heldout_torch.storage.notebook import data_frame


def table_of(seed, runs=70, n=30, m=11):
    rng = np.random.RandomState(seed)
    arrays = rng.rand(runs, n) < 0.5, rng.rand(runs, n) < 0.7, rng.rand(runs, m) < 0.6
    return RunTable.from_arrays(*arrays, mix_ratios=True), *arrays


def test_accuracies_are_the_means_over_each_run_s_examples():
    table, trained, correct, test = table_of(0)
    found = run_accuracies(table)
    np.testing.assert_allclose(found.train, [row[mask].mean() for row, mask in zip(correct, trained, strict=True)])
    np.testing.assert_allclose(found.removed, [row[~mask].mean() for row, mask in zip(correct, trained, strict=True)])
    np.testing.assert_allclose(found.test, test.mean(axis=1))
    frame = table.to_pandas()
    np.testing.assert_array_equal(frame["accuracy_test"], found.test)
    np.testing.assert_array_equal(frame["subset_size"], trained.sum(1))
    assert frame["run"].tolist() == list(table.keys)


def test_the_results_table_has_mean_and_spread_by_ratio():
    tables = {0.7: table_of(1)[0], 0.3: table_of(2, runs=20)[0]}
    frame = data_frame(accuracy_columns({ratio: run_accuracies(table) for ratio, table in tables.items()}))
    assert frame["subset_ratio"].tolist() == [0.3, 0.7]
    assert frame["runs"].tolist() == [20, 70]
    for place, ratio in enumerate((0.3, 0.7)):
        for part in ("train", "removed", "test"):
            expected = pandas.Series(getattr(run_accuracies(tables[ratio]), part))
            found = frame.loc[place, [f"{part}_{figure}" for figure in ("mean", "deviation", "least", "most")]]
            np.testing.assert_allclose(
                found.to_numpy(float), [expected.mean(), expected.std(ddof=0), expected.min(), expected.max()]
            )


def fitting(share, runs=8, n=100):
    """Runs that are right on this share of what they trained on, and on nothing else."""
    trained = np.broadcast_to(np.arange(n) < n // 2, (runs, n))
    correct = np.broadcast_to(np.arange(n) < n // 2 * share, (runs, n))
    return RunTable.from_arrays(trained, correct, correct)


STATISTICS = {
    "memorization": memorization,
    "memorization_scores": lambda table: memorization_scores(table, ExampleFacts(table.train_examples)),
    "influence": influence,
    "a few influences": lambda table: influence(table, [1], [2]),
    "pairs": lambda table: influence_pairs(table, same_class=False),
    "top": lambda table: top_influences(table, 1),
    "within classes": lambda table: list(classwise_influence(table, *2 * [np.zeros(100, int)])),
    "stratified": lambda table: stratified_influence({0.5: table}),
    "of classes": lambda table: class_summary(table, *2 * [np.zeros(100, int)]),
    "halves": lambda table: reliability(table, lambda half: np.nan_to_num(memorization(half))),
}


@pytest.mark.parametrize("share", [0.5, 0.94, 0.96, 1.0])
@pytest.mark.parametrize("statistic", STATISTICS.values(), ids=STATISTICS)
def test_runs_that_did_not_fit_are_warned_of_once_with_the_figure(share, statistic):
    """Only the verbs and the report said so."""
    table = fitting(share)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        statistic(table)
        statistic(table)
    assert len(found) == (share < 0.95)
    for warning in found:
        assert f"classify only {share:.1%} of the examples that they trained on correctly" in str(warning.message)
        assert warning.filename == __file__


def test_scores_of_examples_held_out_do_not_suppose_a_fit():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        consistency(fitting(0.5))
