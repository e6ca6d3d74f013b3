"""Small data sets live whole on the device as bytes, and come in batches in published order.

Also of data/arrays.py, data/checks.py, data/digits.py, data/rows.py.
"""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from heldout_torch.data import ArrayDataset, Split, as_stored, load_dataset
from heldout_torch.data.arrays import scaled
from heldout_torch.errors import DataError
from heldout_torch.evaluation import evaluate
from tests.helpers.devices import on_devices


@on_devices
@pytest.mark.parametrize("batch_size", [1, 100, 360, 1000])
def test_batches_go_through_a_split_once(batch_size, device):
    dataset = load_dataset("digits")
    batches = list(dataset.batches("test", batch_size, device))
    assert all(len(batch.index) == batch_size for batch in batches[:-1])
    assert all(batch.images.device.type == batch.labels.device.type == device for batch in batches)
    assert torch.cat([batch.index for batch in batches]).tolist() == list(range(360))
    images = torch.cat([batch.images.cpu() for batch in batches])
    assert images.dtype == torch.float32
    assert torch.equal(images, dataset.test.images.float() / 16)
    assert torch.equal(torch.cat([batch.labels.cpu() for batch in batches]), dataset.labels("test"))


@on_devices
def test_split_moves_as_bytes(device):
    moved = load_dataset("digits").train.to(device)
    assert (moved.images.dtype, moved.images.device.type) == (torch.uint8, device)
    assert moved.index.device.type == moved.original_index.device.type == "cpu"


def test_import_brings_nothing_heavy():
    heavy = ["PIL", "numba", "simplejpeg", "tensorflow", "torchvision"]
    code = f"import sys; from heldout_torch.data import *; print([name for name in {heavy} if name in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


@pytest.mark.parametrize("split", ["removed", "trian", "Train", "val", "", "TEST"])
def test_an_unknown_split_is_an_error_and_never_the_test_set(split):
    dataset = load_dataset("digits")
    asks = (
        dataset.labels, dataset.original_index, dataset.file_names, dataset.split,
        lambda name: dataset.batches(name, 10), lambda name: dataset.image(name, 0),
        lambda name: dataset.picture(name, 0),
        lambda name: evaluate(torch.nn.Flatten(), dataset, name),
    )  # fmt: skip
    for ask in asks:
        with pytest.raises(DataError, match=f"split '{split}' is not known, expected 'train' or 'test'"):
            ask(split)
    with pytest.raises(DataError, match="did you mean 'train'"):
        dataset.labels("trian")


def test_printing_comparing_and_hashing_a_data_set():
    dataset, other = load_dataset("digits"), load_dataset("digits")
    things = [dataset, dataset.train, dataset.split("train"), next(dataset.batches("test", 7))]
    assert repr(dataset) == "<digits: 1,437 training and 360 test images (1, 8, 8), 10 classes>"
    assert repr(dataset.train) == "<Split of 1,437 images (1, 8, 8) torch.uint8>"
    assert repr(things[3]) == "<Batch of 7 images (1, 8, 8) on cpu>"
    for thing in things:
        assert thing == thing
        assert len({thing, thing}) == 1
        assert len(repr(thing)) < 80
    assert dataset != other


def test_a_split_is_a_data_set_of_torch():
    dataset = load_dataset("digits")
    rows = dataset.split("train")
    assert isinstance(rows, torch.utils.data.Dataset)
    assert len(rows) == 1437
    for index in (0, 7, np.int64(1436), torch.tensor(3), -1):
        image, label = rows[index]
        assert (image.dtype, image.shape, type(label)) == (torch.float32, (1, 8, 8), int)
        assert torch.equal(image, dataset.train.images[int(index)].float() / 16)
        assert label == dataset.train.labels[int(index)]
    for index in (slice(3), [1, 2], (1, 2), np.array([1, 2]), np.ones(1437, bool)):
        with pytest.raises(DataError, match=r"an integer; several: torch\.utils\.data\.Subset\(split, indices\)$"):
            rows[index]
    for index in (True, np.True_, 1.0, None):
        with pytest.raises(DataError, match=r"^example .*: expected a published index, an integer$"):
            rows[index]
        with pytest.raises(DataError, match=r"^example .*: expected a published index, an integer$"):
            load_dataset("digits").image("train", index)
    with pytest.raises(IndexError, match="no index 1437"):
        rows[1437]
    assert [label for _, label in rows] == dataset.labels("train").tolist()
    assert torch.equal(torch.utils.data.Subset(rows, [9, 4])[1][0], rows[4][0])


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_a_split_works_in_a_loader_with_workers(context):
    dataset = load_dataset("digits")
    loader = torch.utils.data.DataLoader(
        dataset.split("test"), batch_size=100, num_workers=2, multiprocessing_context=context
    )
    images, labels = (torch.cat(parts) for parts in zip(*loader, strict=True))
    assert torch.equal(images, dataset.test.images.float() / 16)
    assert torch.equal(labels, dataset.labels("test"))


