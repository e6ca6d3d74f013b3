"""Groups, classes, removal curves and mislabelled examples, against plain loops over runs."""

import numpy as np
import pytest
import torch
from dattri.metric import mislabel_detection_auc
from sklearn.metrics import roc_auc_score

from heldout_torch import DataError
from heldout_torch.stats import (
    OutputTable,
    RunTable,
    brittleness,
    class_summary,
    group_influence,
    influence,
    memorization,
    mislabel_auc,
    removal_curves,
    top_influences,
)
from tests.stats.reference import random_runs

RUNS, N, M = 50, 14, 8


@pytest.fixture(params=["bits", "outputs"])
def world(request):
    """A table, its masks and what its runs do on the test set."""
    trained_on, correct_train, correct_test = random_runs(RUNS, N, M, seed=1, ratio=0.5)
    if request.param == "bits":
        return RunTable.from_arrays(trained_on, correct_train, correct_test, mix_ratios=True), trained_on, correct_test
    rng = np.random.default_rng(2)
    train, test = correct_train + rng.normal(0, 1, (RUNS, N)), correct_test + rng.normal(0, 1, (RUNS, M))
    return OutputTable.from_arrays(trained_on, test, train), trained_on, test


def test_group_influence_is_the_mean_of_influences(world):
    table, _, _ = world
    group = [3, 0, 9, 10]  # 0 was never trained on
    expected = np.nanmean(influence(table).astype(float)[:, group], axis=1)
    np.testing.assert_allclose(group_influence(table, group), expected, atol=1e-5)
    np.testing.assert_allclose(group_influence(table, group, [6, 2]), expected[[6, 2]], atol=1e-5)
    assert np.isnan(group_influence(table, [0])).all()
    with pytest.raises(DataError, match="group names no example"):
        group_influence(table, [])
    with pytest.raises(DataError, match="group names an example twice"):
        group_influence(table, [3, 0, 3])


def test_classes_are_means_over_their_examples(world):
    table, _, _ = world
    labels_train, labels_test = np.arange(N) % 3 + 4, np.arange(M) % 2 * 2 + 4  # 5 has no test, all classes have others
    summary = class_summary(table, labels_train, labels_test)
    assert summary.labels.tolist() == [4, 5, 6]
    matrix, memorized = influence(table), memorization(table)
    for column, label in enumerate(summary.labels):
        expected = np.nanmean(memorized[labels_train == label])
        assert summary.memorization[column] == pytest.approx(expected, abs=1e-5)
        for row, other in enumerate(summary.labels):
            block = matrix[labels_test == other][:, labels_train == label]
            if other == 5:
                assert np.isnan(summary.influence[row, column])
            else:
                assert summary.influence[row, column] == pytest.approx(np.nanmean(block), abs=1e-5)


def test_removal_curves_are_means_over_runs_that_lack_examples(world):
    table, trained_on, values = world
    ranking = np.array([[5, 7, 3, 12, 4], [2, 0, 1, 6, 3], [9, 8, -1, -1, -1]])
    curves = removal_curves(table, ranking, [6, 0, 3])
    for row, test in enumerate((6, 0, 3)):
        for k in range(6):
            chosen = ranking[row, :k]
            if (chosen < 0).any():
                assert curves.runs[row, k] == 0
                assert np.isnan(curves.outcome[row, k])
                continue
            found = values[[run for run in range(RUNS) if not any(trained_on[run, i] for i in chosen)], test]
            assert curves.runs[row, k] == len(found)
            if len(found):
                assert curves.outcome[row, k] == pytest.approx(found.mean())
            else:
                assert np.isnan(curves.outcome[row, k])
            if len(found) > 1:
                expected = found.std(ddof=1) / np.sqrt(len(found))
                assert curves.standard_error[row, k] == pytest.approx(expected, abs=1e-9)
            else:
                assert np.isnan(curves.standard_error[row, k])


def test_brittleness_finds_how_many_support_a_test_example():
    """Test example j is right as long as at least one of its j + 1 training examples is there."""
    rng = np.random.default_rng(3)
    trained_on = rng.random((2000, 10)) < 0.5
    groups = [range(j * (j + 1) // 2, (j + 1) * (j + 2) // 2) for j in range(4)]  # of sizes 1 ... 4
    correct = np.stack([trained_on[:, group].any(1) for group in groups], axis=1)
    table = RunTable.from_arrays(trained_on, trained_on, correct, mix_ratios=True)
    even, odd = table.select_runs(slice(0, None, 2)), table.select_runs(slice(1, None, 2))
    curves = removal_curves(odd, top_influences(even, 5).index)
    assert brittleness(curves, below=0.2).tolist() == [1, 2, 3, 4]
    assert brittleness(curves, below=0.2, min_runs=200).tolist() == [1, 2, -1, -1]
    assert brittleness(curves, below=0).tolist() == [-1] * 4


def test_brittleness_is_the_first_mean_below_over_enough_runs(world):
    table, _, _ = world
    curves = removal_curves(table, np.argsort(-influence(table)[:, 2:], axis=1)[:, :4] + 2)
    for below, min_runs in ((0.5, 1), (0.5, 6), (0.7, 10), (0.3, 3)):
        for lost, outcome, runs in zip(brittleness(curves, below, min_runs), curves.outcome, curves.runs, strict=True):
            expected = [k for k in range(5) if runs[k] >= min_runs and outcome[k] < below]
            assert lost == (expected[0] if expected else -1)


def test_auc_is_scikit_learns_and_dattris():
    rng = np.random.default_rng(4)
    wrong = rng.random(200) < 0.2
    scores = np.round(rng.normal(wrong, 1), 1)  # with ties
    assert mislabel_auc(scores, wrong) == pytest.approx(roc_auc_score(wrong, scores))
    untied = rng.normal(wrong, 1)
    area, _ = mislabel_detection_auc(torch.from_numpy(untied), torch.from_numpy(wrong))
    assert mislabel_auc(untied, wrong) == pytest.approx(float(area), abs=1e-5)
    scores[:50] = np.nan
    assert mislabel_auc(scores, wrong) == pytest.approx(roc_auc_score(wrong[50:], scores[50:]))
    assert np.isnan(mislabel_auc(scores, np.zeros(200, bool)))
    assert mislabel_auc(wrong.astype(float), wrong) == 1


def test_what_cannot_be_is_refused(world):
    table, _, _ = world
    for ranking in (np.zeros((3, 2), int), np.zeros(M, int), np.zeros((M, 2))):
        with pytest.raises(DataError, match="ranking is"):
            removal_curves(table, ranking)
    for bad in (N, -2):
        with pytest.raises(DataError, match="outside 0"):
            removal_curves(table, np.full((M, 2), bad))
    with pytest.raises(DataError, match="labels_test"):
        class_summary(table, np.zeros(N, int), np.zeros(M))
    with pytest.raises(DataError, match="mislabelled"):
        mislabel_auc(np.zeros(4), np.zeros(4))
