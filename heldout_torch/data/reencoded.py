"""The 23 training images of ImageNet that the published pipeline stored as other JPEGs than they are.

tensorflow-datasets' `imagenet2012` decodes these files, 22 of CMYK and a PNG, and encodes them as RGB JPEGs of quality
100 with TensorFlow's encoder, which keeps chroma at half the width and height. What a network saw is decoded from that.
"""

import os

import simplejpeg

from heldout_torch.data.jpeg import decode_crop

# By name in the published index. Source: tensorflow-datasets, `imagenet2012`.
REENCODED = {
    "n01739381_1309", "n02077923_14822", "n02447366_23489", "n02492035_15739", "n02747177_10752",
    "n03018349_4028", "n03062245_4620", "n03347037_9675", "n03467068_12171", "n03529860_11437",
    "n03544143_17228", "n03633091_5218", "n03710637_5125", "n03961711_5286", "n04033995_2932",
    "n04258138_17003", "n04264628_27969", "n04336792_7448", "n04371774_5854", "n04596742_4225",
    "n07583066_647", "n13037406_4650", "n02105855_2933",
}  # fmt: skip


def is_reencoded(name: str) -> bool:
    """Whether the published pipeline re-encoded the file of this name, such as `n01739381_1309.JPEG`."""
    return os.path.splitext(os.path.basename(name))[0] in REENCODED


def reencode(data: bytes, name: str) -> bytes:
    """Return the JPEG that the published pipeline stored for a file of `REENCODED`, down to its pixels.

    A JPEG of RGB, which somebody has converted before, is left as it is.

    Args:
        data: The file's contents.
        name: What errors call it.

    Raises:
        DataError: If the image cannot be decoded.
    """
    if data.startswith(b"\xff\xd8") and simplejpeg.decode_jpeg_header(data, strict=False)[2] not in ("CMYK", "YCCK"):
        return data
    pixels = decode_crop(data, lambda height, width: (0, 0, height, width), name)  # (h, w, 3)
    return simplejpeg.encode_jpeg(pixels, quality=100, colorspace="RGB", colorsubsampling="420", fastdct=False)
