"""JPEGs of every kind that ImageNet has, made from photographs that come with scikit-learn and scikit-image."""

import io
from collections.abc import Iterator
from functools import cache

import numpy as np
import simplejpeg
import skimage.data
from PIL import Image
from sklearn.datasets import load_sample_images

KINDS = ["444", "422", "420", "gray", "cmyk", "progressive-444", "progressive-422", "progressive-420"]
RARE_KINDS = ["440", "411", "rgb", "restarts-420", "ycck-444", "ycck-422", "ycck-420", "plain-cmyk"]
_SUBSAMPLING = {"444": 0, "422": 1, "420": 2}


@cache
def photographs() -> list[Image.Image]:
    arrays = [*load_sample_images().images, skimage.data.astronaut(), skimage.data.chelsea(), skimage.data.coffee()]
    return [Image.fromarray(array) for array in arrays]


def encode(image: Image.Image, kind: str, quality: int) -> bytes:
    """Encode an RGB image as one of `KINDS` or `RARE_KINDS`."""
    buffer = io.BytesIO()
    sort, _, subsampling = kind.rpartition("-")
    options = {"quality": quality, "subsampling": _SUBSAMPLING.get(subsampling, 0)}
    if kind in ("440", "411"):
        return simplejpeg.encode_jpeg(np.array(image), quality, colorsubsampling=kind)
    if sort == "ycck":
        inks = np.ascontiguousarray(255 - np.array(image.convert("CMYK")))
        return simplejpeg.encode_jpeg(inks, quality, "CMYK", colorsubsampling=subsampling)
    if kind in ("gray", "cmyk", "plain-cmyk"):
        image = image.convert("L" if kind == "gray" else "CMYK")
        options["subsampling"] = 0
    image.save(
        buffer, "JPEG", **options, progressive=sort == "progressive", keep_rgb=kind == "rgb",
        restart_marker_blocks=5 if sort == "restarts" else 0,
    )  # fmt: skip
    data = buffer.getvalue()
    if kind == "plain-cmyk":  # without the marker of Adobe, inks are not inverted
        at = data.index(b"\xff\xeeXXAdobe".replace(b"XX", b"\x00\x0e"))
        data = data[:at] + data[at + 16 :]
    return data


def make_jpegs(kinds: list[str], each: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Give name and contents of `each` JPEGs of each kind, 60 to 900 pixels wide and high."""
    random = np.random.default_rng(seed)
    for kind in kinds:
        for number in range(each):
            image = photographs()[number % 5].resize(tuple(random.integers(60, 901, 2).tolist()))
            yield f"{kind}-{number:03d}.jpg", encode(image, kind, int(random.integers(40, 98)))
