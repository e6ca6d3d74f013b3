"""The images that the published pipeline re-encoded come out as it stored them."""

import io

import numpy as np
import pytest

from heldout_torch.data.jpeg import decode_crop
from heldout_torch.data.reencoded import REENCODED, reencode
from tests.data.photographs import encode, make_jpegs, photographs
from tests.reference import run_reference


def whole(height, width):
    return 0, 0, height, width


@pytest.fixture(scope="module")
def files():
    made = {name.replace(".jpg", ".JPEG"): data for name, data in make_jpegs(["cmyk", "ycck-420"], each=6, seed=5)}
    for number, size in enumerate([(200, 151), (333, 334)]):
        buffer = io.BytesIO()
        photographs()[number].resize(size).save(buffer, "PNG")
        made[f"png-{number}.JPEG"] = buffer.getvalue()
    return made


def test_pixels_are_those_that_tensorflow_datasets_stores(files, tmp_path):
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    run_reference("reencode", tmp_path)
    with np.load(tmp_path / "reencoded.npz") as expected:
        assert len(expected.files) == len(files)
        for name, data in files.items():
            assert np.array_equal(decode_crop(reencode(data, name), whole, name), expected[name]), name


def test_they_are_not_the_pixels_of_the_file_itself(files):
    for name, data in files.items():
        assert not np.array_equal(decode_crop(reencode(data, name), whole, name), decode_crop(data, whole, name))


def test_what_is_rgb_already_stays():
    data = encode(photographs()[0], "420", 90)
    assert reencode(data, "x") is data


def test_the_list_is_that_of_tensorflow_datasets():
    from importlib import resources

    pytest.importorskip("tensorflow_datasets", reason="no tensorflow-datasets: pip install -e '.[parity]'")
    source = resources.files("tensorflow_datasets").joinpath("datasets/imagenet2012/imagenet2012_dataset_builder.py")
    text = source.read_text()
    assert len(REENCODED) == 23
    assert all(f"'{name}.JPEG'" in text for name in REENCODED)
