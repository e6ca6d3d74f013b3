"""Images as people see them, and sprites: one file for many of them."""

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from heldout_torch.errors import DataError
from heldout_torch.optional import require

if TYPE_CHECKING:
    from heldout_torch.data import Dataset, SplitName

SIDE = 16  # images in a row and in a column of a sprite
LARGEST = 64  # pixels; larger images are made smaller
_QUALITIES = (92, 80, 65, 50, 35, 20, 8)  # of WebP


def read_images(dataset: "Dataset", split: "SplitName", index: np.ndarray) -> list[np.ndarray | None]:
    """Read examples by published index, brought to the range 0 ... 255.

    Args:
        dataset: Where the images are.
        split: `train` or `test`.
        index: Published indices, integers of shape (k,).

    Returns:
        Each uint8 of shape (c, h, w); None where the data set has no image, or cannot read it.
    """
    images: list[np.ndarray | None] = []
    for i in index.tolist():
        try:
            images.append(dataset.picture(split, i))
        except DataError:
            images.append(None)
    return images


def make_tiles(images: list[np.ndarray]) -> np.ndarray:
    """Bring images to one square size of at most 64 pixels, RGB.

    Args:
        images: Each uint8 of shape (c, h, w) with one or three channels.

    Returns:
        uint8 of shape (k, side, side, 3).
    """
    side = min(LARGEST, max((max(image.shape[1:]) for image in images), default=1))
    tiles = np.zeros((len(images), side, side, 3), np.uint8)
    for tile, image in zip(tiles, images, strict=True):
        pixels = image.transpose(1, 2, 0)
        if max(pixels.shape[:2]) > side:
            pixels = _smaller(pixels, side)
        h, w, _ = pixels.shape
        top, left = (side - h) // 2, (side - w) // 2
        tile[top : top + h, left : left + w] = pixels
    return tiles


def encode_sprites(tiles: np.ndarray, max_bytes: int) -> tuple[str, Iterator[bytes]]:
    """Encode tiles, 256 to a sprite: lossless PNG if they fit, else WebP of the best quality that does.

    Args:
        tiles: uint8 of shape (k, side, side, 3).
        max_bytes: For all together. Sizes are estimated from a few sprites, and the lowest quality may exceed it.

    Returns:
        Ending of the files, and their contents in order.
    """
    blocks = [tiles[start : start + SIDE * SIDE] for start in range(0, len(tiles), SIDE * SIDE)]
    tried = blocks[:: max(1, len(blocks) // 4)]
    share = len(tiles) / max(1, sum(map(len, tried)))
    if share * sum(len(_encode(block, "PNG")) for block in tried) <= max_bytes:
        return "png", (_encode(block, "PNG") for block in blocks)
    for quality in _QUALITIES:
        if share * sum(len(_encode(block, "WEBP", quality)) for block in tried) <= 0.95 * max_bytes:
            break
    return "webp", (_encode(block, "WEBP", quality) for block in blocks)


def _encode(tiles: np.ndarray, form: str, quality: int = 0) -> bytes:
    side = tiles.shape[1]
    rows = -(-len(tiles) // SIDE)
    sheet = np.zeros((rows * SIDE, side, side, 3), np.uint8)
    sheet[: len(tiles)] = tiles
    pixels = sheet.reshape(rows, SIDE, side, side, 3).swapaxes(1, 2).reshape(rows * side, SIDE * side, 3)
    options = {"optimize": True} if form == "PNG" else {"quality": quality, "method": 2}
    image = require("PIL.Image", "a picture").fromarray(pixels)
    if (pixels == pixels[..., :1]).all():
        image = image.convert("L")
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def _smaller(pixels: np.ndarray, side: int) -> np.ndarray:
    images = require("PIL.Image", "a picture")
    h, w, _ = pixels.shape
    size = max(1, round(w * side / max(h, w))), max(1, round(h * side / max(h, w)))
    image = images.fromarray(np.broadcast_to(pixels, (h, w, 3)).copy())
    return np.asarray(image.resize(size, images.Resampling.BOX))
