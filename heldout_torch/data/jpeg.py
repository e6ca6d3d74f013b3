"""Decodes a crop of a JPEG to the very bytes that TensorFlow's `decode_and_crop_jpeg` gives.

TensorFlow decodes with libjpeg-turbo's fast integer DCT and smooth ("fancy") chroma upsampling; simplejpeg can do the
same. One thing differs. Where chroma is stored at half the width, smooth upsampling mixes each chroma sample with its
neighbour in the next column. A cropped decoder has not decoded that neighbour at the edge of the crop, so it treats
the edge as the edge of the image, and one column of pixels comes out otherwise than in the whole image.

An image whose crop has such an edge is decoded without color instead, and its crop converted here. Its header is
changed to call the components RGB: then the decoder converts nothing, and with plain upsampling every stored sample
stands as it is.
"""

import io
from collections.abc import Callable

import numpy as np
import simplejpeg

from heldout_torch.data.chroma import convert_crop, edges_differ
from heldout_torch.errors import DataError, one_line

_START = b"\xff\xd8"
MAX_IMAGE = 2**28  # bytes of an image's file; ImageNet's largest has 15 million
MAX_PIXELS = 10**8  # of an image; the largest of ImageNet have some 60 million
_PNG = b"\x89PNG\r\n\x1a\n"
_ADOBE_RGB = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"  # an Adobe marker that says: no color transform
_ADOBE, _START_OF_SCAN = 0xEE, 0xDA

Box = tuple[int, int, int, int]


def decode_crop(data: bytes, box: Callable[[int, int], Box], name: str) -> np.ndarray:
    """Decode a crop of an image.

    Args:
        data: The file's contents: a JPEG (gray, YCbCr, RGB, CMYK or YCCK; any subsampling; progressive or not), or a
            PNG, of which there is one among ImageNet's .JPEG files.
        box: Maps the image's height and width to the crop's top, left, height and width.
        name: What errors call the file.

    Returns:
        uint8 of shape (height, width, 3), RGB: of a JPEG, equal to TensorFlow's `decode_and_crop_jpeg(channels=3)`.

    Raises:
        DataError: If the image is damaged, cut off or of another kind.
    """
    if data.startswith(_PNG):
        return _decode_png(data, box, name)
    try:
        height, width, colorspace, subsampling = simplejpeg.decode_jpeg_header(data, strict=False)
    except (ValueError, KeyError, IndexError) as error:
        raise DataError(f"{name}: is not a readable JPEG ({one_line(error)})") from None
    top, left, rows, columns = _checked_box(box, height, width, name)
    inks = colorspace in ("CMYK", "YCCK")
    mixed = colorspace in ("YCbCr", "YCCK") and subsampling in ("422", "420") and edges_differ(left, columns, width)
    # Where the crop's edges matter, stored components are decoded instead of colors: (h, w, 3 or 4)
    pixels = _decode(without_color(data) if mixed else data, "CMYK" if inks else "RGB", mixed, name)
    crop = pixels[top : top + rows, left : left + columns].copy()
    if mixed:
        convert_crop(pixels, top, left, subsampling == "420", crop)
        if inks:
            crop[..., :3] ^= 0xFF  # inks are the complements of colors
    return _inks_to_rgb(crop, data) if inks else crop


def _checked_box(box: Callable[[int, int], Box], height: int, width: int, name: str) -> Box:
    if height * width > MAX_PIXELS:  # a file of a few hundred bytes can declare thousands of millions
        raise DataError(f"{name}: declares {height} x {width} pixels, more than the {MAX_PIXELS} expected at most")
    top, left, rows, columns = box(height, width)
    if rows < 1 or columns < 1:
        raise DataError(f"{name}: an image of {height} x {width} pixels is too small to crop")
    return top, left, rows, columns


def _decode(data: bytes, colorspace: str, plain_upsampling: bool, name: str) -> np.ndarray:
    def decode(strict: bool) -> np.ndarray:
        return simplejpeg.decode_jpeg(data, colorspace, fastdct=True, fastupsample=plain_upsampling, strict=strict)

    try:
        try:
            return decode(strict=True)
        except ValueError as error:
            # Bytes between the image and its end marker do no harm; a few files of ImageNet have them.
            if "extraneous bytes" not in str(error):
                raise
            return decode(strict=False)
    except ValueError as error:
        raise DataError(f"{name}: is not a readable JPEG ({one_line(error)})") from None


def _inks_to_rgb(crop: np.ndarray, data: bytes) -> np.ndarray:
    inks = crop.astype(np.uint16)  # (rows, columns, 4)
    if not any(marker == _ADOBE for marker, _, _ in _segments(data)):
        inks = 255 - inks  # Adobe's files hold inks inverted, others do not
    return (inks[..., :3] * inks[..., 3:] // 255).astype(np.uint8)


def without_color(data: bytes) -> bytes:
    """Return a JPEG under a header without application markers but one, which says that its components are RGB."""
    segments = _segments(data)
    kept = [data[begin:end] for marker, begin, end in segments if not 0xE0 <= marker <= 0xEF]
    return b"".join([_START, _ADOBE_RGB, *kept, data[segments[-1][2] :]])


def _segments(data: bytes) -> list[tuple[int, int, int]]:
    """List marker, begin and end of the segments before the first scan of a JPEG whose header could be decoded."""
    segments, at = [], len(_START)
    while at + 4 <= len(data) and data[at + 1] != _START_OF_SCAN:
        if data[at + 1] == 0xFF:  # fill bytes may stand before a marker
            at += 1
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        segments.append((data[at + 1], at, end))
        at = end
    return segments


def _decode_png(data: bytes, box: Callable[[int, int], Box], name: str) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            top, left, rows, columns = _checked_box(box, image.height, image.width, name)
            pixels = np.array(image.convert("RGB"))  # (h, w, 3)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{name}: is not a readable PNG ({one_line(error)})") from None
    return np.ascontiguousarray(pixels[top : top + rows, left : left + columns])
