"""ImageNet from its image files, in published order, decoded and preprocessed exactly as for the published runs.

The folder has the images and the published `imagenet_index.npz`. If it has folders `train` and `val`, training images
are searched in the first, and validation images in the second. `heldout_torch.data.imagenet_files` says how files are
recognised.
"""

import hashlib
import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from heldout_torch.data.augment import random_box
from heldout_torch.data.checks import SPLITS, SplitName, as_batch_size, as_index, check_split
from heldout_torch.data.dataset import Batch, BatchesOf, Examples, Step
from heldout_torch.data.imagenet_files import FoundFiles, images_below, match_files
from heldout_torch.data.imagenet_index import NUM_CLASSES, read_imagenet_index
from heldout_torch.data.transforms import CROP_FRACTION, IMAGE_SIZE, MEAN, STD, preprocess_crop
from heldout_torch.data.views import View, decode_view, load_views
from heldout_torch.devices import any_device
from heldout_torch.errors import DataError, counted
from heldout_torch.storage.kinds import check_folder
from heldout_torch.storage.notebook import as_code
from heldout_torch.storage.paths import Location, local_path

INDEX_FILE = "imagenet_index.npz"
INDEX_HINT = "which maps files to examples; `heldout published path imagenet-index` fetches it"
_FOLDERS: dict[SplitName, str] = {"train": "train", "test": "val"}


