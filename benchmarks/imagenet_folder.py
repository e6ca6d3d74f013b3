"""The validation set that a benchmark makes, and its index."""

from pathlib import Path

import numpy as np


def write_index(folder: Path, count: int) -> None:
    """Write `imagenet_index.npz` of a folder with `val/00000.JPEG` to `val/<count - 1>.JPEG`, all of class 0."""
    names = np.array([f"{number:05d}.JPEG".encode() for number in range(count)])
    none = np.zeros(0, np.int64)
    np.savez(
        folder / "imagenet_index.npz",
        tr_filenames=names[:0], tr_labels=none, tr_mem=none, tt_filenames=names, tt_labels=np.zeros(count, np.int64),
    )  # fmt: skip


def write_jpegs(folder: Path, count: int, simplejpeg: object) -> None:
    """Write a validation set of `count` smooth pictures at a size common in ImageNet, and its index."""
    random = np.random.default_rng(0)
    (folder / "val").mkdir()
    for number in range(count):
        coarse = random.integers(256, size=(375 // 5, 500 // 5, 3), dtype=np.uint8)
        picture = np.ascontiguousarray(coarse.repeat(5, 0).repeat(5, 1))
        data = simplejpeg.encode_jpeg(picture, quality=85, colorsubsampling="420")  # type: ignore[attr-defined]
        (folder / "val" / f"{number:05d}.JPEG").write_bytes(data)
    write_index(folder, count)
