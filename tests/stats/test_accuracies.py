"""Accuracies of runs and ratios, and the warning where training did not fit."""

import numpy as np
import pandas
import pytest

from heldout_torch.stats import RunTable, accuracy_columns, run_accuracies
from heldout_torch.stats.accuracies import fit_warning
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


@pytest.mark.parametrize("share", [0.5, 0.94, 0.96, 1.0])
def test_runs_that_did_not_fit_are_warned_of_with_the_figure(share):
    trained = np.broadcast_to(np.arange(100) < 50, (4, 100))
    correct = np.broadcast_to(np.arange(100) < 50 * share, (4, 100))
    warning = fit_warning(run_accuracies(RunTable.from_arrays(trained, correct, correct)), 0.5)
    assert (warning is not None) == (share < 0.95)
    if warning is not None:
        assert f"right on {share:.1%} of the examples that they trained on" in warning
