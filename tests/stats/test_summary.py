"""Scores and pairs as all verbs write them: in the order of the original files where it is known, and saying so."""

from dataclasses import replace

import numpy as np
import pandas
import pytest

from heldout_torch import DataError
from heldout_torch.data import tfds_order
from heldout_torch.stats import (
    ExampleFacts,
    RunTable,
    classwise_influence,
    consistency,
    consistency_interval,
    consistency_scores,
    find_facts,
    influence_pairs,
    load_classwise,
    load_pairs,
    load_scores,
    memorization,
    memorization_error,
    memorization_interval,
    memorization_scores,
    write_pairs,
    write_scores,
)
from heldout_torch.stats.summary import check_examples, class_for_file, write_classwise
from tests.stats.reference import random_runs

N, M = 60, 30


@pytest.fixture(scope="module")
def table():
    return RunTable.from_arrays(*random_runs(40, N, M, seed=0, ratio=0.5), mix_ratios=True)


@pytest.fixture(scope="module")
def examples():
    rng = np.random.default_rng(0)
    names = np.array([f"{i}.JPEG" for i in range(N)])
    train = ExampleFacts(N, tfds_order("train", N), rng.integers(0, 3, N), names)
    return train, ExampleFacts(M, tfds_order("test", M), rng.integers(0, 3, M))


def test_scores_are_the_estimates_with_errors_and_intervals(table, examples):
    scores = memorization_scores(table, examples[0])
    np.testing.assert_array_equal(scores.scores, memorization(table))
    np.testing.assert_array_equal(scores.standard_error, memorization_error(table))
    np.testing.assert_array_equal((scores.low, scores.high), memorization_interval(table))
    zero = memorization_scores(table, examples[0], "zero")
    np.testing.assert_array_equal(zero.scores, memorization(table, "zero"))
    scores = consistency_scores({0.5: table}, examples[0])
    np.testing.assert_array_equal(scores.scores, consistency({0.5: table}).scores)
    np.testing.assert_array_equal((scores.low, scores.high), consistency_interval({0.5: table}))


def test_files_of_scores_are_in_original_order(tmp_path, table, examples):
    train, scores = examples[0], memorization_scores(table, examples[0])
    write_scores(tmp_path / "mem.npz", scores, train)
    loaded = load_scores(tmp_path / "mem.npz")
    assert loaded.order == "original"
    for name in ("scores", "labels", "filenames", "standard_error", "low", "high"):
        np.testing.assert_array_equal(getattr(loaded, name)[train.original_index], getattr(scores, name))
    for suffix, read in ((".csv", pandas.read_csv), (".parquet", pandas.read_parquet)):
        write_scores(f"{tmp_path}/mem{suffix}", scores, train)
        frame = read(tmp_path / f"mem{suffix}")
        assert frame["original_index"].tolist() == list(range(N))
        np.testing.assert_array_equal(frame["published_index"].to_numpy()[train.original_index], np.arange(N))
        np.testing.assert_array_equal(frame["score"].to_numpy(np.float32), loaded.scores)
        assert frame["filename"].tolist() == loaded.filenames.tolist()
        assert frame["label"].tolist() == loaded.labels.tolist()


def test_files_are_by_published_index_where_no_other_order_is_known_and_say_so(tmp_path, table):
    scores = memorization_scores(table, ExampleFacts(N))
    write_scores(tmp_path / "mem.npz", scores, ExampleFacts(N))
    loaded = load_scores(tmp_path / "mem.npz")
    assert (loaded.order, loaded.labels) == ("published", None)
    np.testing.assert_array_equal(loaded.scores, memorization(table))
    pairs = influence_pairs(table, same_class=False)
    write_pairs(tmp_path / "pairs.npz", pairs, ExampleFacts(N), find_facts("cifar10", "test", M))
    assert load_pairs(tmp_path / "pairs.npz").order == "published"


def test_files_of_pairs_name_examples_as_the_original_files_do(tmp_path, table, examples):
    train, test = examples
    pairs = influence_pairs(table, train.labels, test.labels, 0.1, None)
    assert len(pairs) > 20
    write_pairs(tmp_path / "pairs.npz", pairs, train, test)
    loaded = load_pairs(tmp_path / "pairs.npz")
    assert loaded.order == "original"
    np.testing.assert_array_equal(loaded.train_index, train.original_index[pairs.train_index])
    np.testing.assert_array_equal(loaded.test_index, test.original_index[pairs.test_index])
    write_pairs(f"{tmp_path}/pairs.csv", pairs, train, test)
    frame = pandas.read_csv(tmp_path / "pairs.csv", float_precision="round_trip")  # pandas 2 rounds otherwise
    for name in ("influence", "memorization", "standard_error", "low", "high", "p_value", "false_discovery_rate"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(pairs, name))
        np.testing.assert_array_equal(frame[name].astype(getattr(pairs, name).dtype), getattr(pairs, name))
    assert list(frame) == [
        "train_published_index", "train_original_index", "train_filename", "train_label",
        "test_published_index", "test_original_index", "test_label", "influence", "memorization", "standard_error",
        "low", "high", "p_value", "false_discovery_rate",
    ]  # fmt: skip
    assert frame["train_published_index"].tolist() == pairs.train_index.tolist()
    assert frame["train_filename"].tolist() == train.filenames[pairs.train_index].tolist()
    assert (frame["train_label"] == frame["test_label"]).all()


