"""What is known of examples without images: order by name, labels from published files."""

import numpy as np
import pytest

from heldout_torch import DataError
from heldout_torch.data import load_digits, load_npz, tfds_order
from heldout_torch.stats import (
    ExampleFacts,
    Scores,
    facts_of,
    find_facts,
    save_imagenet_index,
    save_scores,
    write_scores,
)


def test_the_order_is_known_by_name_alone():
    for name in ("cifar10", "cifar100", "mnist"):
        np.testing.assert_array_equal(find_facts(name, "train", 50).original_index, tfds_order("train", 50))
    assert find_facts("imagenet", "test", 3).original_index.tolist() == [0, 1, 2]
    own = find_facts("own", "train", 3)
    assert (own.original_index, own.labels, own.order) == (None, None, "published")
    assert find_facts("cifar10", "test", 3).order == "original"


def test_labels_come_from_published_files(tmp_path):
    labels = np.random.default_rng(0).integers(0, 10, 50)  # in original order, as published
    np.savez(tmp_path / "published.npz", scores=np.zeros(50), labels=labels)
    train = find_facts("cifar10", "train", 50, [tmp_path / "published.npz"])
    np.testing.assert_array_equal(train.labels, labels[tfds_order("train", 50)])
    assert find_facts("cifar10", "test", 20, [tmp_path / "published.npz"]).labels is None
    save_scores(tmp_path / "ours.npz", Scores(np.zeros(50), train.labels, order="published"))
    again = find_facts("cifar10", "train", 50, [tmp_path / "ours.npz"])
    np.testing.assert_array_equal(again.labels, train.labels)


def test_imagenet_s_index_gives_names_too(tmp_path):
    save_imagenet_index(tmp_path / "index.npz", ["n0_1.JPEG", "n0_0.JPEG"], [0, 1], np.zeros(2), ["v.JPEG"], [1])
    index = [tmp_path / "index.npz"]
    train, test = find_facts("imagenet", "train", 2, index), find_facts("imagenet", "test", 1, index)
    assert train.filenames.tolist() == ["n0_1.JPEG", "n0_0.JPEG"]
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 1], [1])


def test_the_first_file_with_labels_counts_and_every_other_must_be_about_as_many(tmp_path):
    names = [f"n0_{number}.JPEG" for number in range(3)]
    save_scores(tmp_path / "scores.npz", Scores(np.zeros(3), np.array([4, 5, 6]), order="published"))
    save_imagenet_index(tmp_path / "index.npz", names, [0, 1, 2], np.zeros(3), ["v.JPEG"], [1])
    both = find_facts("imagenet", "train", 3, [tmp_path / "scores.npz", tmp_path / "index.npz"])
    assert (both.labels.tolist(), both.filenames.tolist()) == ([4, 5, 6], names)
    save_imagenet_index(tmp_path / "index.npz", names[:2], [0, 1], np.zeros(2), ["v.JPEG"], [1])
    with pytest.raises(DataError, match=r"index\.npz: is about 2 examples of the train set, the runs are about 3"):
        find_facts("imagenet", "train", 3, [tmp_path / "scores.npz", tmp_path / "index.npz"])


@pytest.mark.parametrize("index", [None, [2, 0, 1]])
def test_a_data_set_of_one_s_own_says_its_order_and_labels(tmp_path, index):
    arrays = {"train__label": np.array([5, 6, 7]), "test__label": np.array([0])}
    if index is not None:
        arrays |= {"train__index": np.array(index), "test__index": np.array([0])}
    images = {f"{split}__image": np.zeros((n, 2, 2), np.uint8) for split, n in (("train", 3), ("test", 1))}
    np.savez(tmp_path / "own.npz", **arrays, **images)
    found, loaded = find_facts("own", "train", 3, [tmp_path / "own.npz"]), load_npz(tmp_path / "own.npz", "own")
    expected = facts_of(loaded, "train")
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.original_index, expected.original_index)
    np.testing.assert_array_equal(found.labels, arrays["train__label"][found.original_index])


def test_files_about_other_examples_are_refused(tmp_path):
    np.savez(tmp_path / "scores.npz", scores=np.zeros(50), labels=np.zeros(50, int))
    with pytest.raises(DataError, match="is about 50 examples of the train set, the runs are about 49"):
        find_facts("cifar10", "train", 49, [tmp_path / "scores.npz"])
    np.savez(tmp_path / "pairs.npz", tr_idx=np.arange(3), mem=np.zeros(3))
    with pytest.raises(DataError, match=r"pairs\.npz: has no labels, expected one of labels, test__label"):
        find_facts("cifar10", "train", 50, [tmp_path / "pairs.npz"])
    for wrong, classes in ((-1, None), (-1, 10), (10, 10)):
        np.savez(tmp_path / "labels.npz", labels=np.full(50, wrong))
        with pytest.raises(DataError, match=rf"labels\.npz: train: label {wrong} at position 0, expected 0 ... "):
            find_facts("cifar10", "train", 50, [tmp_path / "labels.npz"], classes)
    np.savez(tmp_path / "objects.npz", labels=np.array(["a", None, 3], object))
    with pytest.raises(DataError, match=r"labels is object \(3,\), expected a row of integers"):
        find_facts("cifar10", "train", 3, [tmp_path / "objects.npz"])
    with pytest.raises(DataError, match="cannot be read"):
        find_facts("cifar10", "train", 49, [tmp_path / "none.npz"])
    with pytest.raises(DataError, match="pairs need labels: give the data set, or files that"):
        ExampleFacts(3).needed_labels("pairs need labels")


def test_a_data_set_in_place_of_its_facts_is_told_how_to_make_them(tmp_path):
    digits = load_digits()
    scores = Scores(np.zeros(1437, np.float32), order="published")
    with pytest.raises(DataError, match=r"given \w+, expected ExampleFacts, such as facts_of\(dataset, 'train'\)"):
        write_scores(tmp_path / "w.csv", scores, digits)
    write_scores(tmp_path / "w.csv", scores, facts_of(digits, "train"))


def test_facts_are_about_every_example():
    for name in ("original_index", "labels", "filenames"):
        with pytest.raises(DataError, match=rf"{name} has shape \(3,\), expected \(4,\), one for each example"):
            ExampleFacts(4, **{name: np.arange(3)})


def test_columns_name_the_examples():
    train = facts_of(load_digits(), "train")
    columns = train.columns(np.array([3, 1]), "train_")
    assert list(columns) == ["train_published_index", "train_original_index", "train_label"]
    np.testing.assert_array_equal(columns["train_label"], load_digits().train.labels[[3, 1]])