def test_rows_in_another_order_are_found_by_published_index():
    images = torch.arange(3, dtype=torch.uint8)[:, None, None, None].repeat(1, 1, 2, 2)
    index = torch.tensor([4, 0, 2])
    part = Split(images, torch.tensor([1, 0, 1]), index, index)
    dataset = ArrayDataset("part", part, part, 2, 255.0)
    assert dataset.picture("test", 4).max() == 0
    assert dataset.picture("test", 2).min() == 2
    with pytest.raises(DataError, match="part: has no image of example 1 of test"):
        dataset.image("test", 1)
    for four in (np.int64(4), torch.tensor(4), np.array(4)):
        assert dataset.image("test", four).max() == 0
    for none in ("4", 4.0, None, [4]):
        with pytest.raises(DataError, match="expected a published index, an integer"):
            dataset.image("test", none)


def test_what_is_trained_on_and_evaluated_is_named_by_published_index():
    images, order = torch.arange(12, dtype=torch.uint8).view(6, 1, 1, 2), torch.tensor([3, 0, 5, 1, 2, 4])
    mixed, as_published = Split(images[order], LABELS[order], order, order), as_stored(images, LABELS)
    dataset, expected = (ArrayDataset("mine", rows, rows, 3, 255) for rows in (mixed, as_published))
    assert torch.equal(dataset.labels("train"), LABELS)
    assert dataset.digest() == expected.digest()
    wanted = [(0, torch.tensor([[5, 0], [1, 3]]))]
    found = [
        (*map(vars, one.batches("train", 4)), *one.training_batches("none", "cpu")([0, 1], wanted))
        for one in (dataset, expected)
    ]
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_a_part_of_a_training_set_is_not_trained_on():
    index = torch.tensor([0, 1, 2, 3, 4, 6])
    part = Split(IMAGES, LABELS, index, index)
    with pytest.raises(DataError, match="part: some of the training images are missing, and new runs need all of them"):
        ArrayDataset("part", part, part, 3, 255).training_batches("none", "cpu")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_images_of_any_floats_have_a_digest(dtype):
    images = IMAGES.to(dtype) / 255
    digests = {ArrayDataset("mine", *[as_stored(some, LABELS)] * 2, 3, 1).digest() for some in (images, images.float())}
    assert len(digests) == 2


def test_a_picture_is_black_and_white_beyond_what_is_divided_to_0_and_1():
    values = torch.tensor([-3.0, 0.0, 4.0, 8.0, 9.0, 300.0])[:, None, None, None]
    dataset = ArrayDataset("part", *2 * [as_stored(values, torch.zeros(6, dtype=torch.int64))], 1, 8.0)
    pictures = [dataset.picture("train", index) for index in range(6)]
    assert [picture.item() for picture in pictures] == [0, 0, 128, 255, 255, 255]
    assert {picture.dtype for picture in pictures} == {np.dtype(np.uint8)}


def test_a_digest_tells_images_labels_and_scale():
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (5, 1, 3, 3), generator=random, dtype=torch.uint8)
    labels = torch.tensor([0, 1, 0, 1, 1])

    def digest(images=images, labels=labels, divide_by=255.0):
        return ArrayDataset("mine", as_stored(images, labels), as_stored(images, labels), 2, divide_by).digest()

    assert digest() == digest()
    changed = images.clone()
    changed[3, 0, 2, 1] += 1
    others = [digest(images=changed), digest(labels=labels.flip(0)), digest(divide_by=16.0), digest(images.float())]
    assert len({digest(), *others}) == 5


IMAGES, LABELS = torch.zeros(6, 1, 8, 7, dtype=torch.uint8), torch.arange(6) % 3


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES[:, 0], LABELS, r"images are a tensor of uint8 \(6, 8, 7\), expected a tensor of uint8 or floats"),
        (IMAGES.permute(0, 2, 3, 1), LABELS, r"images are \(6, 8, 7, 1\), channels last; expected \(6, 1, 8, 7\)"),
        (IMAGES > 0, LABELS, "images are a tensor of bool"),
        (IMAGES.flatten(1), LABELS, r"images are .* \(n, c, h, w\); rows of features: \[:, None, None\]"),
        (IMAGES, LABELS[:, None], r"labels are .* expected a tensor of 6 integers, the class of each image"),
        (None, LABELS, "images are NoneType"),
        (IMAGES, LABELS.float(), r"labels are a tensor of float32 \(6,\), expected a tensor of 6 integers"),
        (IMAGES, LABELS > 1, "labels are a tensor of bool"),
        (IMAGES, torch.eye(3, dtype=torch.int64)[LABELS], r"labels are a tensor of int64 \(6, 3\)"),
        (IMAGES, LABELS[:4], r"labels are a tensor of int64 \(4,\)"),
        (IMAGES, [[1], [1, 2]], "labels are list"),
        (np.ma.array(IMAGES.numpy(), mask=IMAGES.numpy() == 0), LABELS, "images are MaskedArray"),
        (IMAGES, np.ma.array(LABELS.numpy(), mask=LABELS.numpy() > 1), "labels are MaskedArray"),
    ],
)
def test_images_and_labels_that_are_not_of_each_other_are_one_line(images, labels, message):
    with pytest.raises(DataError, match=message):
        as_stored(images, labels)


