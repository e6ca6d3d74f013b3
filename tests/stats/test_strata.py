"""Several subset ratios: no influence where there is none, and the estimates of each ratio weighed by hand."""

import numpy as np
import pytest

from heldout_torch import DataError
from heldout_torch.stats import (
    OutputTable,
    RunTable,
    influence,
    memorization,
    split_by_ratio,
    stratified_influence,
    stratified_memorization,
)


def several_ratios(runs_by_ratio, n, m, gain, seed):
    """Runs that are right 0.2 + 0.7 x ratio of the time, and `gain` more often on what they trained on."""
    rng = np.random.default_rng(seed)
    masks, train, test = [], [], []
    for ratio, runs in runs_by_ratio.items():
        for _ in range(runs):
            mask = np.zeros(n, bool)
            mask[rng.choice(n, round(n * ratio), replace=False)] = True
            share = 0.1 + 0.7 * ratio
            masks.append(mask)
            train.append(rng.random(n) < share + gain * mask)
            test.append(rng.random(m) < share + gain * mask[:m])
    return tuple(map(np.array, (masks, train, test)))


@pytest.fixture(params=["bits", "outputs"])
def kind(request):
    if request.param == "bits":
        return lambda masks, train, test: RunTable.from_arrays(masks, train, test, mix_ratios=True)
    return lambda masks, train, test: OutputTable.from_arrays(masks, test.astype(float), train.astype(float))


def test_ratios_mixed_show_no_memorization_where_there_is_none(kind):
    table = kind(*several_ratios({0.1: 300, 0.9: 300}, 100, 60, gain=0.0, seed=1))
    assert np.mean(memorization(table)) > 0.3  # which is wrong, and why strata are needed
    found = stratified_memorization(table)
    assert abs(found.estimate.mean()) < 0.01
    assert (np.abs(found.estimate) < 1.96 * found.standard_error).mean() == pytest.approx(0.95, abs=0.06)
    assert abs(stratified_influence(table).estimate.mean()) < 0.01


def test_gains_that_are_there_are_found(kind):
    table = kind(*several_ratios({0.3: 200, 0.5: 300, 0.8: 150}, 60, 40, gain=0.15, seed=2))
    found = stratified_memorization(table)
    assert found.estimate.mean() == pytest.approx(0.15, abs=0.01)
    deviation = (found.estimate - 0.15) / found.standard_error
    assert deviation.std() == pytest.approx(1, abs=0.2)
    matrix = stratified_influence(table)
    own = np.arange(40)
    assert matrix.estimate[own, own].mean() == pytest.approx(0.15, abs=0.02)
    some = stratified_influence(table, [5, 50], [3, 39])
    np.testing.assert_allclose(some.estimate, matrix.estimate[np.ix_([3, 39], [5, 50])], atol=1e-6)
    np.testing.assert_allclose(some.standard_error, matrix.standard_error[np.ix_([3, 39], [5, 50])], atol=1e-6)


def test_weights_are_those_of_mantel_and_haenszel():
    masks, train, test = several_ratios({0.2: 40, 0.6: 30}, 20, 10, gain=0.2, seed=3)
    masks[:40, 4] = False  # counts at the second ratio only
    masks[:, 5] = True  # counts at none
    first, second = (RunTable.from_arrays(*(array[part] for array in (masks, train, test)), mix_ratios=True)
                     for part in (slice(40), slice(40, None)))  # fmt: skip
    found = stratified_influence({0.2: first, 0.6: second})
    for j in range(10):
        for i in range(20):
            top = bottom = variance = 0.0
            for part in (slice(40), slice(40, None)):
                mask, correct = masks[part, i], test[part, j]
                inside, outside = mask.sum(), (~mask).sum()
                if inside and outside:
                    weight = inside * outside / len(mask)
                    top += weight * (correct[mask].mean() - correct[~mask].mean())
                    bottom += weight
                    for group in (correct[mask], correct[~mask]):
                        variance += weight**2 * (group.var(ddof=1) / len(group) if len(group) > 1 else np.nan)
            if bottom:
                assert found.estimate[j, i] == pytest.approx(top / bottom, abs=1e-6)
                error = np.sqrt(variance) / bottom
                assert found.standard_error[j, i] == pytest.approx(error, abs=1e-6, nan_ok=True)
            else:
                assert np.isnan([found.estimate[j, i], found.standard_error[j, i]]).all()
    assert np.isnan(found.estimate[:, 5]).all()
    np.testing.assert_array_equal(found.estimate[:, 4], influence(second)[:, 4])


def test_one_ratio_is_the_plain_estimate(kind):
    table = kind(*several_ratios({0.5: 60}, 30, 12, gain=0.2, seed=4))
    np.testing.assert_allclose(stratified_memorization(table).estimate, memorization(table), atol=1e-6)
    found = stratified_influence(table)
    np.testing.assert_allclose(found.estimate, influence(table), atol=1e-5)
    for one in (found, stratified_memorization(table)):
        assert one.estimate.dtype == one.standard_error.dtype == np.float32


def test_a_table_is_split_by_size_of_subset(kind):
    masks, train, test = several_ratios({0.8: 5, 0.2: 4}, 10, 3, gain=0, seed=5)
    parts = split_by_ratio(kind(masks, train, test))
    assert list(parts) == [0.2, 0.8]
    np.testing.assert_array_equal(parts[0.2].mask(), masks[5:])
    assert parts[0.8].subset_ratio == 0.8


def test_tables_that_do_not_fit_are_refused(kind):
    table = kind(*several_ratios({0.5: 6}, 10, 3, gain=0, seed=6))
    other = kind(*several_ratios({0.5: 6}, 12, 3, gain=0, seed=6))
    with pytest.raises(DataError, match="one data set"):
        stratified_memorization({0.5: table, 0.6: other})
    with pytest.raises(DataError, match="fewer than two runs"):
        stratified_influence(table.select_runs([0]))
    with pytest.raises(DataError, match="no tables given"):
        stratified_influence({})
    with pytest.raises(DataError, match=r"given for subset ratio 0\.9 has runs that trained on a share of 0\.5"):
        stratified_memorization({0.9: table})
    with pytest.raises(DataError, match="run 0 is in two of the tables"):
        stratified_influence({0.5: table, 0.51: table.select_runs([0, 3])})


def test_shares_and_margins_do_not_mix():
    arrays = several_ratios({0.2: 6, 0.6: 6}, 10, 3, gain=0, seed=7)
    few, many = (tuple(array[part] for array in arrays) for part in (slice(6), slice(6, None)))
    bits = RunTable.from_arrays(*few)
    outputs = OutputTable.from_arrays(many[0], many[2] * 9.0, many[1] * 9.0)
    for mixed in ({0.2: bits, 0.6: outputs}, {0.6: outputs, 0.2: bits}):
        for call in (stratified_memorization, stratified_influence):
            with pytest.raises(DataError, match="run tables and output tables cannot be mixed"):
                call(mixed)