class ImageNet:
    """ImageNet, read from its files when needed; implements `heldout_torch.data.Dataset`.

    Args:
        folder: Holds `imagenet_index.npz` and the images. Those of training are looked for below `train` and those of
            validation below `val`, if it has such folders, in folders of any depth. A file is known by its name, such
            as `n01440764_10026.JPEG`, or `n01440764_10026_n01440764.JPEG` as Hugging Face writes it. A split's files
            are looked up when the split is first used, so one of the splits may be absent.
        index_file: The published index, if it is not in the folder.
        workers: Threads that decode; PyTorch's number of threads by default. Any number gives the same bytes.
        allow_missing: Whether files of the index may be missing. Then only the others are used; `missing` lists the
            missing ones.
        images: Paths of the images of each split, relative to the folder; by default all images in the folder.

    Raises:
        DataError: If the index cannot be read.
    """

    name = "imagenet"
    num_classes = NUM_CLASSES
    in_memory = False
    preprocessing: Mapping[str, Any] = {
        "divide_by": 255, "image_size": IMAGE_SIZE, "crop_fraction": CROP_FRACTION, "mean": list(MEAN),
        "std": list(STD),
    }  # fmt: skip

    def __init__(
        self,
        folder: Location,
        index_file: Location | None = None,
        workers: int | None = None,
        allow_missing: bool = False,
        images: Mapping[SplitName, Sequence[str]] | None = None,
    ) -> None:
        self.folder = local_path(folder)
        self._workers = workers
        check_folder(self.folder, "the folder of ImageNet's images")
        if index_file is None and not (self.folder / INDEX_FILE).is_file():
            raise DataError(f"{self.folder}: has no {INDEX_FILE}, {INDEX_HINT}")
        self._index = read_imagenet_index(index_file or self.folder / INDEX_FILE)
        self._allow_missing, self._images = allow_missing, images
        self._found: dict[str, FoundFiles] = {}

    @property
    def workers(self) -> int:
        """Number of threads that decode in the process that asks; one of several has a share of the processors."""
        return self._workers or torch.get_num_threads()

    def labels(self, split: SplitName) -> Tensor:
        """As in `Dataset`; also of examples whose files are missing."""
        return torch.from_numpy(self._index[check_split(split)].labels)

    def original_index(self, split: SplitName) -> Tensor:
        """As in `Dataset`: 0 ... n-1, for ImageNet has no other order."""
        return torch.arange(len(self.labels(split)), device="cpu")

    def file_names(self, split: SplitName) -> list[str]:
        """As in `Dataset`: such as `n01440764_10026.JPEG`, as the published index has them."""
        return self._index[check_split(split)].names

    def to(self, device: str | torch.device) -> "ImageNet":
        """As in `Dataset`: itself."""
        any_device(device)
        return self

    def batches(self, split: SplitName, batch_size: int, device: str | torch.device = "cpu") -> Iterator[Batch]:
        """As in `Dataset`; threads decode the next batches while the caller works on one.

        Raises:
            DataError: As `paths`, and if an image cannot be decoded.
        """
        return self._batches(check_split(split), as_batch_size(batch_size), any_device(device))

    def _batches(self, split: SplitName, batch_size: int, device: str | torch.device) -> Iterator[Batch]:
        there = torch.tensor([index for index, path in enumerate(self.paths(split)) if path], device="cpu")
        if not len(there):
            raise DataError(f"{self.folder}: has none of the images of {split}")
        labels = torch.split(self.labels(split)[there].to(device), batch_size)
        parts = torch.split(there, batch_size)
        views = ([self._view(split, index) for index in part.tolist()] for part in parts)
        for part, images, found in zip(parts, load_views(views, device, self.workers), labels, strict=True):
            yield Batch(part, images, found)

    def training_batches(self, augmentation: str, device: str | torch.device) -> BatchesOf:
        """As in `Dataset`, for `resized-crop-flip`; threads decode some steps ahead."""
        if augmentation != "resized-crop-flip":
            raise DataError(f"data set {self.name!r} cannot be trained on with augmentation {augmentation!r}")
        device = any_device(device)
        labels = self.labels("train").to(device)

        def batches_of(runs: Sequence[int], steps: Iterable[Step]) -> Generator[tuple[Tensor, Tensor]]:
            asked: list[Tensor] = []  # indices of the steps whose images are on their way

            def views() -> Iterator[list[View]]:
                for step, index in steps:
                    asked.append(index)
                    yield [
                        self._random_view(example, np.random.default_rng([run, step, place]))
                        for row, run in zip(index.tolist(), runs, strict=True)
                        for place, example in enumerate(row)
                    ]

            for images in load_views(views(), device, self.workers):
                index = asked.pop(0)
                yield images.reshape(*index.shape, *images.shape[1:]), labels[index.to(device)]

        return batches_of

    def image(self, split: SplitName, index: int) -> Tensor:
        """As in `Dataset`."""
        return preprocess_crop(self.read_crop(split, index))

    def picture(self, split: SplitName, index: int) -> np.ndarray:
        """As in `Dataset`: the crop that the network sees, before it is resized."""
        return self.read_crop(split, index).transpose(2, 0, 1)

    def read_crop(self, split: SplitName, index: int) -> np.ndarray:
        """Decode the crop of one example, uint8 of shape (p, p, 3), by published index.

        Raises:
            DataError: As `batches`.
        """
        return decode_view(self._view(split, index))

    def split(self, name: SplitName) -> Examples:
        """As in `Dataset`; an image is decoded when it is asked for."""
        return Examples(self, name)

    def digest(self) -> str:
        """As in `Dataset`: of the sorted names, the sizes in bytes and the labels of all files."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        found = hashlib.sha256()
        for split in SPLITS:
            files = self._index[split]
            for name, path, label in sorted(zip(files.names, self.paths(split), files.labels.tolist(), strict=True)):
                if path:
                    found.update(f"{name} {os.stat(path).st_size} {label}\n".encode())
        return found.hexdigest()

    def paths(self, split: SplitName) -> list[str]:
        """Return a split's files by published index; empty for a missing one, where that is allowed.

        Raises:
            DataError: If files are missing or said to be of another class; with how many, and some names. Files that
                are not in the index, or there twice, are left out with a warning.
        """
        return self._files(split).paths

    def missing(self, split: SplitName) -> list[str]:
        """Return the names in the index whose files are not there.

        Raises:
            DataError: As `paths`.
        """
        return self._files(split).missing

    def _files(self, split: SplitName) -> FoundFiles:
        if check_split(split) not in self._found:
            below = self.folder / _FOLDERS[split]
            train, test = self._index["train"], self._index["test"]
            synsets = {
                name.split("_")[0]: label for name, label in zip(train.names, train.labels.tolist(), strict=True)
            }
            wanted, others = (train, test) if split == "train" else (test, train)
            folder = below if below.is_dir() and self._images is None else self.folder
            if self._images is not None and split not in self._images:
                raise DataError(f"{self.folder}: has no images of {split}; give both splits, as (train, test)")
            images = images_below(folder) if self._images is None else self._images[split]
            self._found[split] = match_files(folder, images, wanted, others, synsets, self._allow_missing)
        return self._found[split]

    def _view(self, split: SplitName, index: int) -> View:
        paths, place = self.paths(split), as_index(index)
        if not 0 <= place < len(paths):
            raise DataError(f"{self.folder}: has no image of example {place} of {split}")
        path, name = paths[place], self._index[split].names[place]
        if not path:
            raise DataError(f"{self.folder}: {name} is missing")
        return View(path, name=name)

    def _random_view(self, index: int, random: np.random.Generator) -> View:
        view = self._view("train", index)
        flip = bool(random.integers(2))
        return View(view.path, lambda height, width: random_box(height, width, random), flip, view.name)

    _repr_html_ = as_code

    def __repr__(self) -> str:
        sizes = " and ".join(f"{len(self._index[split].names):,} {split}" for split in SPLITS)
        return f"<imagenet: {sizes} images in {self.folder}, {counted(self.num_classes, 'class')}>"
