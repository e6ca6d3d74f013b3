"""Order and labels of a data set are known without its images."""

import numpy as np
import pytest

from heldout_torch.data import load_dataset, original_index, read_labels, tfds_order
from heldout_torch.errors import DataError
from tests.data.originals import write_cifar


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_order_and_labels_are_those_of_the_data_set(name, tmp_path):
    contents = write_cifar(tmp_path, name, 60, 20)
    dataset = load_dataset(name, tmp_path, verify_checksums=False)
    for split in ("train", "test"):
        n = len(dataset.labels(split))
        assert original_index(name, split, n).tolist() == dataset.original_index(split).tolist()
    np.savez(tmp_path / "scores.npz", labels=contents["train"][1], scores=np.zeros(60))
    assert read_labels(tmp_path / "scores.npz", name).tolist() == dataset.labels("train").tolist()
    np.savez(tmp_path / "infl.npz", tr_labels=contents["train"][1], tt_labels=contents["test"][1], tr_mem=np.zeros(60))
    for split in ("train", "test"):
        assert read_labels(tmp_path / "infl.npz", name, split).tolist() == dataset.labels(split).tolist()


@pytest.mark.parametrize("name", ["cifar10", "mnist"])
def test_a_file_that_says_its_order_is_believed(name, tmp_path):
    labels = np.random.default_rng(0).integers(0, 10, 50)
    for order, expected in (("original", labels[tfds_order("train", 50)]), ("published", labels)):
        np.savez(tmp_path / "scores.npz", labels=labels, scores=np.zeros(50), order=np.array(order))
        assert read_labels(tmp_path / "scores.npz", name).tolist() == expected.tolist()


def test_labels_of_an_npz_data_set_come_by_its_index(tmp_path):
    index, labels = np.array([2, 0, 1]), np.array([5, 6, 7])
    np.savez(tmp_path / "mine.npz", test__label=labels, test__index=index, test__image=np.zeros((3, 4, 4), np.uint8))
    assert read_labels(tmp_path / "mine.npz", "mine", "test").tolist() == [6, 7, 5]


def test_labels_of_imagenet_come_from_its_index(tmp_path):
    np.savez(
        tmp_path / "imagenet_index.npz",
        tr_filenames=np.array([b"n1_1.JPEG", b"n2_1.JPEG"], object),
        tr_labels=np.array([7, 999]),
        tt_filenames=np.array([b"ILSVRC2012_val_00000001.JPEG"]),
        tt_labels=np.array([3]),
    )
    assert read_labels(tmp_path / "imagenet_index.npz", "imagenet").tolist() == [7, 999]
    assert read_labels(tmp_path / "imagenet_index.npz", "imagenet", "test").tolist() == [3]
    assert original_index("imagenet", "train", 5).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("name", "arrays", "message"),
    [
        ("cifar10", {"scores": np.zeros(3)}, "has no labels of the train set .labels, tr_labels or train__label."),
        ("cifar10", {"labels": np.zeros(3)}, "labels is float64"),
        ("cifar10", {"labels": np.zeros((3, 1), int)}, "labels is int64 .3, 1., expected a row of integers"),
        ("cifar10", {"labels": np.array([1, -1])}, "train: label -1 at position 1, expected 0 ... 999999"),
        (
            "mine",
            {"train__label": np.array([2**63 + 1], np.uint64)},
            "label 9223372036854775809 at position",
        ),
        ("mine", {"train__label": np.zeros(0, int)}, "train__label is int64 .0,., expected a row of integers"),
        ("mnist", {"labels": np.arange(3)}, "does not say the order"),
        ("mine", {"labels": np.arange(3)}, "does not say the order"),
        ("mine", {"labels": np.arange(3), "order": np.array("original")}, "known only from the data set itself"),
        ("mnist", {"labels": np.arange(3), "order": np.array("other")}, "order is 'other'"),
        (
            "imagenet",
            {"labels": np.arange(3), "filenames": np.array([b"n1_1.JPEG"] * 3, object)},
            "is ordered by file names",
        ),
        ("mine", {"train__label": np.arange(3), "train__index": np.array([0, 0, 1])}, "not 0 ... 2 in some order"),
    ],
)
def test_labels_whose_order_is_not_sure_are_refused(name, arrays, message, tmp_path):
    np.savez(tmp_path / "file.npz", **arrays)
    with pytest.raises(DataError, match=rf"file\.npz: .*{message}"):
        read_labels(tmp_path / "file.npz", name)


def test_a_test_set_never_gets_the_labels_of_the_training_set(tmp_path):
    np.savez(tmp_path / "scores.npz", labels=np.arange(3), scores=np.zeros(3))
    with pytest.raises(DataError, match="no labels of the test set"):
        read_labels(tmp_path / "scores.npz", "cifar10", "test")


def test_the_order_of_an_unknown_data_set_is_not_made_up():
    assert original_index("mine", "train", 3) is None
    for arguments in (("imagenet", "training", 5), ("imagenet", "train", "5"), ("digits", "test", -5)):
        with pytest.raises(DataError, match=r"split 'training' is not known|^n is .*, expected a number from 0$"):
            original_index(*arguments)
