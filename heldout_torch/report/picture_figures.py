"""Figures of images: examples with captions, and training examples with the test examples that they help."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from heldout_torch.data import AnyDataset, as_dataset
from heldout_torch.errors import DataError
from heldout_torch.lazy import lazy_module
from heldout_torch.optional import require
from heldout_torch.report.figures import GRID, INK, literal
from heldout_torch.report.thumbnails import read_images
from heldout_torch.stats import InfluencePairs
from heldout_torch.stats.arguments import as_kind, as_numbers
from heldout_torch.storage.counts import as_count

if TYPE_CHECKING:
    from matplotlib import figure as mpl
    from matplotlib.axes import Axes
else:
    mpl = lazy_module("matplotlib.figure")

_INCHES = 0.9  # side of an image


def plot_examples(
    images: Sequence[np.ndarray | Tensor | None], captions: Sequence[str], columns: int = 8
) -> "mpl.Figure":
    """Plot images in a grid.

    Args:
        images: Each of shape (c, h, w) with one or three channels, a tensor or array: uint8, 0 ... 255, or floats,
            0 ... 1, as `split("train")` gives them. None leaves a marked gap.
        captions: One for each, such as `memorization 0.97`; taken literally.
        columns: Images in a row.

    Raises:
        DataError: If there is no image, the numbers of images and captions differ, or an image is not of that shape.
    """
    columns = min(as_count(columns, "columns"), len(images))
    if not len(images) == len(captions) > 0:
        raise DataError(f"{len(images)} images and {len(captions)} captions: nothing to show")
    pictures = [None if image is None else _as_picture(image, place) for place, image in enumerate(images)]
    figure, grid = _grid(-(-len(images) // columns), columns)
    for place, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        _show(grid[place // columns, place % columns], picture, caption)
    return figure


def plot_pairs(pairs: InfluencePairs, dataset: AnyDataset, rows: int = 6, columns: int = 5) -> "mpl.Figure":
    """Plot the training examples of strongest influence, each next to the test examples that it helps most.

    Args:
        pairs: The strongest first, as `influence_pairs` gives them.
        dataset: The data set with the images.
        rows: Largest number of training examples.
        columns: Largest number of test examples for each.

    Raises:
        DataError: If there is no pair, or `rows` or `columns` is not a number from 1.
    """
    as_kind(pairs, InfluencePairs, "pairs")
    rows, columns = as_count(rows, "rows"), as_count(columns, "columns")
    if not len(pairs):
        raise DataError("no pairs to show; select them with a lower min_influence")
    dataset = as_dataset(dataset)
    _, first = np.unique(pairs.train_index, return_index=True)
    chosen = pairs.train_index[np.sort(first)][:rows]
    figure, grid = _grid(len(chosen), columns + 1)
    for row, example in zip(grid, chosen, strict=True):
        places = np.flatnonzero(pairs.train_index == example)[:columns]
        image = read_images(dataset, "train", np.array([example]))[0]
        _show(row[0], image, f"train {example}\nmem {pairs.memorization[places[0]]:.2f}")
        row[0].patch.set_edgecolor(INK)
        for axes, place, helped in zip(
            row[1:], places, read_images(dataset, "test", pairs.test_index[places]), strict=False
        ):
            spread, error = "", pairs.standard_error[place]
            if pairs.low is not None and pairs.high is not None:
                spread = f" ({pairs.low[place]:.2f} to {pairs.high[place]:.2f})"
            elif not np.isnan(error):
                spread = f" ± {error:.2f}"
            _show(axes, helped, f"test {pairs.test_index[place]}\n{pairs.influence[place]:.2f}{spread}")
    return figure


def _as_picture(image: np.ndarray | Tensor, place: int) -> np.ndarray:
    """Return an image as uint8; floats from 0 to 1 would be drawn as black."""
    pixels = as_numbers(image, f"image {place}")
    if pixels.ndim != 3 or pixels.shape[0] not in (1, 3):
        raise DataError(f"image {place} has shape {pixels.shape}, expected (1 or 3, height, width)")
    if pixels.dtype.kind != "f":
        return pixels
    if not (pixels >= 0).all() or pixels.max(initial=0) > 1:
        raise DataError(f"image {place} has floats outside 0 ... 1; give such as bytes, 0 ... 255")
    return np.rint(255 * pixels).astype(np.uint8)


def _grid(rows: int, columns: int) -> "tuple[mpl.Figure, np.ndarray]":
    figure = require("matplotlib.figure", "a figure").Figure(
        figsize=(columns * _INCHES + 0.1, rows * (_INCHES + 0.32)), layout="constrained"
    )
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    return figure, grid


def _show(axes: "Axes", image: np.ndarray | None, caption: str) -> None:
    axes.set_title(literal(caption), fontsize=6.5, color=INK, pad=2)
    if image is None:
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.fill([0, 1, 1, 0], [0, 0, 1, 1], facecolor="none", edgecolor=GRID, hatch="///", linewidth=0.5)
        axes.text(0.5, 0.5, "no image", ha="center", va="center", fontsize=6.5, color=INK)
    else:
        axes.imshow(image.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
