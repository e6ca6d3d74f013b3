"""The published index is read whatever way its names are stored, and nothing in it is run.

Also of data/literals.py.
"""

import os

import numpy as np
import pytest

from heldout_torch.data.imagenet_index import read_imagenet_index
from heldout_torch.errors import DataError

TRAIN = ["n01440764_10026.JPEG", "n01443537_2.JPEG", "n01440764_7.JPEG"]
TEST = ["ILSVRC2012_val_00000293.JPEG", "ILSVRC2012_val_00002138.JPEG"]


def arrays(dtype="S", **changes):
    def names(values):
        if dtype == "object bytes":
            return np.array([value.encode() for value in values], object)
        return np.array(values, object if dtype == "object str" else dtype)

    return {
        "tr_filenames": names(TRAIN),
        "tr_labels": np.array([0, 1, 0]),
        "tr_mem": np.array([0.5, 0.25, 0.125]),
        "tt_filenames": names(TEST),
        "tt_labels": np.array([0, 999], np.int16),
        **changes,
    }


def save(folder, **contents):
    path = folder / "imagenet_index.npz"
    np.savez_compressed(path, **{key: value for key, value in contents.items() if value is not None})
    return path


@pytest.mark.parametrize("dtype", ["S", "U", "object bytes", "object str"])
def test_names_and_labels_come_in_order(dtype, tmp_path):
    index = read_imagenet_index(save(tmp_path, **arrays(dtype)))
    assert index["train"].names == TRAIN
    assert index["test"].names == TEST
    assert index["train"].labels.tolist() == [0, 1, 0]
    assert index["test"].labels.tolist() == [0, 999]


def test_names_with_folders_give_base_names(tmp_path):
    names = np.array([f"train/{name.split('_')[0]}/{name}".encode() for name in TRAIN], object)
    assert read_imagenet_index(save(tmp_path, **arrays(tr_filenames=names)))["train"].names == TRAIN


class Bomb:
    def __reduce__(self):
        return os.mkdir, (os.environ["BOMB"],)


def test_nothing_in_an_object_array_is_run(tmp_path, monkeypatch):
    monkeypatch.setenv("BOMB", str(tmp_path / "exploded"))
    names = np.array([TRAIN[0].encode(), Bomb(), TRAIN[2].encode()], object)
    path = save(tmp_path, **arrays(tr_filenames=names))
    with pytest.raises(DataError, match=r"an array of shape .3,. holds 2 names that end in \.JPEG"):
        read_imagenet_index(path)
    assert not (tmp_path / "exploded").exists()
    with np.load(path, allow_pickle=True) as loaded:
        loaded["tr_filenames"]
    assert (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tt_labels": None}, "has no tt_labels"),
        ({"tr_labels": np.array([0, 1])}, "has 3 names for train, but 2 labels"),
        ({"tr_labels": np.array([0, 1, 1000])}, "labels of train: label 1000 at position 2"),
        ({"tr_labels": np.array([0.0, 1, 2])}, "tr_labels is float64"),
        ({"tr_labels": np.array([0, 1, 2], object)}, ".*an array of shape .3,. holds 0 names"),
        ({"tr_filenames": np.array([TRAIN[0]] * 3)}, "names a file of train twice"),
        ({"tr_filenames": np.arange(3)}, "tr_filenames is int64"),
    ],
)
def test_wrong_arrays_are_named(changes, message, tmp_path):
    with pytest.raises(DataError, match=rf"imagenet_index\.npz.* {message}"):
        read_imagenet_index(save(tmp_path, **arrays(**changes)))


def test_damaged_and_missing_files(tmp_path):
    path = save(tmp_path, **arrays())
    data = path.read_bytes()
    for contents in (b"", b"text", data[:200], data[: len(data) // 2]):
        path.write_bytes(contents)
        with pytest.raises(DataError, match=r"imagenet_index\.npz: is not a readable npz file"):
            read_imagenet_index(path)
    path.unlink()
    with pytest.raises(DataError, match="No such file"):
        read_imagenet_index(path)
