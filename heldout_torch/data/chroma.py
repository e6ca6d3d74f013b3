"""Upsamples and converts the stored luma and chroma of a JPEG as a decoder does that sees only a crop of it."""

import numpy as np

from heldout_torch.storage.compiled import compiled

_ALIGNMENT = 16  # a cropped decoder begins at a multiple of this where chroma has half the width
_CENTER = 128  # chroma without color
_MARGIN = 384  # beyond what luma plus chroma can be below 0 or above 255

# The conversion's products, by byte of chroma, with 16 fractional bits: 1.402, 1.772, 0.34414 and 0.71414 times 2^16.
_CHROMA = np.arange(256, dtype=np.int64) - _CENTER
_RED = (91881 * _CHROMA + 32768) >> 16
_BLUE = (116130 * _CHROMA + 32768) >> 16
_GREEN_OF_BLUE = -22554 * _CHROMA + 32768
_GREEN_OF_RED = -46802 * _CHROMA
_CLIPPED = np.clip(np.arange(256 + 2 * _MARGIN) - _MARGIN, 0, 255).astype(np.uint8)


def edges_differ(left: int, columns: int, width: int) -> bool:
    """Return whether a cropped decoder lacks a chroma neighbour that a decoder of the whole image has.

    Args:
        left: First column of the crop.
        columns: Width of the crop.
        width: Width of the image, whose chroma is stored at half of it.
    """
    right = left + columns
    # At the right, only the second pixel of a chroma sample mixes with the next sample.
    return (left > 0 and left % _ALIGNMENT == 0) or (right < width and right % 2 == 0)


@compiled(nogil=True)
def convert_crop(stored: np.ndarray, top: int, left: int, half_height: bool, out: np.ndarray) -> None:
    """Convert a crop of stored Y, Cb, Cr to RGB, chroma smoothed within what a cropped decoder knows.

    Source: libjpeg's triangle filter, which mixes 3/4 of a chroma sample and 1/4 of the nearer neighbour in each
    dimension and rounds by an alternating bias, and its color conversion with 16 fractional bits.

    Args:
        stored: uint8 of shape (h, w, 3 or more), each chroma sample repeated over the pixels that it stands for.
        top: First row of the crop.
        left: First column of the crop.
        half_height: Whether chroma is stored at half the height too.
        out: uint8 of shape (rows, columns, 3 or more); its first three channels are written.
    """
    rows, columns = out.shape[:2]
    first, last = left // _ALIGNMENT * (_ALIGNMENT // 2), (left + columns - 1) // 2  # chroma columns that are known
    shift = left - 2 * first
    weighted = np.empty(last - first + 3, np.int32)
    blue, red = np.empty(2 * (last - first + 1), np.uint8), np.empty(2 * (last - first + 1), np.uint8)
    for row in range(rows):
        y = top + row
        near = y  # a row of the neighbouring chroma sample
        if half_height:
            near = max(y - 1, 0) if y % 2 == 0 else min(y + 1, stored.shape[0] - 1)
        _smooth(stored[y, :, 1], stored[near, :, 1], first, half_height, weighted, blue)
        _smooth(stored[y, :, 2], stored[near, :, 2], first, half_height, weighted, red)
        for column in range(columns):
            # Unsigned, so that no index is checked for counting from the end.
            luma, cb, cr = stored[y, left + column, 0] + _MARGIN, blue[column + shift], red[column + shift]
            out[row, column, 0] = _CLIPPED[np.uint64(luma + _RED[cr])]
            out[row, column, 1] = _CLIPPED[np.uint64(luma + ((_GREEN_OF_BLUE[cb] + _GREEN_OF_RED[cr]) >> 16))]
            out[row, column, 2] = _CLIPPED[np.uint64(luma + _BLUE[cb])]


@compiled(nogil=True)
def _smooth(
    here: np.ndarray, near: np.ndarray, first: int, half_height: bool, weighted: np.ndarray, out: np.ndarray
) -> None:
    # `out` gets two pixels for each chroma sample from `first`; beyond the known ones, the last is repeated.
    samples = len(out) // 2
    for sample in range(samples):
        place = 2 * (first + sample)
        weighted[sample + 1] = 3 * here[place] + near[place]  # four times the chroma of this row, whatever its height
    weighted[0], weighted[samples + 1] = weighted[1], weighted[samples]
    before, after = (8, 7) if half_height else (4, 8)
    for sample in range(samples):
        own = 3 * weighted[sample + 1]
        out[2 * sample] = (own + weighted[sample] + before) >> 4
        out[2 * sample + 1] = (own + weighted[sample + 2] + after) >> 4
