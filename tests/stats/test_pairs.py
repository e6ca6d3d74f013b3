"""Selected pairs and top influences equal what the full matrix gives; on the CPU, and on CUDA where there is one.

Also of stats/classwise.py, stats/counting/sweep_cpu.py.
"""

import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from heldout_torch import DataError, HeldoutError
from heldout_torch.stats import (
    RunTable,
    classwise_influence,
    influence,
    influence_error,
    influence_interval,
    influence_pairs,
    memorization,
    pair_p_values,
    top_influences,
)
from tests.helpers.devices import on_devices
from tests.stats.reference import random_runs


@pytest.fixture(scope="module")
def table():
    return RunTable.from_arrays(*random_runs(40, 1101, 301, seed=0), mix_ratios=True)  # few runs: many ties


@pytest.fixture(scope="module")
def labels():
    rng = np.random.default_rng(1)
    return rng.integers(0, 10, 1101), rng.integers(0, 11, 301)


def test_a_pair_of_exactly_the_least_influence_is_kept():
    """1,400 runs in and 600 out: 910 and 300 of them right differ by 0.15 exactly, 909 by less."""
    trained_on = np.broadcast_to((np.arange(2000) < 1400)[:, None], (2000, 2))
    correct_test = np.zeros((2000, 2), bool)
    correct_test[:910, 0] = correct_test[:909, 1] = True
    correct_test[1400:1700] = True
    table = RunTable.from_arrays(trained_on, trained_on, correct_test, mix_ratios=True)
    pairs = influence_pairs(table, same_class=False)
    assert sorted(zip(pairs.train_index.tolist(), pairs.test_index.tolist(), strict=True)) == [(0, 0), (1, 0)]
    assert (pairs.influence == np.float32(0.15)).all()


@on_devices
@pytest.mark.parametrize("same_class", [True, False])
@pytest.mark.parametrize("min_memorization", [0.25, None])
@pytest.mark.parametrize("min_influence", [-1.0, 0.15, 0.45, 2.0])
def test_pairs_are_those_above_the_thresholds(table, labels, device, same_class, min_memorization, min_influence):
    matrix, memorized = influence(table), memorization(table)
    wanted = matrix >= np.float32(min_influence)
    if min_memorization is not None:
        wanted &= memorized >= np.float32(min_memorization)
    if same_class:
        wanted &= labels[1][:, None] == labels[0]
    test_index, train_index = np.nonzero(wanted)
    order = np.lexsort((test_index, train_index, -matrix[wanted]))

    pairs = influence_pairs(table, *labels, min_influence, min_memorization, same_class, device=device)

    assert len(pairs) == wanted.sum()
    assert (min_influence == 2) == (len(pairs) == 0)
    np.testing.assert_array_equal(pairs.train_index, train_index[order])
    np.testing.assert_array_equal(pairs.test_index, test_index[order])
    np.testing.assert_array_equal(pairs.influence, matrix[pairs.test_index, pairs.train_index])
    np.testing.assert_array_equal(pairs.memorization, memorized[pairs.train_index])
    np.testing.assert_array_equal(pairs.standard_error, influence_error(table)[pairs.test_index, pairs.train_index])


@pytest.mark.parametrize("same_class", [True, False])
def test_pairs_say_how_sure_they_are_among_all_that_were_looked_at(labels, same_class):
    trained_on, correct_train, correct_test = random_runs(80, 1101, 301, seed=0)
    for test in range(0, 301, 10):
        train = np.flatnonzero(labels[0] == labels[1][test])[3:4]
        correct_test[:, test] = trained_on[:, train].any(1) ^ (np.random.default_rng(test).random(80) < 0.2)
    table = RunTable.from_arrays(trained_on, correct_train, correct_test, mix_ratios=True)
    pairs = influence_pairs(table, *labels, min_influence=0.2, min_memorization=0, same_class=same_class)
    low, high = influence_interval(table)
    np.testing.assert_array_equal(pairs.low, low[pairs.test_index, pairs.train_index])
    np.testing.assert_array_equal(pairs.high, high[pairs.test_index, pairs.train_index])
    np.testing.assert_array_equal(pairs.p_value, pair_p_values(table, pairs.train_index, pairs.test_index))
    sought = (labels[0][:, None] == labels[1]).sum() if same_class else labels[0].size * labels[1].size
    padded = np.concatenate([pairs.p_value, np.ones(sought - len(pairs))])
    np.testing.assert_allclose(pairs.false_discovery_rate, false_discovery_control(padded)[: len(pairs)])
    assert (pairs.false_discovery_rate < 0.05).sum() > 5
    np.testing.assert_array_equal(pairs[2:5].false_discovery_rate, pairs.false_discovery_rate[2:5])


