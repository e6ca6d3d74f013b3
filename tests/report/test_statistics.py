"""What a report shows of runs, and which examples it chooses."""

import numpy as np
import pytest

from heldout_torch.errors import DataError
from heldout_torch.report import gather_statistics, write_report
from heldout_torch.report.statistics import extremes, near_level
from heldout_torch.stats import (
    ExampleFacts,
    RunTable,
    consistency,
    facts_of,
    influence_pairs,
    memorization,
    reliability,
)


def test_statistics_are_those_of_the_ratio_with_most_runs(tables, digits):
    fewer = {**tables, 0.7: tables[0.7].select_runs(slice(20))}
    gathered = gather_statistics(fewer, digits)
    assert gathered.subset_ratio == 0.3
    np.testing.assert_array_equal(gathered.memorization, memorization(tables[0.3]))
    labels = digits.labels("train").numpy(), digits.labels("test").numpy()
    np.testing.assert_array_equal(gathered.pairs.influence, influence_pairs(tables[0.3], *labels).influence)
    np.testing.assert_array_equal(gathered.consistency.scores, consistency(fewer).scores)
    assert list(gathered.accuracies) == [0.3, 0.7]


def test_labels_of_one_split_alone_give_no_pairs_and_the_rest_as_ever(tables, digits):
    train, test = (facts_of(digits, split) for split in ("train", "test"))
    for examples in ((train, ExampleFacts(test.size)), (ExampleFacts(train.size), test)):
        gathered = gather_statistics(tables, examples=examples)
        assert gathered.pairs is None
        assert gathered.reliability == reliability(gathered.table, memorization)


def test_runs_of_which_no_example_has_an_estimate_have_no_reliability():
    everything = np.ones((4, 6), bool)
    gathered = gather_statistics({1.0: RunTable.from_arrays(everything, everything, everything[:, :3])})
    assert np.isnan(gathered.memorization).all()
    assert gathered.reliability is None


def test_examples_near_a_level_come_nearest_first_and_never_from_afar():
    values = np.array([0.5, np.nan, 0.26, 0.2, 0.6, 0.4, 1.0])
    assert near_level(values, 0.5, 10).tolist() == [0, 4, 5, 2]
    assert near_level(values, 0.5, 2).tolist() == [0, 4]
    assert near_level(values, 0.0, 10).tolist() == [3]
    assert near_level(np.full(3, np.nan), 0.0, 2).tolist() == []


def test_extremes_never_name_an_example_twice_nor_one_without_a_score():
    highest, lowest = extremes(np.array([0.5, np.nan, 0.1, 0.9]), 2)
    assert highest.tolist() == [3]
    assert lowest.tolist() == [2, 0]
    assert [len(part) for part in extremes(np.empty(0), 5)] == [0, 0]
    highest, lowest = extremes(np.array([1, 0, 1, np.nan, 1, 1, 1]), 3)  # as where most scores are equal
    assert (highest.tolist(), lowest.tolist()) == ([6, 5, 4], [1, 0, 2])


def test_statistics_of_another_experiment_are_refused(tables, digits):
    small = RunTable.from_arrays(np.eye(4, 6, dtype=bool), np.ones((4, 6)), np.ones((4, 3)))
    with pytest.raises(
        DataError,
        match=r"digits has 1437 training and 360 test examples, the runs are about 6 and 3.*another experiment",
    ):
        gather_statistics({0.5: small}, digits)
    with pytest.raises(DataError, match="no run tables"):
        gather_statistics({}, digits)


def test_one_table_is_given_as_it_is(tables):
    one, same = gather_statistics(tables[0.7]), gather_statistics({0.7: tables[0.7]})
    assert one.subset_ratio == 0.7 != tables[0.7].subset_ratio  # as its runs are filed; 1005 of 1437 is a little less
    own = RunTable.from_arrays(tables[0.7].mask(), tables[0.7].correct("train"), tables[0.7].correct("test"))
    assert gather_statistics(own).subset_ratio == own.subset_ratio  # its runs have no keys
    np.testing.assert_array_equal(one.memorization, same.memorization)
    with pytest.raises(DataError, match=r"'ZOO' given, expected a run table \(RunTable.from_zoo\), or several by"):
        gather_statistics("ZOO")


def test_a_report_of_what_is_no_statistics_is_refused(tables, tmp_path):
    with pytest.raises(DataError, match="statistics: given RunTable, expected ReportStatistics"):
        write_report(tables[0.7], None, None, tmp_path / "report")
    with pytest.raises(DataError, match="experiment: given str, expected Experiment, as find_experiment returns one"):
        write_report(gather_statistics(tables[0.7]), "digits-mlp", None, tmp_path / "report")