def test_class_matrices_are_sorted_by_original_index(table, examples):
    train, test = examples
    for one in classwise_influence(table, train.labels, test.labels, level=0.95):
        other = class_for_file(one, train, test)
        assert (np.diff(other.train_index) > 0).all()
        assert (np.diff(other.test_index) > 0).all()
        for i, original in enumerate(train.original_index[one.train_index]):
            for j, original_test in enumerate(test.original_index[one.test_index]):
                row, column = (
                    np.searchsorted(other.train_index, original),
                    np.searchsorted(other.test_index, original_test),
                )
                for matrix in ("influence", "low", "high"):
                    np.testing.assert_array_equal(getattr(other, matrix)[row, column], getattr(one, matrix)[i, j])


def test_files_of_class_matrices_are_in_one_order_throughout(tmp_path, table, examples):
    train, test = examples
    scores, labels = memorization_scores(table, train), (train.labels, test.labels)
    for known, order in (((train, test), "original"), ((train, replace(test, original_index=None)), "published")):
        write_classwise(tmp_path / "classes.npz", classwise_influence(table, *labels), scores, *known)
        loaded = load_classwise(tmp_path / "classes.npz")
        assert loaded.order == order
        rows = [facts.original_index if order == "original" else slice(None) for facts in examples]
        np.testing.assert_array_equal(loaded.memorization[rows[0]], scores.scores)
        np.testing.assert_array_equal(loaded.labels_train[rows[0]], train.labels)
        np.testing.assert_array_equal(loaded.labels_test[rows[1]], test.labels)


def test_results_are_data_frames_and_short_in_words(table, examples):
    scores = memorization_scores(table, examples[0])
    frame = scores.to_pandas()
    np.testing.assert_array_equal(frame["score"], scores.scores)
    assert frame["published_index"].tolist() == list(range(N))
    pairs = influence_pairs(table, min_memorization=None, same_class=False)
    frame = pairs.to_pandas()
    np.testing.assert_array_equal(frame["test_published_index"], pairs.test_index)
    for result in (scores, pairs, examples[0], pairs[:3]):
        assert len(repr(result)) < 120
    assert len(pairs[:3]) == 3


def test_runs_of_another_data_set_are_refused(table, examples):
    check_examples(table, *examples, "tiny")
    with pytest.raises(DataError, match="tiny has 60 training and 29 test examples, the runs are about 60 and 30"):
        check_examples(table, examples[0], ExampleFacts(M - 1), "tiny")


def test_what_is_in_another_order_is_not_brought_into_it_twice(tmp_path, table, examples):
    train, test = examples
    scores = memorization_scores(table, train)
    pairs = influence_pairs(table, same_class=False, min_influence=0, min_memorization=None)
    for order, told in (("original", "in original order"), (None, "do not say how")):
        for suffix in (".npz", ".csv"):
            with pytest.raises(DataError, match=f"scores .*{told}"):
                write_scores(tmp_path / f"file{suffix}", replace(scores, order=order), train)
            with pytest.raises(DataError, match=f"pairs .*{told}"):
                write_pairs(tmp_path / f"file{suffix}", replace(pairs, order=order), train, test)
    with pytest.raises(DataError, match="scores are given for"):
        write_scores(tmp_path / "file.csv", scores, ExampleFacts(train.size + 1))
    for facts in ((ExampleFacts(train.size - 1), test), (train, ExampleFacts(test.size - 1))):
        with pytest.raises(DataError, match=r"pairs name (training|test) examples outside"):
            write_pairs(tmp_path / "file.csv", pairs, *facts)
    assert not list(tmp_path.iterdir())


def test_lists_are_brought_into_the_order_of_files_as_arrays_are(tmp_path, table, examples):
    train, test = examples
    scores, pairs = memorization_scores(table, train), influence_pairs(table, same_class=False, min_influence=0)

    def listed(record):
        return replace(record, **{name: it.tolist() for name, it in vars(record).items() if isinstance(it, np.ndarray)})

    for number, lists in enumerate((lambda record: record, listed)):
        write_scores(tmp_path / f"scores{number}.csv", lists(scores), lists(train))
        write_pairs(tmp_path / f"pairs{number}.csv", lists(pairs), lists(train), lists(test))
    for name in ("scores", "pairs"):
        pandas.testing.assert_frame_equal(*(pandas.read_csv(tmp_path / f"{name}{number}.csv") for number in (0, 1)))
