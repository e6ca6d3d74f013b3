"""Data sets of one's own come from npz files."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits as sklearn_digits

from heldout_torch.data import load_dataset
from heldout_torch.data.dataset import check_preprocessing
from heldout_torch.errors import DataError


def arrays(channels=(3,), **changes):
    random = np.random.default_rng(0)
    return {
        "train__image": random.integers(0, 256, (9, 5, 4, *channels), np.uint8),
        "train__label": np.array([0, 1, 2, 0, 1, 2, 0, 1, 2]),
        "test__image": random.integers(0, 256, (4, 5, 4, *channels), np.uint8),
        "test__label": np.array([2, 1, 0, 2], np.uint8),
        **changes,
    }


def save(folder, **contents):
    path = folder / "mine.npz"
    np.savez(path, **{key: value for key, value in contents.items() if value is not None})
    return path


def test_images_become_channels_first(tmp_path):
    contents = arrays()
    dataset = load_dataset("mine", save(tmp_path, **contents))
    assert torch.equal(dataset.train.images, torch.from_numpy(contents["train__image"]).permute(0, 3, 1, 2))
    assert dataset.labels("test").tolist() == [2, 1, 0, 2]
    assert (dataset.name, dataset.num_classes, dataset.divide_by) == ("mine", 3, 255.0)


def test_gray_images_get_a_channel(tmp_path):
    contents = arrays(channels=())
    dataset = load_dataset("mine", save(tmp_path, **contents))
    assert np.array_equal(dataset.test.images[:, 0].numpy(), contents["test__image"])


def test_rows_are_put_in_order_of_their_index(tmp_path):
    index = np.array([4, 2, 0, 8, 6, 7, 5, 3, 1])
    contents = arrays(train__index=index)
    rows = load_dataset("mine", save(tmp_path, **contents)).train
    assert rows.index.tolist() == list(range(9))
    for original, published in enumerate(index):
        assert rows.original_index[published] == original
        assert np.array_equal(rows.images[published].permute(1, 2, 0).numpy(), contents["train__image"][original])
        assert rows.labels[published] == contents["train__label"][original]


@pytest.mark.parametrize("scale", [255, np.float32(255), 16, 2.5, 1])
def test_pixel_values_are_divided_by_the_scale(scale, tmp_path):
    contents = arrays()
    dataset = load_dataset("mine", save(tmp_path, **contents, __data_scale=scale, __num_classes=np.int64(7)))
    (batch,) = dataset.batches("test", 10)
    expected = contents["test__image"].astype(np.float32) / np.float32(scale)
    assert np.array_equal(batch.images.permute(0, 2, 3, 1).numpy(), expected)
    assert dataset.num_classes == 7


@pytest.mark.parametrize("scale", [np.float32(1 / 255), 0.99])
def test_a_scale_that_multiplies_is_refused_with_the_convention(scale, tmp_path):
    with pytest.raises(DataError, match="pixel values are divided by it; give 255 for bytes"):
        load_dataset("mine", save(tmp_path, **arrays(), __data_scale=scale))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize("scale", [None, 1])
def test_floats_are_scaled_already(scale, channels, dtype, tmp_path):
    contents = {
        key: (value / 255).astype(dtype) if "image" in key else value for key, value in arrays(channels).items()
    }
    before = contents["train__image"].copy()
    dataset = load_dataset("mine", save(tmp_path, **contents, __data_scale=scale))
    for _ in range(2):  # reading does not change what is held
        (batch,) = dataset.batches("train", 10)
        assert batch.images.shape == (9, *(channels or (1,)), 5, 4)
        images = batch.images.permute(0, 2, 3, 1).reshape(before.shape).numpy()
        assert np.array_equal(images, before.astype(np.float32))
    assert abs(int(dataset.picture("train", 3)[0, 0, 0]) - before[3, 0, 0].ravel()[0] * 255) <= 1
    assert dict(dataset.preprocessing) == {}


@pytest.mark.parametrize(("scale", "largest"), [(None, 248), (1, 248), (2, 124), (255, None)])
def test_floats_that_nobody_divided_are_refused_where_an_experiment_divides(scale, largest, tmp_path):
    contents = {key: value.astype(np.float32) if "image" in key else value for key, value in arrays().items()}
    contents["test__image"][:] = contents["test__image"].clip(0, 248)
    dataset = load_dataset("mine", save(tmp_path, **contents, __data_scale=scale))
    check_preprocessing(dataset, {}, "an experiment of floats")
    if largest is None:
        check_preprocessing(dataset, {"divide_by": 255}, "e")
    else:
        with pytest.raises(
            DataError, match=rf"mine reach {largest}, those of e are divided by 255; in an npz file, __data_scale"
        ):
            check_preprocessing(dataset, {"divide_by": 255}, "e")


def test_floats_that_are_multiplied_by_the_scale_are_refused(tmp_path):
    contents = {key: (value / 255) if "image" in key else value for key, value in arrays().items()}
    with pytest.raises(DataError, match="pixel values are divided by it; give 1 for floats that are scaled already"):
        load_dataset("mine", save(tmp_path, **contents, __data_scale=1 / 255))
    halves = {key: (value / 2) if "image" in key else value for key, value in contents.items()}
    assert load_dataset("mine", save(tmp_path, **halves, __data_scale=0.5)).divide_by == 0.5


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_images_that_were_divided_before_they_are_divided_are_refused(dtype, tmp_path):
    contents = {key: (value / 255).astype(dtype) if "image" in key else value for key, value in arrays().items()}
    contents["test__image"][0] = 1
    dataset = load_dataset("mine", save(tmp_path, **contents, __data_scale=255))
    check_preprocessing(dataset, {}, "an experiment that says nothing")
    with pytest.raises(
        DataError, match=r"mine reach only 0.003922, those of e are divided by 255; in an npz file, __data_scale"
    ):
        check_preprocessing(dataset, {"divide_by": 255}, "e")


@pytest.mark.parametrize(
    ("name", "known"),
    [("data_scale", "__data_scale"), ("num_classes", "__num_classes"), ("Train_Index", "train__index")],
)
def test_arrays_that_are_nearly_those_of_the_convention_are_told(name, known, tmp_path):
    path = save(tmp_path, **arrays(), **{name: np.arange(9)})
    with pytest.warns(UserWarning, match=f"mine.npz: {name} is left unread; its name in the convention is {known}"):
        load_dataset("mine", path)


def test_other_splits_and_arrays_are_left_unread(tmp_path):
    contents = arrays(valid__image=np.array([{}]), valid__label=np.zeros(3), notes=np.array(["x"], object))
    assert len(load_dataset("mine", save(tmp_path, **contents)).labels("train")) == 9


def test_digits_are_those_of_scikit_learn():
    dataset, source = load_dataset("digits"), sklearn_digits()
    images = torch.cat([dataset.train.images, dataset.test.images])
    assert np.array_equal(images[:, 0].numpy(), source.images)
    assert np.array_equal(torch.cat([dataset.labels("train"), dataset.labels("test")]).numpy(), source.target)
    assert (len(dataset.labels("train")), dataset.divide_by, dataset.num_classes) == (1437, 16.0, 10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test__label": None}, "has no test__label"),
        (
            {"train__image": None, "x_test": np.zeros(4), "x_train": np.zeros(9), "y_train": np.zeros(9)},
            "has no train__image, only .*; name x_train train__image, y_train train__label, and so on",
        ),
        (
            {"train__image": np.zeros((9, 5, 4, 3), np.float32)},
            "train__image are torch.float32 .*test__image torch.uint8",
        ),
        ({"train__image": np.zeros((9, 5, 5, 3), np.uint8)}, "train__image are torch.uint8 .3, 5, 5., test__image"),
        ({"train__image": np.full((9, 5, 4, 3), np.nan)}, "train__image has values that are not finite numbers"),
        (
            {"train__image": np.zeros((9, 5, 4, 3), np.int16)},
            r"train__image is int16 .*; pixels: .astype\('uint8'\), other numbers such as token ids: .astype\('fl",
        ),
        ({"__data_scale": np.float32(np.inf)}, "__data_scale is inf"),
        ({"__num_classes": np.float32(np.inf)}, "__num_classes is inf"),
        ({"__data_scale": "255"}, "__data_scale is '255', expected one number above 0"),
        (
            {f"{split}__image": np.zeros((n, 3, 5, 6), np.uint8) for split, n in (("train", 9), ("test", 4))},
            r"train__image is \(9, 3, 5, 6\), channels first; expected \(9, 5, 6, 3\)",
        ),
        (
            {f"{split}__image": np.zeros((n, 4, 5, 6), np.uint8) for split, n in (("train", 9), ("test", 4))},
            r"train__image is \(9, 4, 5, 6\), channels first; expected \(9, 5, 6, 4\)",
        ),
        (
            {f"{split}__image": np.full((n, 5, 4), 1e300) for split, n in (("train", 9), ("test", 4))},
            "train__image has values that are not finite numbers of float32",
        ),
        ({"train__label": np.full(9, 10**9)}, "train__label: label 1000000000 at position 0, expected 0 ... 999999"),
        ({"__num_classes": 10**12}, "__num_classes is 1e.12, expected a whole number up to 1000000"),
        ({"__num_classes": 3.5}, "__num_classes is 3.5, expected a whole number"),
        ({"test__index": np.zeros((4, 1), np.int64)}, "test__index is not 0 ... 3 in some order"),
        (
            {"train__image": np.zeros((9, 5), np.uint8)},
            r"train__image is uint8 .*; rows of 5 features: \[:, None\], \(9, 1, 5\)",
        ),
        ({"train__label": np.zeros(8, np.int64)}, "train__label is int64 .8,., expected 9 integers"),
        ({"train__label": np.zeros(9)}, "train__label is float64 .9,., expected 9 integers, the class of each example"),
        ({"train__label": np.array([0, 1, 2, 0, -1, 2, 0, 1, 2])}, "train__label: label -1 at position 4"),
        ({"__num_classes": np.int64(2)}, "train__label: label 2 at position 2, expected 0 ... 1"),
        ({"__num_classes": np.array([2, 3])}, "__num_classes is int64 .2,., expected one number"),
        ({"__data_scale": np.float32(0)}, "__data_scale is 0.0"),
        ({"test__index": np.array([0, 1, 2, 2])}, "test__index is not 0 ... 3 in some order"),
        ({"test__index": np.array([1, 2, 3, 4])}, "test__index is not 0 ... 3 in some order"),
        ({"train__label": np.array([{}] * 9)}, "is not a readable npz file .*train__label holds object"),
    ],
)
def test_wrong_arrays_are_named(changes, message, tmp_path):
    with pytest.raises(DataError, match=f"mine.npz: {message}"):
        load_dataset("mine", save(tmp_path, **arrays(**changes)))


@pytest.mark.parametrize("contents", [b"", b"PK\x03\x04 and no more", b"text"])
def test_other_files_are_refused(contents, tmp_path):
    path = tmp_path / "mine.npz"
    path.write_bytes(contents)
    with pytest.raises(DataError, match=r"mine\.npz: is not a readable npz file"):
        load_dataset("mine", path)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"mine\.npz"):
        load_dataset("mine", tmp_path / "mine.npz")


@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_files_are_one_line(compressed, tmp_path):
    path = save(tmp_path, **arrays(), __data_scale=255, __num_classes=3)
    if compressed:
        np.savez_compressed(path, **arrays(), __data_scale=255)
    whole, random, refused = path.read_bytes(), np.random.default_rng(7), 0
    for _ in range(400):
        data = bytearray(whole)
        for place in random.integers(0, len(data), random.integers(1, 4)):
            data[place] = random.integers(0, 256)
        cut = random.integers(len(data) // 2, len(data)) if random.random() < 0.2 else len(data)
        path.write_bytes(data[:cut])
        try:
            load_dataset("mine", path)
        except DataError:
            refused += 1
    assert refused > 200


@pytest.mark.parametrize(
    ("most", "scale", "warned"), [(255, None, 1), (16, None, 1), (255, 255, 0), (255, 1, 0), (4, None, 0)]
)
def test_floats_that_nobody_scaled_are_warned_of(tmp_path, recwarn, most, scale, warned):
    contents = arrays()
    for split in ("train", "test"):
        contents[f"{split}__image"] = contents[f"{split}__image"].astype(np.float32) * (most / 255)
    contents["train__image"][0, 0, 0, 0] = most
    load_dataset("mine", save(tmp_path, **contents, __data_scale=scale))
    said = [str(warning.message) for warning in recwarn]
    assert len(said) == warned
    if warned:
        assert (
            f"train__image are floats up to {most}, and are not divided, since the file has no array __data_scale"
            in said[0]
        )
