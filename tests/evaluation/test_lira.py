"""The example of membership inference."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

SCRIPT = Path(__file__).parents[2] / "examples" / "lira.py"
spec = importlib.util.spec_from_file_location("lira", SCRIPT)
lira = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lira)


def gaussian_runs(runs, examples, shift, seed=0):
    """Scores whose best attack is known: N(m, 1) out of training and N(m + shift, 1) in it, m by example."""
    random = np.random.default_rng(seed)
    trained_on = random.random((runs, examples)) < 0.5
    scores = random.normal(size=(runs, examples)) + random.normal(size=examples) * 5 + shift * trained_on
    return scores.astype(np.float32), trained_on


def test_both_attacks_reach_what_theory_allows():
    scores, trained_on = gaussian_runs(301, 2000, 3.0)
    evidence = [lira.attack(scores, trained_on, target) for target in range(0, 301, 10)]
    members = trained_on[::10]
    for attack in (0, 1):
        reached = lira.tpr_at(np.stack([pair[attack] for pair in evidence]).ravel(), members.ravel(), 0.01)
        assert reached == pytest.approx(norm.sf(norm.isf(0.01) - 3.0), abs=0.03)


def test_scores_that_know_nothing_give_chance():
    scores, trained_on = gaussian_runs(40, 3000, 0.0)
    online, offline = lira.attack(scores, trained_on, 7)
    for evidence in (online, offline):
        assert roc_auc_score(trained_on[7], evidence) == pytest.approx(0.5, abs=0.04)


def test_the_attacked_run_is_no_shadow_model():
    scores, trained_on = gaussian_runs(20, 50, 2.0)
    changed = trained_on.copy()
    changed[3] = ~changed[3]
    for before, after in zip(lira.attack(scores, trained_on, 3), lira.attack(scores, changed, 3), strict=True):
        np.testing.assert_array_equal(before, after)


def test_rates_are_those_of_scikit_learn():
    random = np.random.default_rng(1)
    evidence, members = random.integers(0, 30, 500) / 7, random.random(500) < 0.3
    false, true = lira.roc(evidence, members)
    expected_false, expected_true, _ = roc_curve(members, evidence, drop_intermediate=False)
    np.testing.assert_allclose(false, expected_false)
    np.testing.assert_allclose(true, expected_true)


def test_examples_without_shadow_models_are_left_out():
    scores, trained_on = gaussian_runs(40, 4, 2.0)
    trained_on[:, 0] = True
    online, offline = lira.attack(scores, trained_on, 0)
    assert np.isnan(online).tolist()[0]
    assert np.isnan(offline).tolist()[0]
    assert np.isfinite(online[1:]).all()