def test_arrays_of_numpy_and_lists_are_images_and_labels():
    rows = as_stored(IMAGES.numpy(), LABELS.tolist())
    mine = ArrayDataset("mine", rows, as_stored(IMAGES, LABELS.numpy().astype(">i2")), np.int64(3), np.float32(255))
    assert mine.digest() == ArrayDataset("mine", *[as_stored(IMAGES, LABELS)] * 2, 3, 255).digest()
    with pytest.raises(DataError, match=r"indices are a tensor of int64 .4,., expected a tensor of 6 integers"):
        Split(IMAGES, LABELS, LABELS[:4], LABELS)


@pytest.mark.parametrize(
    ("classes", "divide_by", "message"),
    [
        ("3", 255, "num_classes is '3', expected a number from 1"),
        (0, 255, "num_classes is 0"),
        (3.0, 255, "num_classes is 3.0"),
        (3, None, "divide_by is None, expected a number above 0, such as 255 for bytes"),
        (3, 0, "divide_by is 0"),
        (3, -255, "divide_by is -255"),
        (3, float("nan"), "divide_by is nan"),
        (3, 1 / 255, "divide_by is 0.00392, but pixel values are divided by it; give 255 for bytes, not 1/255"),
    ],
)
def test_sizes_that_are_none_are_one_line(classes, divide_by, message):
    rows = as_stored(IMAGES, LABELS)
    with pytest.raises(DataError, match=message):
        ArrayDataset("mine", rows, rows, classes, divide_by)
    with pytest.raises(DataError, match=r"mine: images of train are \(1, 8, 7\), those of test \(1, 4, 7\)"):
        ArrayDataset("mine", rows, as_stored(IMAGES[:, :, :4], LABELS), 3, 255)
    pair = (torch.zeros(3, 1, 8, 7), torch.zeros(3).long())
    with pytest.raises(DataError, match=r"mine: test is tuple, expected a Split, such as as_stored\(images, labels\)"):
        ArrayDataset("mine", as_stored(*pair), pair, 3, 1)


def test_a_default_device_moves_no_index_and_no_label():
    torch.set_default_device("meta")
    try:
        dataset = load_dataset("digits")
        batches = list(dataset.batches("test", 100))
        steps = [(0, torch.zeros(1, 3, dtype=torch.int64, device="cpu"))]
        mine = as_stored(dataset.test.images, dataset.test.labels)
        ((images, labels),) = dataset.training_batches("crop-flip", "cpu")([0], steps)
        evaluation = evaluate(torch.nn.Flatten(), ArrayDataset("x", dataset.test, dataset.test, 64, 16.0), "test")
    finally:
        torch.set_default_device(None)
    for tensor in (
        mine.index,
        mine.original_index,
        dataset.train.index,
        dataset.original_index("test"),
        images,
        labels,
        *vars(batches[0]).values(),
    ):
        assert tensor.device.type == "cpu"
    assert evaluation.index.tolist() == list(range(360))


class Operations(TorchDispatchMode):
    """Notes the names of the operations that run."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        self.names.add(str(function.overloadpacket))
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_dividing_sends_nothing_to_the_device(dtype):
    """A copy of the divisor from the host would make a GPU's queue run empty at every batch."""
    images = torch.ones(2, 1, 3, 3, dtype=dtype)
    with Operations() as seen:
        result = scaled(images, 16.0)
    assert result.dtype == torch.float32
    assert torch.equal(result, torch.full((2, 1, 3, 3), 1 / 16))
    assert "aten.lift_fresh" not in seen.names  # what `torch.tensor` does with a number of the host
    assert "aten.full" in seen.names
    assert images.unique().tolist() == [1]


def test_many_channels_of_few_pixels_are_channels_first():
    assert as_stored(torch.zeros(6, 8, 4, 4), torch.zeros(6, dtype=torch.int64)).images.shape == (6, 8, 4, 4)
