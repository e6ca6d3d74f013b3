"""ImageNet from its folder of JPEGs, in published order, decoded and preprocessed exactly by threads.

The folder holds `train/<synset>/*.JPEG`, `val/*.JPEG` or `val/<synset>/*.JPEG`, and the published
`imagenet_index.npz`. The decoder and the resize let go of Python's global lock, so threads use all cores.
"""

import os
import warnings
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from heldout_torch.data.dataset import Batch, SplitName
from heldout_torch.data.imagenet_index import NUM_CLASSES, IndexedFiles, read_imagenet_index
from heldout_torch.data.transforms import IMAGE_SIZE, center_box, preprocess_crop
from heldout_torch.errors import DataError

INDEX_FILE = "imagenet_index.npz"
_FOLDERS = {"train": "train", "test": "val"}
_BATCHES_AHEAD = 2  # decoded or being decoded; what bounds the memory
_IMAGES_A_TASK = 4  # enough that a task's own cost is nothing, few enough that all threads have work


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

        Threads decode the next batches while the caller works on one. On CUDA, batches are copied from pinned memory
        on a stream of their own.

        Raises:
            DataError: As `paths`, and if an image cannot be decoded.
        """
        device, labels = torch.device(device), self.labels(split)
        copies = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        starts = iter(range(0, len(self.paths(split)), batch_size))
        pool = ThreadPoolExecutor(self.workers, "decode")
        pending: deque[tuple[int, torch.Tensor, list[Future[None]]]] = deque()

        def submit(start: int) -> None:
            rows = min(batch_size, len(labels) - start)
            images = _empty(rows, pinned=copies is not None)
            parts = range(0, rows, _IMAGES_A_TASK)
            tasks = [pool.submit(self._load, split, start + row, images[row : row + _IMAGES_A_TASK]) for row in parts]
            pending.append((start, images, tasks))

        try:
            for start in islice(starts, _BATCHES_AHEAD):
                submit(start)
            while pending:
                start, images, tasks = pending.popleft()
                for task in tasks:
                    task.result()
                for following in islice(starts, 1):
                    submit(following)
                index = torch.arange(start, start + len(images))
                yield Batch(index, _move(images, device, copies), labels[start : start + len(images)].to(device))
        finally:
            pool.shutdown(cancel_futures=True)

    def read_crop(self, split: SplitName, index: int) -> np.ndarray:
        """Decode the crop of one example, uint8 of shape (p, p, 3), by published index.

        Raises:
            DataError: As `batches`.
        """
        from heldout_torch.data.jpeg import decode_crop

        path = self.paths(split)[index]
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
        return decode_crop(data, center_box, path)

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

    def _load(self, split: SplitName, start: int, images: torch.Tensor) -> None:
        for index, image in enumerate(images.numpy(), start):
            preprocess_crop(self.read_crop(split, index), image)


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


def _empty(rows: int, pinned: bool) -> torch.Tensor:
    shape = (rows, 3, IMAGE_SIZE, IMAGE_SIZE)
    # NumPy asks for huge pages, PyTorch does not; faults of small pages would cost a tenth of the whole.
    return torch.empty(shape, pin_memory=True) if pinned else torch.from_numpy(np.empty(shape, np.float32))


def _move(images: torch.Tensor, device: torch.device, copies: "torch.cuda.Stream | None") -> torch.Tensor:
    if copies is None:
        return images.to(device)
    with torch.cuda.stream(copies):
        moved = images.to(device, non_blocking=True)
    current = torch.cuda.current_stream(device)
    current.wait_stream(copies)
    moved.record_stream(current)  # its memory belongs to the other stream, and must outlast the work on this one
    return moved
