"""Images of examples, and sprites that hold them."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from heldout_torch.data import ArrayDataset, Split
from heldout_torch.errors import DataError
from heldout_torch.report.thumbnails import encode_sprites, make_tiles, read_images


def tile(sprites, side, place):
    block, cell = divmod(place, 256)
    top, left = (cell // 16) * side, (cell % 16) * side
    pixels = np.asarray(Image.open(io.BytesIO(sprites[block])).convert("RGB"))
    return pixels[top : top + side, left : left + side]


def test_images_come_by_published_index_and_in_full_range(digits):
    index = torch.arange(1437).flip(0)
    turned = replace(digits, train=replace(digits.train, images=digits.train.images.flip(0), index=index))
    image, *_ = read_images(turned, "train", np.array([7, 3]))
    expected = digits.train.images[7].numpy() * (255 / 16)
    assert image.shape == (1, 8, 8)
    assert np.abs(image - expected).max() <= 0.5


def test_a_small_set_is_kept_without_loss():
    images = [np.random.RandomState(i).randint(0, 256, (3, 9, 9)).astype(np.uint8) for i in range(300)]
    ending, sprites = encode_sprites(make_tiles(images), 10**7)
    sprites = list(sprites)
    assert (ending, len(sprites)) == ("png", 2)
    for place in (0, 17, 255, 256, 299):
        np.testing.assert_array_equal(tile(sprites, 9, place), images[place].transpose(1, 2, 0))


def test_a_large_set_is_made_to_fit_and_stays_recognisable():
    ramp = np.add.outer(np.arange(32), np.arange(32))
    rng = np.random.RandomState(0)
    tiles = np.clip(ramp[..., None] * rng.rand(1024, 1, 1, 3) * 3 + rng.randint(0, 40, (1024, 32, 32, 3)), 0, 255)
    tiles = tiles.astype(np.uint8)
    lossless = sum(map(len, encode_sprites(tiles, 10**9)[1]))
    ending, sprites = encode_sprites(tiles, lossless // 5)
    sprites = list(sprites)
    assert ending == "webp"
    assert sum(map(len, sprites)) <= lossless // 5
    assert np.abs(tile(sprites, 32, 700).astype(int) - tiles[700]).mean() < 15


def test_large_images_are_made_smaller_and_centred():
    tiles = make_tiles([np.full((1, 50, 200), 200, np.uint8)])
    assert tiles.shape == (1, 64, 64, 3)
    assert (tiles[0, 24:40] == 200).all()
    assert not tiles[0, :24].any()
    assert not tiles[0, 40:].any()


def test_images_that_are_missing_or_unreadable_are_gaps():
    index = torch.tensor([4, 0])
    part = Split(torch.ones(2, 1, 3, 3, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), index, index)
    images = read_images(ArrayDataset("part", part, part, 1, 255.0), "train", np.arange(5))
    assert [image is not None for image in images] == [True, False, False, False, True]

    class OneByOne:
        def picture(self, split, index):
            if index == 1:
                raise DataError("damaged")
            return np.full((3, 20, 20), index, np.uint8)

    images = read_images(OneByOne(), "test", np.arange(3))
    assert images[1] is None
    assert images[2].shape == (3, 20, 20)


def test_nothing_but_gaps_still_makes_tiles():
    tiles = make_tiles([])
    assert len(tiles) == 0
    assert list(encode_sprites(tiles, 100)[1]) == []


@pytest.mark.parametrize("count", [1, 16, 17])
def test_a_sprite_is_no_taller_than_its_images(count):
    _, sprites = encode_sprites(np.zeros((count, 5, 5, 3), np.uint8), 10**6)
    assert Image.open(io.BytesIO(next(sprites))).size == (80, 5 * -(-count // 16))
