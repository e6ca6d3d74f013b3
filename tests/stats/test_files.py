"""Published files: written as published, read back, put into the right order, refused when damaged.

Also of stats/influence_files.py, stats/npz_files.py, stats/orders.py, stats/score_files.py.
"""

import zipfile
from dataclasses import replace

import numpy as np
import pytest

from heldout_torch import DataError
from heldout_torch.data import tfds_order
from heldout_torch.stats import (
    InfluencePairs,
    RunTable,
    Scores,
    classwise_influence,
    load_classwise,
    load_imagenet_memorization,
    load_pairs,
    load_scores,
    memorization,
    save_classwise,
    save_imagenet_index,
    save_indices,
    save_pairs,
    save_scores,
    to_original,
    to_published,
)
from tests.stats.reference import random_runs


def test_scores_come_back(tmp_path):
    rng = np.random.default_rng(0)
    names = np.array([f"n0_{i}.JPEG" for i in range(5)])
    scores = Scores(rng.random(5), np.arange(5), names, rng.random(5), order="original")
    save_scores(tmp_path / "scores.npz", scores)
    loaded = load_scores(tmp_path / "scores.npz")
    for name, array in vars(scores).items():
        np.testing.assert_array_equal(getattr(loaded, name), array)
    assert loaded.order == "original"
    with np.load(tmp_path / "scores.npz", allow_pickle=False) as npz:
        assert set(npz.files) == {"scores", "labels", "filenames", "standard_error", "order"}
        assert (npz["order"].shape, npz["order"].item()) == ((), "original")
    first = (tmp_path / "scores.npz").read_bytes()
    save_scores(tmp_path / "scores.npz", scores)
    assert (tmp_path / "scores.npz").read_bytes() == first


