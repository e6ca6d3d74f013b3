"""ImageNet from its folder of JPEGs, in published order, decoded and preprocessed exactly.

The folder holds `train/<synset>/*.JPEG`, `val/*.JPEG` or `val/<synset>/*.JPEG`, and the published
`imagenet_index.npz`.
"""

import os
import warnings
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from heldout_torch.data.dataset import Batch, SplitName
from heldout_torch.data.imagenet_index import NUM_CLASSES, IndexedFiles, read_imagenet_index
from heldout_torch.data.views import View, decode_view, load_views
from heldout_torch.errors import DataError

INDEX_FILE = "imagenet_index.npz"
_FOLDERS = {"train": "train", "test": "val"}


class ImageNet:
    """ImageNet, read as it is needed; a `heldout_torch.data.Dataset`.

    Args:
        folder: As above. A split's files are looked up when the split is first used, so one of them may be absent.
        index_file: The published index, if it does not lie in the folder.
        workers: Threads that decode; PyTorch's number of threads by default. Any number gives the same bytes.

    Raises:
        DataError: If the index cannot be read.
    """

    name = "imagenet"
    num_classes = NUM_CLASSES

    def __init__(self, folder: Path, index_file: Path | None = None, workers: int | None = None) -> None:
        self.folder = folder
        self.workers = workers or torch.get_num_threads()
        self._index = read_imagenet_index(index_file or folder / INDEX_FILE)
        self._paths: dict[str, list[str]] = {}

    def labels(self, split: SplitName) -> torch.Tensor:
        """Labels of a split, int64 of shape (n,), by published index, on the CPU."""
        return torch.from_numpy(self._index[split].labels)

    def batches(self, split: SplitName, batch_size: int, device: str | torch.device = "cpu") -> Iterator[Batch]:
        """Go through a split once, in order of published index.

        Threads decode the next batches while the caller works on one.

        Raises:
            DataError: As `paths`, and if an image cannot be decoded.
        """
        labels, paths = self.labels(split).to(device), self.paths(split)
        starts = range(0, len(paths), batch_size)
        views = ([View(path) for path in paths[start : start + batch_size]] for start in starts)
        for start, images in zip(starts, load_views(views, device, self.workers), strict=True):
            index = torch.arange(start, start + len(images))
            yield Batch(index, images, labels[start : start + len(images)])

    def read_crop(self, split: SplitName, index: int) -> np.ndarray:
        """Decode the crop of one example, uint8 of shape (p, p, 3), by published index.

        Raises:
            DataError: As `batches`.
        """
        return decode_view(View(self.paths(split)[index]))

    def paths(self, split: SplitName) -> list[str]:
        """Give a split's files by published index.

        Raises:
            DataError: If files are missing or lie in the folder of another class; with how many, and some names.
                Files that are not in the index, or there twice, are left out with a warning.
        """
        if split not in self._paths:
            self._paths[split] = self._find(self.folder / _FOLDERS[split], self._index[split])
        return self._paths[split]

    @cached_property
    def _label_of_synset(self) -> dict[str, int]:
        train = self._index["train"]
        return {name.split("_")[0]: label for name, label in zip(train.names, train.labels.tolist(), strict=True)}

    def _find(self, folder: Path, files: IndexedFiles) -> list[str]:
        index = {name: place for place, name in enumerate(files.names)}
        paths = [""] * len(index)
        extra, mislabelled = [], []
        for path in _images_below(folder):
            synset, name = os.path.split(path)
            place = index.get(name)
            if place is None or paths[place]:
                extra.append(path)
                continue
            paths[place] = os.path.join(folder, path)
            if synset and self._label_of_synset.get(synset) != files.labels[place]:
                mislabelled.append(path)
        missing = [name for name, path in zip(files.names, paths, strict=True) if not path]
        problems = [(missing, "missing"), (mislabelled, "in the folder of another class"), (extra, "too many")]
        found = [f"{len(names)} {kind} (such as {', '.join(names[:3])})" for names, kind in problems if names]
        if missing or mislabelled:
            raise DataError(f"{folder}: of {len(paths)} files in the index, {'; '.join(found)}")
        if extra:
            warnings.warn(f"{folder}: has files that the index has not, left out: {found[0]}", stacklevel=4)
        return paths


def _images_below(folder: Path) -> Iterator[str]:
    """List images in a folder and in its folders, relative to it."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        for entry in entries:
            if entry.name.upper().endswith(".JPEG"):
                yield entry.name
            elif entry.is_dir():
                with os.scandir(entry) as below:
                    names = (file.name for file in below)
                    yield from sorted(f"{entry.name}/{name}" for name in names if name.upper().endswith(".JPEG"))
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from None
