"""Datamodels are scikit-learn's regressions, and predict runs that were held back."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso, Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import cross_val_predict

from heldout_torch import DataError
from heldout_torch.stats import OutputTable, datamodels, influence, lds, top_influences
from tests.helpers.devices import on_devices
from tests.stats.test_attribution import linear_world

FOLDS = 4


@pytest.fixture(scope="module")
def world():
    return linear_world(60, 90, 12, seed=1, size=40)


def parts(runs):
    fold = np.arange(runs) % FOLDS
    return [(np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in range(FOLDS)]


def check(found, model, table, targets, strengths, atol):
    """Compare with a model of scikit-learn at each strength, chosen by hand."""
    masks = table.mask().astype(float)
    for row, j in enumerate(targets):
        margins = table.margins_test[:, j]
        predictions = [
            cross_val_predict(model(strength), masks, margins, cv=parts(table.runs)) for strength in strengths
        ]
        best = np.argmin([((predicted - margins) ** 2).sum() for predicted in predictions])
        assert found.strengths[row] == strengths[best]
        expected = model(strengths[best]).fit(masks, margins)
        np.testing.assert_allclose(found.weights[row], expected.coef_, atol=atol)
        assert found.intercepts[row] == pytest.approx(expected.intercept_, abs=10 * atol)
        assert found.r2[row] == pytest.approx(r2_score(margins, predictions[best]), abs=10 * atol)
        correlation = np.corrcoef(margins, predictions[best])[0, 1]
        assert found.correlation[row] == pytest.approx(correlation, abs=10 * atol)


def test_ridge_is_that_of_scikit_learn(world):
    table, _ = world
    strengths = [0.1, 1.0, 5.0, 20.0, 200.0]
    found = datamodels(table, strengths=strengths, folds=FOLDS)
    assert len(set(found.strengths)) > 1
    check(found, Ridge, table, range(12), strengths, 1e-5)


@on_devices
@pytest.mark.parametrize("allowed", ["autocast", "products in fewer bits"])
def test_what_a_program_allows_changes_no_estimate_by_margins(world, device, allowed):
    """Within autocast, numbers of shared examples had eight bits, and in TF32 the weights of datamodels had eleven."""
    table, _ = world

    def estimates():
        influences = influence(table, dtype="float32", device=device), top_influences(table, 3, device=device).influence
        return datamodels(table, folds=FOLDS, device=device).weights, *influences

    expected = estimates()
    if allowed == "autocast":
        with torch.autocast(device, dtype=torch.bfloat16):
            found = estimates()
    else:
        torch.set_float32_matmul_precision("medium" if device == "cpu" else "high")
        try:
            found = estimates()
        finally:
            torch.set_float32_matmul_precision("highest")
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_ridge_with_more_runs_than_examples(world):
    table, _ = linear_world(60, 20, 5, seed=2)
    check(datamodels(table, [3, 1], strengths=[0.5, 3], folds=FOLDS), Ridge, table, [3, 1], [0.5, 3], 1e-5)


@pytest.mark.parametrize(("runs", "examples"), [(200, 50), (40, 15), (40, 39), (30, 60)])
def test_a_small_penalty_is_least_squares(runs, examples):
    """With more runs than examples, weights at 1e-6 were eight times as large as they should be."""
    table, _ = linear_world(runs, examples, 3, seed=6)
    centred = table.mask() - table.mask().mean(0)
    expected = np.linalg.lstsq(centred, table.margins_test - table.margins_test.mean(0), rcond=1e-10)[0].T
    for strength in (1e-6, 1e-12, 1e-300):
        found = datamodels(table, strengths=[strength], folds=2)
        np.testing.assert_allclose(found.weights, expected, atol=1e-4 * np.abs(expected).max())
        assert np.isfinite(found.r2).all()


def test_lasso_is_that_of_scikit_learn(world):
    table, _ = world
    strengths = [0.01, 0.03, 0.1]
    found = datamodels(table, [4, 7], "lasso", strengths=strengths, folds=FOLDS)
    check(found, lambda strength: Lasso(strength, max_iter=10_000, tol=1e-6), table, [4, 7], strengths, 2e-3)
    assert (found.weights == 0).any()


@pytest.mark.parametrize("penalty", ["ridge", "lasso"])
def test_what_all_margins_have_in_common_is_the_intercept(world, penalty):
    """With 1e5 more, the weights of `lasso` differed by 0.002, and with 1e7 by 0.4."""
    table, _ = world
    moved = OutputTable.from_arrays(table.mask(), table.margins_test + 1e7)
    found, expected = (datamodels(one, [0, 1], penalty, folds=FOLDS) for one in (moved, table))
    np.testing.assert_allclose(found.weights, expected.weights, atol=1e-6)
    np.testing.assert_allclose(found.r2, expected.r2, atol=1e-5)
    np.testing.assert_allclose(found.intercepts - 1e7, expected.intercepts, atol=1e-5)


@pytest.mark.parametrize("penalty", ["ridge", "lasso"])
@pytest.mark.parametrize("strengths", [None, [0.03, 0.1]])
def test_margins_of_another_size_have_weights_of_that_size(world, penalty, strengths):
    table, _ = world
    size = 2.0**90  # some 1e27, whose square is no float32
    larger = OutputTable.from_arrays(table.mask(), table.margins_test.astype(np.float32) * np.float32(size))
    # A penalty on absolute values grows with the margins, one on squares is the same.
    scaled = strengths and [strength * (size if penalty == "lasso" else 1) for strength in strengths]
    found = datamodels(larger, [0, 1], penalty, strengths=scaled, folds=FOLDS)
    expected = datamodels(table, [0, 1], penalty, strengths=strengths, folds=FOLDS)
    np.testing.assert_allclose(found.weights / np.float32(size), expected.weights, atol=1e-5)
    np.testing.assert_allclose(found.intercepts / size, expected.intercepts, atol=1e-4)
    np.testing.assert_allclose(found.r2, expected.r2, atol=1e-4)


def test_default_penalties_predict_better_than_differences_of_means():
    table, _ = linear_world(400, 200, 40, seed=3)
    held_back = linear_world(400, 200, 40, seed=4)[0]
    found = datamodels(table)
    assert lds(found.weights, held_back).mean > lds(influence(table), held_back).mean + 0.02
    assert found.r2.min() > 0
    predicted = held_back.mask() @ found.weights.T + found.intercepts
    r2 = r2_score(held_back.margins_test, predicted, multioutput="raw_values")
    np.testing.assert_allclose(r2.mean(), found.r2.mean(), atol=0.05)


def test_many_examples_and_targets_come_in_blocks(tmp_path):
    masks = np.random.default_rng(5).random((12, 9000)) < 0.5
    margins = np.random.default_rng(6).normal(0, 1, (12, 2100))
    table = OutputTable.from_arrays(masks, margins)
    out = np.lib.format.open_memmap(tmp_path / "weights.npy", "w+", np.float32, (2100, 9000))
    found = datamodels(table, strengths=[100.0], folds=2, out=out)
    assert found.weights is out
    for j in (0, 2047, 2048, 2099):
        expected = Ridge(100.0).fit(masks.astype(float), margins[:, j])
        np.testing.assert_allclose(out[j], expected.coef_, atol=1e-6)
        assert found.intercepts[j] == pytest.approx(expected.intercept_, abs=1e-4)


def test_a_constant_margin_has_no_weights_and_no_r2(world):
    table, _ = world
    margins = table.margins_test.copy()
    margins[:, 2] = 4.5
    found = datamodels(OutputTable.from_arrays(table.mask(), margins))
    assert np.abs(found.weights[2]).max() == 0
    assert found.intercepts[2] == 4.5
    assert np.isnan([found.r2[2], found.correlation[2]]).all()
    assert np.isfinite(np.delete(found.r2, 2)).all()


def test_what_cannot_be_is_refused(world):
    table, _ = world
    for options, message in (
        ({"folds": 1}, "two folds"),
        ({"folds": 2.5}, "folds is 2.5, expected a number from 1"),
        ({"folds": 31}, "two runs in each; take more runs, or fewer folds"),
        ({"strengths": []}, "above 0"),
        ({"strengths": [1.0, 0.0]}, "above 0"),
        ({"strengths": [np.nan]}, "above 0"),
        ({"strengths": [1.0, np.nan]}, "above 0"),
        ({"strengths": [np.inf]}, "above 0"),
        ({"strengths": 1.0}, "a list of one or more numbers above 0"),
        ({"strengths": ["a"]}, "above 0"),
        ({"strengths": [[1.0, 2.0]]}, "above 0"),
        ({"out": [1.0]}, r"out is \[1.0\], expected writeable"),
        ({"out": np.empty((12, 90), np.float32, "F")}, "expected writeable C-contiguous"),
        ({"penalty": "none"}, "'ridge' or 'lasso'"),
        ({"out": np.empty((12, 90))}, "out is float64"),
        ({"targets": [12]}, "targets"),
    ):
        with pytest.raises(DataError, match=message):
            datamodels(table, **options)


@pytest.mark.parametrize("penalty", ["ridge", "lasso"])
def test_runs_that_trained_on_the_same_examples_tell_nothing(world, penalty):
    table, _ = world
    same = OutputTable.from_arrays(np.repeat(table.mask([0]), table.runs, 0), table.margins_test)
    with pytest.raises(DataError, match="runs trained on the same examples"):
        datamodels(same, [0], penalty)
