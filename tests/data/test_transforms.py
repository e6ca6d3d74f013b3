"""The evaluation transforms work on PIL images and tensors, and say what the experiments declare.

Also of data/resize.py, data/resize_torch.py.
"""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from heldout_torch.data import imagenet_transform, load_digits, load_imagenet_image, transforms, unit_range
from heldout_torch.data.reencoded import reencode
from heldout_torch.data.resize_torch import resize_crops
from heldout_torch.data.transforms import transform_of
from heldout_torch.errors import DataError
from heldout_torch.zoo import known_experiments
from tests.helpers.devices import on_devices


@pytest.fixture
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (301, 257, 3), np.uint8))


def test_constants_are_those_of_the_experiment():
    assert known_experiments()["imagenet-resnet50"].preprocessing == {
        "divide_by": 255,
        "image_size": transforms.IMAGE_SIZE,
        "crop_fraction": transforms.CROP_FRACTION,
        "mean": list(transforms.MEAN),
        "std": list(transforms.STD),
    }


def test_imagenet_transform_is_the_exact_path_after_decoding(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")  # loses nothing, so both begin with the same pixels
    expected = load_imagenet_image(buffer.getvalue())
    assert expected.shape == (3, 224, 224)
    assert expected.dtype == torch.float32
    assert torch.equal(imagenet_transform(image), expected)
    assert torch.equal(imagenet_transform(torch.from_numpy(np.array(image)).permute(2, 0, 1)), expected)


def test_an_image_that_was_encoded_again_is_known_by_the_name_given_or_that_of_its_file(image, tmp_path):
    name = "n02105855_2933.JPEG"  # a PNG
    image.save(tmp_path / name, "PNG")
    data = (tmp_path / name).read_bytes()
    plain, again = load_imagenet_image(data), load_imagenet_image(reencode(data, name))
    assert not torch.equal(plain, again)
    (tmp_path / "other.JPEG").write_bytes(data)
    for given, expected in (
        ((tmp_path / name,), again),
        ((data, f"train/{name}"), again),
        ((tmp_path / "other.JPEG", name), again),
        ((tmp_path / name, "other.JPEG"), plain),
        ((tmp_path / "other.JPEG",), plain),
    ):
        assert torch.equal(load_imagenet_image(*given), expected), given


@pytest.mark.parametrize(
    ("height", "width", "top", "left"), [(256, 320, 16, 48), (320, 256, 48, 16), (257, 301, 17, 39), (290, 257, 33, 17)]
)
def test_an_image_of_256_pixels_on_its_shorter_side_is_only_cropped_to_its_middle(height, width, top, left):
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, height, width), np.uint8))
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected = (pixels[:, top : top + 224, left : left + 224] / 255 - mean) / std
    torch.testing.assert_close(imagenet_transform(pixels), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [1, 2, 100, 223, 224, 225, 600])
def test_resize_is_near_interpolation_by_pytorch(size):
    crop = np.random.default_rng(size).integers(0, 256, (size, size, 3), np.uint8)
    unit = torch.from_numpy(crop).permute(2, 0, 1).float()[None] / 255
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (transforms.MEAN, transforms.STD))
    expected = (torch.nn.functional.interpolate(unit, (224, 224), mode="bilinear")[0] - mean) / std
    # The two round positions otherwise: about 1e-7 of the crop's side, times the contrast of noise.
    assert (transforms.preprocess_crop(crop) - expected).abs().max() < 3e-4


@on_devices
def test_crops_of_any_sizes_are_resized_on_a_device_to_the_very_same_numbers(device):
    random = np.random.default_rng(1)
    sizes = [(1, 1), (2, 3), (100, 100), (223, 225), (224, 224), (225, 223), (328, 328), (600, 40), (439, 437)]
    sizes += [(int(h), int(w)) for h, w in random.integers(5, 400, (31, 2))]
    crops = [random.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    crops[3] = crops[3][:, ::-1]  # mirrored crops are not contiguous arrays
    torch.set_default_dtype(torch.float64)  # as a notebook may have done
    try:
        with torch.device("meta"):  # which it may have made the default, too
            images = resize_crops(crops, torch.device(device))
    finally:
        torch.set_default_dtype(torch.float32)
    assert images.device.type == device
    for crop, image in zip(crops, images.cpu(), strict=True):
        assert torch.equal(image, transforms.preprocess_crop(crop))


@on_devices
def test_unit_range_divides_by_255(device, image):
    pixels = np.array(image)
    expected = torch.from_numpy(pixels.astype(np.float32) / np.float32(255)).permute(2, 0, 1)
    assert torch.equal(unit_range(image), expected)
    batch = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(device)
    assert torch.equal(unit_range(batch).cpu()[0], expected)
    assert unit_range(image.convert("L")).shape == (1, 301, 257)


@pytest.mark.parametrize(
    "wrong",
    [torch.zeros(3, 9, 9), torch.zeros(1, 9, 9, dtype=torch.uint8), torch.zeros(3, 1, 9, dtype=torch.uint8)],
)
def test_other_images_are_refused(wrong):
    with pytest.raises(DataError, match=r"expected torch\.uint8"):
        imagenet_transform(wrong)


@pytest.mark.parametrize("divisor", ["x", [255], None, True, 0, -1, float("nan"), 10**400])
def test_a_divisor_of_a_foreign_run_that_is_no_number_is_one_line(divisor):
    with pytest.raises(DataError, match=r"divide_by of the preprocessing is .*, expected a number above 0"):
        transform_of({"divide_by": divisor})


@pytest.mark.parametrize("transform", [unit_range, transform_of({"divide_by": 16})])
def test_images_that_may_be_divided_already_are_refused(transform):
    """They were divided again, without a word."""
    for image in (torch.rand(1, 8, 8), torch.rand(1, 8, 8).half(), torch.zeros(1, 8, 8, dtype=torch.int64)):
        with pytest.raises(
            DataError, match=r"image is torch\..* \(1, 8, 8\), expected a PIL image or a tensor of torch.uint8"
        ):
            transform(image)
    with pytest.raises(DataError, match="split are scaled already: give them to the network as they are"):
        transform(load_digits().split("train")[0][0])
    for image in (np.zeros((1, 8, 8), np.uint8), np.zeros(8, np.uint8), np.zeros((8, 8), bool), "x", None):
        with pytest.raises(DataError, match=r"expected a PIL image or a tensor"):
            transform(image)
    tensors = [torch.zeros(1, 8, 8, requires_grad=True)]
    for image in (tensors, load_digits().split("test"), load_digits(), [[1], [2, 3]]):
        with pytest.raises(DataError, match=rf"image is {type(image).__name__}, expected a PIL image or a tensor"):
            transform(image)
    assert transform(np.zeros((8, 8), np.uint8)).shape == (1, 8, 8)
    assert transform(torch.zeros((5, 3, 8, 8), dtype=torch.uint8)).shape == (5, 3, 8, 8)
    floats = transform_of({})  # of a data set that was stored divided
    assert floats(torch.full((1, 2, 2), 0.5)).max() == 0.5


@pytest.mark.parametrize("mode", ["P", "1", "RGBA", "I;16"])
def test_images_whose_values_are_no_colours_are_refused(mode):
    image = Image.new(mode, (224, 224))
    for transform in (unit_range, imagenet_transform):
        with pytest.raises(DataError, match=rf"PIL's mode '{mode}', expected L or RGB: image.convert\('RGB'\)"):
            transform(image)
    assert unit_range(torch.full((4, 3), 255, dtype=torch.uint8)).shape == (1, 4, 3)
