"""Slow and obvious: the published formulas over boolean arrays, by loops and sums, to compare with."""

import warnings

import numpy as np


def random_runs(runs, n, m, seed, ratio=0.7):
    """Masks and correctness with examples that were never in (0) and never out (1)."""
    rng = np.random.default_rng(seed)
    trained_on = rng.random((runs, n)) < ratio
    if n > 2:
        trained_on[:, 0], trained_on[:, 1] = False, True
    return trained_on, rng.random((runs, n)) < rng.random(n), rng.random((runs, m)) < rng.random(m)


def count_by_hand(trained_on, correct_test):
    """Common runs of each test and training example, one at a time in Python."""
    runs, n, m = *trained_on.shape, correct_test.shape[1]
    counts = [
        [sum(bool(trained_on[r, i]) and bool(correct_test[r, j]) for r in range(runs)) for i in range(n)]
        for j in range(m)
    ]
    return np.array(counts, np.int32).reshape(m, n)


def mean_over(values, mask):
    """Mean over the runs of a mask; NaN over none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.nanmean(np.where(mask, values, np.nan), axis=0)


def memorization_formula(trained_on, correct_train):
    return mean_over(correct_train, trained_on) - mean_over(correct_train, ~trained_on)


def influence_formula(trained_on, correct_test):
    """(test, train), by matrix products over float64 masks."""
    with np.errstate(invalid="ignore", divide="ignore"):
        inside = correct_test.T.astype(float) @ trained_on / trained_on.sum(0)
        outside = correct_test.T.astype(float) @ ~trained_on / (~trained_on).sum(0)
    return inside - outside
