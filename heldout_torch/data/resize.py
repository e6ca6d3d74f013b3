"""Bilinear resize of a crop in TensorFlow's order of operations, and normalisation, in one pass over the pixels.

The kernel gives the very float32 numbers that TensorFlow's operations give one after the other. Compiled without
contraction: a fused multiply-add would round once where they round twice.
"""

import numpy as np

from heldout_torch.storage.compiled import compiled

_HALF = np.float32(0.5)
_TO_UNIT = np.float32(1 / 255)


@compiled(nogil=True)
def _positions(source: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # Half-pixel centres: which two of `source` samples each of `target` samples lies between, and where.
    lower, upper, weight = np.empty(target, np.int64), np.empty(target, np.int64), np.empty(target, np.float32)
    scale = np.float32(source) / np.float32(target)
    for place in range(target):
        position = (np.float32(place) + _HALF) * scale - _HALF
        below = np.floor(position)
        lower[place] = max(int(below), 0)
        upper[place] = min(int(np.ceil(position)), source - 1)
        weight[place] = position - below
    return lower, upper, weight


@compiled(nogil=True)
def _resize_row(
    source: np.ndarray, unit: np.ndarray, left: np.ndarray, right: np.ndarray, weight: np.ndarray, out: np.ndarray
) -> None:
    # source: bytes (3 * w,), unit: byte -> number in [0, 1], out: (3, width)
    for x in range(len(left)):
        for channel in range(3):
            # Unsigned, so that no index is checked for counting from the end.
            before = unit[source[np.uint64(3 * left[x] + channel)]]
            after = unit[source[np.uint64(3 * right[x] + channel)]]
            out[channel, x] = before + (after - before) * weight[x]


@compiled(nogil=True)
def resize_and_normalise(crop: np.ndarray, mean: np.ndarray, std: np.ndarray, out: np.ndarray) -> None:
    """Scale pixels to [0, 1], resize without antialiasing, subtract the mean, divide by the deviation.

    Source: TensorFlow's `convert_image_dtype` and `resize` (bilinear, half-pixel centres): between left and right
    first, `left + (right - left) * x`, then between top and bottom.

    Args:
        crop: uint8 of shape (h, w, 3).
        mean: float32 of shape (3,).
        std: float32 of shape (3,).
        out: float32 of shape (3, height, width), written.
    """
    height, width = out.shape[1:]
    left, right, across = _positions(crop.shape[1], width)
    top, bottom, down = _positions(crop.shape[0], height)
    unit = np.empty(256, np.float32)
    for value in range(256):
        unit[value] = np.float32(value) * _TO_UNIT
    rows = np.empty((2, 3, width), np.float32)  # the two source rows last resized in width, by parity
    held = np.full(2, -1)
    for y in range(height):
        for source in (top[y], bottom[y]):
            if held[source % 2] != source:
                held[source % 2] = source
                _resize_row(crop[source].ravel(), unit, left, right, across, rows[source % 2])
        above, below = rows[top[y] % 2], rows[bottom[y] % 2]
        for channel in range(3):
            shift, scale, weight = mean[channel], std[channel], down[y]
            for x in range(width):
                value = above[channel, x] + (below[channel, x] - above[channel, x]) * weight
                out[channel, y, x] = (value - shift) / scale