def test_estimate_at_the_threshold_is_kept():
    trained_on = np.zeros((40, 1), bool)
    trained_on[:20] = True
    correct = np.zeros((40, 1), bool)
    correct[:3] = True  # influence is 3/20, the published threshold
    table = RunTable.from_arrays(trained_on, correct, correct, mix_ratios=True)
    assert len(influence_pairs(table, min_memorization=None, same_class=False)) == 1


def test_more_pairs_than_there_is_room_for_are_all_found(monkeypatch, table):
    from heldout_torch.stats.counting import sweep_cpu

    monkeypatch.setattr(sweep_cpu, "ROOM", 7)
    pairs = influence_pairs(table, min_influence=0.3, min_memorization=None, same_class=False)
    assert len(pairs) == (influence(table) >= np.float32(0.3)).sum() > 1000


@on_devices
@pytest.mark.parametrize("k", [1, 5, 301])
@pytest.mark.parametrize("per", ["test", "train"])
def test_top_influences_are_those_of_the_sorted_matrix(table, device, k, per):
    matrix = influence(table) if per == "test" else influence(table).T  # (examples, others)
    error = influence_error(table) if per == "test" else influence_error(table).T
    order = np.argsort(np.where(np.isnan(matrix), np.inf, -matrix), axis=1, kind="stable")[:, :k]
    value = np.take_along_axis(matrix, order, axis=1)
    missing = np.isnan(value)

    top = top_influences(table, k, per, device=device)

    assert top.index.shape == (len(matrix), k)
    width = order.shape[1]
    np.testing.assert_array_equal(top.index[:, :width], np.where(missing, -1, order))
    np.testing.assert_array_equal(top.influence[:, :width], value)
    assert (top.index[:, width:] == -1).all()
    assert np.isnan(top.influence[:, width:]).all()
    expected = np.where(missing, np.nan, np.take_along_axis(error, order, axis=1))
    np.testing.assert_array_equal(top.standard_error[:, :width], expected)


@pytest.mark.parametrize("per", ["test", "train"])
def test_published_treatment_of_empty_groups_holds_for_selections_too(table, per):
    best = influence(table, empty="zero").max(axis=1 if per == "test" else 0)
    np.testing.assert_array_equal(top_influences(table, 1, per, empty="zero").influence[:, 0], best)


def test_classwise_matrices_are_parts_of_the_whole_transposed(table, labels):
    matrix, seen = influence(table), []
    for one in classwise_influence(table, *labels):
        np.testing.assert_array_equal(one.train_index, np.flatnonzero(labels[0] == one.label))
        np.testing.assert_array_equal(one.test_index, np.flatnonzero(labels[1] == one.label))
        np.testing.assert_array_equal(one.influence, matrix[np.ix_(one.test_index, one.train_index)].T)
        seen.append(one.label)
    assert seen == list(range(11))  # label 10 has no training example


def test_bad_arguments_are_refused(table, labels):
    with pytest.raises(DataError, match="labels_train is missing"):
        influence_pairs(table)
    with pytest.raises(DataError, match=r"labels_test is int64 \(300,\), expected integers of shape \(301,\)"):
        influence_pairs(table, labels[0], labels[1][1:])
    for k in (0, 2.5, True):
        with pytest.raises(DataError, match="expected a number from 1"):
            top_influences(table, k)
    for per, n, what in (("test", table.train_examples, "training"), ("train", table.test_examples, "test")):
        with pytest.raises(DataError, match=f"k is {n + 1}, expected at most {n}, the number of {what} examples"):
            top_influences(table, n + 1, per)
    np.testing.assert_array_equal(top_influences(table, np.int64(3)).index, top_influences(table, 3).index)
    with pytest.raises(DataError, match="expected 'test' or 'train'"):
        top_influences(table, 1, per="removed")
    with pytest.raises(HeldoutError, match="device 'meta' cannot be used here"):
        influence(table, device="meta")


def test_several_threads_may_count_at_once(table):
    expected, results = influence(table), []
    threads = [threading.Thread(target=lambda: results.append(influence(table))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(np.array_equal(result, expected, equal_nan=True) for result in results)


def test_a_forked_process_may_count_after_its_parent_did(table):
    expected = memorization(table)
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        np.testing.assert_array_equal(pool.submit(memorization, table).result(timeout=60), expected)
