"""Results are shown in one line, whatever they hold."""

import numpy as np

from heldout_torch.stats import (
    OutputTable,
    RunTable,
    StratifiedEstimate,
    class_summary,
    classwise_influence,
    consistency,
    datamodels,
    example_counts,
    histogram,
    lds,
    memorization,
    run_accuracies,
    top_influences,
)
from tests.stats.reference import random_runs


def test_results_are_one_short_line():
    table = RunTable.from_arrays(*random_runs(40, 2000, 1500, seed=0), mix_ratios=True)
    labels = np.arange(2000) % 3, np.arange(1500) % 3
    results = [example_counts(table), consistency(table), top_influences(table, 3), histogram(memorization(table))]
    for result in [*results, run_accuracies(table), next(classwise_influence(table, *labels))]:
        shown = repr(result)
        assert len(shown) < 250
        assert "\n" not in shown
        assert shown.startswith(f"{type(result).__name__}(")
    strata = StratifiedEstimate(np.zeros(2000, np.float32), np.zeros(2000, np.float32))
    outputs = OutputTable.from_arrays(table.mask(), np.random.default_rng(0).random((40, 2)))
    fitted = [lds(np.ones((2, 2000)), outputs, resamples=2), datamodels(outputs, folds=2)]
    for result in (class_summary(table, *labels), strata, *fitted):
        assert len(repr(result)) < 250
        assert "\n" not in repr(result)
    assert "index=int64 (1500, 3)" in repr(results[2])
