"""JPEGs come out of the decoder and the resize as out of TensorFlow's, byte for byte and bit for bit.

Also of data/chroma.py.
"""

import io

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from heldout_torch.data import jpeg, load_imagenet_image
from heldout_torch.data.transforms import center_box
from heldout_torch.errors import DataError
from tests.data.photographs import KINDS, RARE_KINDS, encode, make_jpegs, photographs
from tests.reference import run_reference


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """JPEGs by name, TensorFlow's crops by name, and TensorFlow's network inputs by place."""
    folder = tmp_path_factory.mktemp("jpegs")
    files = dict([*make_jpegs(KINDS, each=40, seed=0), *make_jpegs(RARE_KINDS, each=8, seed=1)])
    for name, data in files.items():
        (folder / name).write_bytes(data)
    run_reference("imagenet_preprocess", folder, folder)
    with np.load(folder / "crops.npz") as crops:
        return files, dict(crops), np.load(folder / "inputs.npy", mmap_mode="r")


def sliced(data, top, left, rows, columns):
    pixels = simplejpeg.decode_jpeg(data, fastdct=True, fastupsample=False)
    return pixels[top : top + rows, left : left + columns]


@pytest.mark.parametrize("kind", KINDS + RARE_KINDS)
def test_crop_equals_tensorflow(kind, reference):
    files, crops, _ = reference
    names = [name for name in files if name.startswith(f"{kind}-")]
    assert len(names) == (40 if kind in KINDS else 8)
    for name in names:
        assert np.array_equal(jpeg.decode_crop(files[name], center_box, name), crops[name]), name


def test_network_input_equals_tensorflow(reference):
    files, _, inputs = reference
    for row, name in enumerate(sorted(files)):
        assert np.array_equal(load_imagenet_image(files[name]).numpy(), inputs[row]), name


def test_longer_way_is_taken_only_where_slicing_may_be_wrong(reference, monkeypatch):
    files, crops, _ = reference
    longer = []
    without_color = jpeg.without_color
    monkeypatch.setattr(jpeg, "without_color", lambda data: longer.append(True) or without_color(data))
    needed = taken = 0
    for name, data in files.items():
        if "cmyk" in name or "ycck" in name:
            continue
        height, width, _, subsampling = simplejpeg.decode_jpeg_header(data)
        box = center_box(height, width)
        longer.clear()
        jpeg.decode_crop(data, center_box, name)
        wrong = not np.array_equal(sliced(data, *box), crops[name])
        assert len(longer) <= 1
        assert bool(longer) or not wrong
        if longer:
            assert subsampling in ("422", "420")
            assert (box[1] + box[3]) % 2 == 0 or box[1] % 16 == 0
        needed, taken = needed + wrong, taken + len(longer)
    assert 20 < needed <= taken < 1.5 * needed


@pytest.mark.parametrize("kind", ["422", "420"])
def test_any_crop_is_what_a_cropped_decoder_gives(kind):
    # Chroma that varies from column to column, so that a wrong neighbour shows.
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8))
    data = encode(image, kind, 95)
    whole = sliced(data, 0, 0, 50, 70)
    for left, right in ((0, 70), (5, 33), (1, 70), (0, 33)):  # no edge that a cropped decoder treats otherwise
        crop = jpeg.decode_crop(data, lambda h, w, at=left, to=right: (3, at, 40, to - at), "x")
        assert np.array_equal(crop, whole[3:43, left:right])
    for left, right, changed in ((16, 33, [0]), (16, 34, [0, 17]), (5, 34, [28])):
        crop = jpeg.decode_crop(data, lambda h, w, at=left, to=right: (3, at, 40, to - at), "x")
        different = (crop != whole[3:43, left:right]).any(axis=(0, 2))
        assert np.flatnonzero(different).tolist() == changed


def test_png_under_the_name_of_a_jpeg():
    image = photographs()[3].resize((75, 81))
    for mode in ("RGB", "RGBA", "L"):
        buffer = io.BytesIO()
        image.convert(mode).save(buffer, "PNG")
        expected = np.array(image.convert("L").convert("RGB") if mode == "L" else image)
        top, left, rows, columns = center_box(81, 75)
        crop = jpeg.decode_crop(buffer.getvalue(), center_box, "a.JPEG")
        assert np.array_equal(crop, expected[top : top + rows, left : left + columns])
    with pytest.raises(DataError, match=r"a\.JPEG: is not a readable PNG"):
        jpeg.decode_crop(buffer.getvalue()[:500], center_box, "a.JPEG")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"not an image",
        lambda data: data[:2],
        lambda data: data[:300],
        lambda data: data[: len(data) // 2],
        lambda data: data[:-2000],
        lambda data: b"GIF89a" + data[6:],
    ],
)
@pytest.mark.parametrize("kind", ["420", "progressive-422"])
def test_damaged_jpeg_is_named(kind, damage):
    data = damage(encode(photographs()[0], kind, 90))
    with pytest.raises(DataError, match=r"n01440764_1\.JPEG: is not a readable JPEG"):
        jpeg.decode_crop(data, center_box, "n01440764_1.JPEG")


def test_bytes_before_the_end_marker_do_no_harm():
    data = encode(photographs()[0].resize((120, 90)), "420", 90)
    with_bytes = data[:-2] + bytes(range(1, 200)) + data[-2:]
    with pytest.raises(ValueError, match="extraneous bytes"):
        simplejpeg.decode_jpeg(with_bytes)
    crop = jpeg.decode_crop(with_bytes, center_box, "x")
    assert np.array_equal(crop, jpeg.decode_crop(data, center_box, "x"))


def test_image_too_small_to_crop():
    with pytest.raises(DataError, match=r"tiny\.JPEG: an image of 1 x 9 pixels is too small"):
        jpeg.decode_crop(encode(photographs()[0].resize((9, 1)), "444", 90), center_box, "tiny.JPEG")
