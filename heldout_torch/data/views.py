"""Views of image files: decoded ahead by threads, resized and normalised, in batches on a device.

The decoder lets go of Python's global lock, so threads use all cores. For the CPU they also resize. For a GPU they
hand over the decoded crops, which are copied from pinned memory and resized there, on a stream of their own beside the
caller's work.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from heldout_torch.data.resize_torch import resize_crops
from heldout_torch.data.transforms import IMAGE_SIZE, center_box, preprocess_crop
from heldout_torch.errors import DataError, os_errors
from heldout_torch.storage.files import read_bounded

_BATCHES_AHEAD = 2  # decoded or being decoded; what bounds the memory
_IMAGES_A_TASK = 4  # enough that a task's own cost is nothing, few enough that all threads have work


@dataclass(frozen=True)
class View:
    """What is wanted of an image file.

    Attributes:
        path: The file.
        box: Maps the image's height and width to the crop's top, left, height and width; called once.
        flip: Whether the crop is mirrored from left to right.
        name: The file's name in the published index, which tells whether the published pipeline re-encoded it.
    """

    path: str
    box: Callable[[int, int], tuple[int, int, int, int]] = center_box
    flip: bool = False
    name: str = ""


def load_views(batches: Iterable[Sequence[View]], device: str | torch.device, workers: int) -> Iterator[torch.Tensor]:
    """Load batches of views; threads work on the next batches while the caller works on one.

    Args:
        batches: The views of each batch; asked for only as far ahead as threads work.
        device: Where the images go.
        workers: Number of threads. Any number gives the same bytes.

    Yields:
        float32 of shape (b, 3, 224, 224) on the device, as `heldout_torch.data.transforms` says.

    Raises:
        DataError: If a file cannot be read or decoded.
    """
    device, rest = torch.device(device), iter(batches)
    load = _load_to_gpu(device) if device.type == "cuda" else _load_to_cpu
    pool = ThreadPoolExecutor(workers, "decode")
    try:
        pending = deque(load(pool, views) for views in islice(rest, _BATCHES_AHEAD))
        while pending:
            finish = pending.popleft()
            images = finish()
            if device.type not in ("cpu", "cuda"):
                images = images.to(device)
            pending.extend(load(pool, views) for views in islice(rest, 1))
            yield images
    finally:
        pool.shutdown(cancel_futures=True)


def decode_view(view: View) -> np.ndarray:
    """Decode what is wanted of a file.

    Returns:
        uint8 of shape (height, width, 3).

    Raises:
        DataError: As `load_views`.
    """
    from heldout_torch.data.jpeg import MAX_IMAGE, decode_crop
    from heldout_torch.data.reencoded import is_reencoded, reencode

    with os_errors(DataError, f"{view.path}: cannot be read"):
        data = read_bounded(Path(view.path), MAX_IMAGE)
    if is_reencoded(view.name):
        data = reencode(data, view.path)
    crop = decode_crop(data, view.box, view.path)
    return crop[:, ::-1] if view.flip else crop


def _tasks(pool: ThreadPoolExecutor, work: Callable[[int, View], object], views: Sequence[View]) -> list[Future[None]]:
    def some(start: int) -> None:
        for place, view in enumerate(views[start : start + _IMAGES_A_TASK], start):
            work(place, view)

    return [pool.submit(some, start) for start in range(0, len(views), _IMAGES_A_TASK)]


def _load_to_cpu(pool: ThreadPoolExecutor, views: Sequence[View]) -> Callable[[], torch.Tensor]:
    # NumPy asks for huge pages, PyTorch does not; faults of small pages would cost a tenth of the whole.
    images = np.empty((len(views), 3, IMAGE_SIZE, IMAGE_SIZE), np.float32)
    tasks = _tasks(pool, lambda place, view: preprocess_crop(decode_view(view), images[place]), views)

    def finish() -> torch.Tensor:
        for task in tasks:
            task.result()
        return torch.from_numpy(images)

    return finish


def _load_to_gpu(
    device: torch.device,
) -> Callable[[ThreadPoolExecutor, Sequence[View]], Callable[[], torch.Tensor]]:
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def load(pool: ThreadPoolExecutor, views: Sequence[View]) -> Callable[[], torch.Tensor]:
        crops: list[np.ndarray] = [np.empty(0, np.uint8)] * len(views)

        def decode(place: int, view: View) -> None:
            crops[place] = decode_view(view)

        tasks = _tasks(pool, decode, views)

        def move() -> tuple[torch.Tensor, torch.cuda.Event]:
            for task in tasks:  # a pool starts them in order, so all of them run or are done by now
                task.result()
            with torch.cuda.stream(stream):
                return resize_crops(crops, device), stream.record_event()  # type: ignore[no-untyped-call]

        moved = pool.submit(move)

        def finish() -> torch.Tensor:
            images, event = moved.result()
            current = torch.cuda.current_stream(device)
            current.wait_event(event)
            images.record_stream(current)  # its memory is the other stream's, and must outlast the work on this one
            return images

        return finish

    return load