def test_scores_of_different_lengths_are_not_written(tmp_path):
    with pytest.raises(DataError, match=r"labels is int64 \(4,\), expected a row of integers of length 5"):
        save_scores(tmp_path / "scores.npz", Scores(np.zeros(5), np.arange(4), order="original"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("save", "change", "message"),
    [
        (save_pairs, {"train_index": np.array([-1, 0])}, "tr_idx has indices outside"),
        (save_pairs, {"test_index": np.array([1.0, 0.0])}, "tt_idx is float64"),
        (save_pairs, {"p_value": np.zeros(3)}, "p_value is float64"),
        (save_scores, {"scores": np.array([1, 2], np.uint8)}, "scores is uint8"),
        (save_scores, {"scores": np.zeros((2, 1))}, "scores is float64"),
        (save_scores, {"high": np.zeros(3)}, "high is float64"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(tmp_path, save, change, message):
    scores = Scores(np.zeros(2), order="published")
    good = scores if save is save_scores else InfluencePairs(*np.arange(4).reshape(2, 2), *np.zeros((3, 2)))
    save(tmp_path / "good.npz", good)
    with pytest.raises(DataError, match=message):
        save(tmp_path / "bad.npz", replace(good, **change))
    assert [path.name for path in tmp_path.iterdir()] == ["good.npz"]


def test_an_npz_file_is_not_called_by_another_format_s_name(tmp_path):
    scores = Scores(np.zeros(3), order="original")
    for save, name in (
        *((lambda path: save_scores(path, scores), name) for name in ("a.csv", "a.parquet", "a.npy")),
        (lambda path: save_indices(path, np.arange(3), "original"), "a.npy"),
    ):
        with pytest.raises(
            DataError, match=r"is written as an npz file, expected a name ending in \.npz; write_scores"
        ):
            save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_scores_are_moved_to_the_other_order_and_not_twice():
    values, order = np.random.default_rng(0).random(100), tfds_order("train", 100)
    theirs, ours = Scores(values, order="original"), Scores(values[order], order="published")
    np.testing.assert_array_equal(to_published(theirs, order), ours.scores)
    np.testing.assert_array_equal(to_original(ours, order), theirs.scores)
    with pytest.raises(DataError, match="the scores are in published order already"):
        to_published(ours, order)
    with pytest.raises(DataError, match="the scores are in original order already"):
        to_original(theirs, order)


def test_scores_are_an_array_to_numpy():
    values = np.random.default_rng(0).random(9).astype(np.float32)
    scores = Scores(values)
    np.testing.assert_array_equal(np.argsort(scores), np.argsort(values))
    assert len(scores) == 9
    assert np.asarray(scores) is values  # not copied
    assert not np.shares_memory(np.array(scores), values)
    assert np.asarray(scores, np.float64).dtype == np.float64


def test_orders_are_inverse():
    order = tfds_order("test", 100)
    values = np.random.default_rng(0).random(100)
    np.testing.assert_array_equal(to_original(values, order)[order], values)
    np.testing.assert_array_equal(to_published(to_original(values, order), order), values)
    for convert in (to_original, to_published):  # one example, and none
        assert convert(np.array([0.5]), np.array([0])).tolist() == [0.5]
        assert convert(np.zeros(0), np.zeros(0, int)).tolist() == []


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pairs_come_back_under_their_published_names(tmp_path, dtype):
    rng = np.random.default_rng(0)
    rows = rng.random((7, 9)).astype(dtype)
    pairs = InfluencePairs(rng.permutation(9), rng.permutation(9), *rows[:3], "original", *rows[3:])
    save_pairs(tmp_path / "pairs.npz", pairs)
    loaded = load_pairs(tmp_path / "pairs.npz")
    for name, array in vars(pairs).items():
        np.testing.assert_array_equal(getattr(loaded, name), array)
    assert loaded.order == "original"
    assert loaded.influence.dtype == dtype
    with np.load(tmp_path / "pairs.npz") as npz:
        np.testing.assert_array_equal(npz["tr_idx"], pairs.train_index)
        np.testing.assert_array_equal(npz["tt_idx"], pairs.test_index)
        assert npz["order"].item() == "original"


def test_published_pairs_survive_reading_and_writing(tmp_path):
    """They are float64, have no standard errors, and do not say how they count, which somebody must say."""
    arrays = {"tr_idx": np.array([3]), "tt_idx": np.array([4]), "infl": np.array([0.2]), "mem": np.array([1 / 3])}
    np.savez(tmp_path / "published.npz", **arrays)
    pairs = load_pairs(tmp_path / "published.npz")
    assert np.isnan(pairs.standard_error).all()
    assert pairs.order is None
    assert pairs.memorization[0] == 1 / 3
    save_pairs(tmp_path / "again.npz", replace(pairs, order="original"))
    arrays["order"] = np.array("original")
    with np.load(tmp_path / "again.npz") as again:
        assert {name: again[name].tolist() for name in again.files} == {name: arrays[name].tolist() for name in arrays}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tr_idx": np.array([-1, 3])}, "tr_idx has indices outside"),
        ({"tt_idx": np.array([2**40, 3], np.uint64)}, "tt_idx has indices outside"),
        ({"tr_idx": np.array([1.5, 3])}, "tr_idx is float64"),
        ({"mem": np.zeros(3)}, "mem is float64"),
        ({"p_value": np.zeros(3)}, "p_value is float64"),
        ({"infl": np.zeros((2, 1))}, "infl is float64"),
        ({"order": np.array("tfds")}, "order is 'tfds', expected 'original' or 'published'"),
        ({"order": np.array(["original"])}, r"order is <U8 \(1,\), expected a string"),
        ({"order": np.array(1)}, "order is int64"),
    ],
)
def test_pairs_that_cannot_be_are_refused(tmp_path, change, message):
    arrays = {"tr_idx": np.arange(2), "tt_idx": np.arange(2), "infl": np.zeros(2), "mem": np.zeros(2), **change}
    np.savez(tmp_path / "pairs.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load_pairs(tmp_path / "pairs.npz")


def test_names_in_an_object_array_are_read_as_imagenet_s_scores_have_them(tmp_path):
    names = ["n01440764_10026.JPEG", "n01440764_10027.JPEG"]
    for values in (names, [name.encode() for name in names]):
        filenames = np.array(values, object)
        np.savez(tmp_path / "scores.npz", scores=np.zeros(2), labels=np.zeros(2, int), filenames=filenames)
        assert load_scores(tmp_path / "scores.npz").filenames.tolist() == names


def write_each(folder):
    """Write a file of each published format; give the functions that read them, by name."""
    rng = np.random.default_rng(0)
    table = RunTable.from_arrays(*random_runs(30, 40, 20, seed=0), mix_ratios=True)
    labels = np.arange(40) % 3, np.arange(20) % 3
    names = np.array([f"n0_{i}.JPEG" for i in range(40)])
    save_scores(folder / "scores.npz", Scores(rng.random(40), labels[0], names, rng.random(40), order="original"))
    save_pairs(folder / "pairs.npz", InfluencePairs(np.arange(40), np.arange(40), *rng.random((3, 40))))
    save_classwise(folder / "classes.npz", classwise_influence(table, *labels), *labels, memorization(table))
    save_imagenet_index(folder / "index.npz", names.tolist(), labels[0], rng.random(40), ["v.JPEG"], np.array([3]))
    loaders = (load_scores, load_pairs, load_classwise, load_imagenet_memorization)
    return dict(zip(("scores.npz", "pairs.npz", "classes.npz", "index.npz"), loaders, strict=True))


def test_mutated_files_give_values_or_one_line(tmp_path):
    rng = np.random.default_rng(1)
    refused = 0
    for name, load in write_each(tmp_path).items():
        whole = (tmp_path / name).read_bytes()
        load(tmp_path / name)
        for _ in range(100):
            data = bytearray(whole)
            for place in rng.integers(0, len(data), rng.integers(1, 8)):
                data[place] = rng.integers(0, 256)
            if rng.random() < 0.2:
                del data[rng.integers(1, len(data)) :]
            (tmp_path / "mutated.npz").write_bytes(data)
            try:
                load(tmp_path / "mutated.npz")
            except DataError:
                refused += 1
    assert refused > 200


@pytest.mark.parametrize("level", [None, 0.95])
def test_classwise_matrices_come_back_in_the_published_layout(tmp_path, level):
    table = RunTable.from_arrays(*random_runs(30, 40, 20, seed=0), mix_ratios=True)
    labels = np.arange(40) % 3, np.arange(20) % 3
    matrices = list(classwise_influence(table, *labels, level=level))
    save_classwise(tmp_path / "classes.npz", matrices, *labels, memorization(table))
    with np.load(tmp_path / "classes.npz") as npz:
        assert npz["infl_matrix_class2"].shape == (len(npz["tr_classidx_2"]), len(npz["tt_classidx_2"])) == (13, 6)
        assert ("infl_low_class2" in npz) == ("infl_high_class2" in npz) == (level is not None)
    loaded = load_classwise(tmp_path / "classes.npz")
    np.testing.assert_array_equal(loaded.memorization, memorization(table))
    for one, other in zip(loaded.classes, matrices, strict=True):
        for name, array in vars(other).items():
            np.testing.assert_array_equal(getattr(one, name), array)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tr_classidx_1": np.array([0])}, "tr_classidx_1 does not name the examples of label 1"),
        ({"infl_matrix_class1": np.zeros((2, 9))}, r"infl_matrix_class1 is float64 \(2, 9\), expected floats \(3, 2\)"),
        ({"infl_low_class1": np.zeros((2, 3))}, r"infl_low_class1 is float64 \(2, 3\), expected floats \(3, 2\)"),
        ({"tr_mem": np.zeros(3)}, "tr_mem is float64"),
        ({"tt_classidx_1": None}, "has no tt_classidx_1"),
        ({"tt_labels": None}, "has no tt_labels"),
    ],
)
def test_classwise_file_that_contradicts_itself_is_refused(tmp_path, change, message):
    arrays = {
        "tr_labels": np.array([0, 1, 1, 1]), "tt_labels": np.array([1, 1]), "tr_mem": np.zeros(4),
        "tr_classidx_1": np.array([1, 2, 3]), "tt_classidx_1": np.array([0, 1]), "infl_matrix_class1": np.zeros((3, 2)),
    }  # fmt: skip
    np.savez(tmp_path / "classes.npz", **arrays)
    assert len(load_classwise(tmp_path / "classes.npz").classes) == 1
    arrays = {name: array for name, array in {**arrays, **change}.items() if array is not None}
    np.savez(tmp_path / "classes.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load_classwise(tmp_path / "classes.npz")


def test_imagenet_index_is_written_as_its_reader_expects(tmp_path):
    from heldout_torch.data.imagenet_index import read_imagenet_index

    names = [f"n01440764_{i}.JPEG" for i in range(4)], ["ILSVRC2012_val_00000001.JPEG"]
    save_imagenet_index(tmp_path / "index.npz", names[0], np.arange(4), np.linspace(0, 1, 4), names[1], np.array([999]))
    index = read_imagenet_index(tmp_path / "index.npz")
    assert (index["train"].names, index["test"].names) == names
    assert (index["train"].labels.tolist(), index["test"].labels.tolist()) == ([0, 1, 2, 3], [999])
    np.testing.assert_array_equal(load_imagenet_memorization(tmp_path / "index.npz"), np.linspace(0, 1, 4))


@pytest.mark.parametrize("load", [load_scores, load_pairs, load_classwise, load_imagenet_memorization])
def test_damaged_and_missing_files_are_refused(tmp_path, load):
    with pytest.raises(DataError, match=r"nothing\.npz: cannot be read \(No such file"):
        load(tmp_path / "nothing.npz")
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(DataError, match="is not a readable npz file"):
        load(tmp_path / "text.npz")
    np.savez(tmp_path / "whole.npz", scores=np.random.default_rng(0).random(1000))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:500])
    with pytest.raises(DataError, match="is not a readable npz file"):
        load(tmp_path / "cut.npz")
    with zipfile.ZipFile(tmp_path / "empty.npz", "w"):
        pass
    with pytest.raises(DataError, match="has no "):
        load(tmp_path / "empty.npz")


def test_pickled_objects_are_never_loaded(tmp_path):
    np.savez(tmp_path / "objects.npz", scores=np.array([{}], object))
    with pytest.raises(DataError, match=r"holds 0 names that end in \.JPEG"):
        load_scores(tmp_path / "objects.npz")
    np.save(tmp_path / "objects.npy", np.array([{}], object))
    with pytest.raises(DataError, match="is not a readable npy file"):
        load_scores(tmp_path / "objects.npy")
