"""The example of membership inference."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from heldout_torch.stats import OutputTable
from heldout_torch.stats.output_files import start_outputs, write_outputs

SCRIPT = Path(__file__).parents[2] / "examples" / "lira.py"
spec = importlib.util.spec_from_file_location("lira", SCRIPT)
lira = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lira)


def gaussian_runs(runs, examples, shift):
    """Scores whose best attack is known: N(m, 1) out of training and N(m + shift, 1) in it, m by example."""
    random = np.random.default_rng(0)
    trained_on = random.random((runs, examples)) < 0.5
    scores = random.normal(size=(runs, examples)) + random.normal(size=examples) * 5 + shift * trained_on
    return scores.astype(np.float32), trained_on


def attacks(scores, trained_on):
    """Evidence of the online and the offline attack on all runs, put together from its blocks."""
    nothing = np.zeros((len(scores), 1), np.float32)
    blocks = list(lira.attack(OutputTable.from_arrays(trained_on, nothing, scores)))
    online, offline, members = (np.concatenate(parts, axis=1) for parts in zip(*blocks, strict=True))
    np.testing.assert_array_equal(members, trained_on)
    return online, offline


def test_both_attacks_reach_what_theory_allows():
    scores, trained_on = gaussian_runs(301, 2000, 3.0)
    for evidence in attacks(scores, trained_on):
        reached = lira.tpr_at(lira.histogram(evidence, trained_on), 0.01)
        assert reached == pytest.approx(norm.sf(norm.isf(0.01) - 3.0), abs=0.03)


@pytest.mark.parametrize("few", [0, 64])  # variances by example, and pooled
def test_evidence_is_what_fitting_gaussians_run_by_run_gives(few, monkeypatch):
    monkeypatch.setattr(lira, "FEW", few)
    scores, trained_on = gaussian_runs(30, 11, 2.0)
    online, offline = attacks(scores, trained_on)
    for run in (0, 17):
        others = np.arange(30) != run
        fits = {}
        for side in (True, False):
            groups = [scores[others & (trained_on[:, i] == side), i].astype(float) for i in range(11)]
            one = sum(((g - g.mean()) ** 2).sum() for g in groups) / sum(len(g) - 1 for g in groups)
            fits[side] = [(g.mean(), np.sqrt(one) if few else g.std()) for g in groups]
        for i in range(11):
            expected = norm.logpdf(scores[run, i], *fits[True][i]) - norm.logpdf(scores[run, i], *fits[False][i])
            assert online[run, i] == pytest.approx(expected, rel=1e-6)
            assert offline[run, i] == pytest.approx(norm.logcdf(scores[run, i], *fits[False][i]), rel=1e-6)


def test_blocks_of_examples_do_not_matter(monkeypatch):
    scores, trained_on = gaussian_runs(20, 101, 2.0)
    whole = attacks(scores, trained_on)
    monkeypatch.setattr(lira, "SCORES", 20 * 7)
    for before, after in zip(whole, attacks(scores, trained_on), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-9)


def test_scores_that_know_nothing_give_chance():
    scores, trained_on = gaussian_runs(40, 3000, 0.0)
    for evidence in attacks(scores, trained_on):
        assert roc_auc_score(trained_on[7], evidence[7]) == pytest.approx(0.5, abs=0.04)


def test_the_attacked_run_is_no_shadow_model():
    scores, trained_on = gaussian_runs(20, 50, 2.0)
    changed = trained_on.copy()
    changed[3] = ~changed[3]
    for before, after in zip(attacks(scores, trained_on), attacks(scores, changed), strict=True):
        np.testing.assert_allclose(before[3], after[3], rtol=1e-9)


def test_rates_are_those_of_scikit_learn():
    random = np.random.default_rng(1)
    evidence, members = random.integers(-15, 15, 500) / 7, random.random(500) < 0.3
    false, true = lira.roc(lira.histogram(evidence, members))
    expected_false, expected_true, _ = roc_curve(members, evidence, drop_intermediate=False)
    np.testing.assert_allclose(false, expected_false)
    np.testing.assert_allclose(true, expected_true)


def test_examples_without_shadow_models_are_left_out():
    scores, trained_on = gaussian_runs(40, 4, 2.0)
    trained_on[:, 0] = True
    online, offline = attacks(scores, trained_on)
    assert np.isnan(online[:, 0]).all()
    assert np.isnan(offline[:, 0]).all()
    assert np.isfinite(online[:, 1:]).all()


@pytest.mark.parametrize("rate", ["-0.1", "1.1", "nan"])
def test_a_rate_that_is_none_is_wrong_usage(rate, monkeypatch, capsys):
    """It was a traceback, after the attack."""
    monkeypatch.setattr(sys, "argv", ["lira.py", "outputs", "--fpr", rate])
    with pytest.raises(SystemExit, match="2"):
        lira.main()
    assert f"--fpr is {rate}, expected 0 ... 1" in capsys.readouterr().err


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("trained_on", "expected"),
    [
        (np.ones((5, 6), bool), "offline: not measured; 0 members and 0 others"),
        (np.arange(5)[:, None] > 1 + np.zeros((5, 6)), "offline: not measured; 18 members and 0 others"),
        (np.arange(48).reshape(8, 6) % 7 % 2 == 0, "offline: TPR 1.0000 at FPR 0.001, AUC 1.0000, over 48"),
    ],
)
def test_nothing_is_measured_without_members_or_others(trained_on, expected, tmp_path, monkeypatch, capsys):
    """It was a traceback, or a true positive rate of 1; and where all shadow models agree, a warning of an overflow."""
    runs, n = trained_on.shape
    start_outputs(tmp_path / "outputs", [f"e/0.5/{run}" for run in range(runs)], n, 1)
    for run, mask in enumerate(trained_on):
        write_outputs(tmp_path / "outputs", f"e/0.5/{run}", mask, mask.astype(float), np.zeros(1))
    monkeypatch.setattr(sys, "argv", ["lira.py", str(tmp_path / "outputs")])
    lira.main()
    assert expected in capsys.readouterr().out


def test_it_needs_no_package_that_this_one_does_not():
    names = {line.split()[1].partition(".")[0] for line in SCRIPT.read_text().splitlines()
             if line.startswith(("import ", "from "))}  # fmt: skip
    assert names - set(sys.stdlib_module_names) == {"heldout_torch", "numpy", "torch"}
