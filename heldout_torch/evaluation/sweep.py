"""Many runs over one load of a data set, on one device or spread over several."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from heldout_torch.data import Dataset
from heldout_torch.devices import find_devices
from heldout_torch.errors import HeldoutError
from heldout_torch.evaluation.devices import device_errors
from heldout_torch.evaluation.evaluate import Progress
from heldout_torch.evaluation.workers import spread
from heldout_torch.zoo import Run, load_run
from heldout_torch.zoo.base import Zoo
from heldout_torch.zoo.keys import RunKey

T = TypeVar("T")
# Given runs, the data set, a device and whom to tell of progress, gives a result or an error for each run.
Work = Callable[[Sequence[Run], Dataset, str, Progress], Sequence[T | HeldoutError]]

_TOGETHER = 8  # runs in one pass over a data set that has to be decoded


def sweep(
    work: Work[T],
    runs: Sequence[RunKey],
    zoo: Zoo,
    dataset: Dataset,
    devices: Sequence[str],
    progress: Progress,
) -> Iterator[tuple[RunKey, T | HeldoutError]]:
    """Do the same work on many runs; what is wrong with one does not stop the others.

    A data set that is held whole stays on the device from run to run, and while a GPU computes, the next runs are read
    and the results of the last are written. A data set that has to be decoded is gone through once for several runs.

    Args:
        work: What to do; a function of a module, or a partial of one, since other processes get it.
        runs: The runs.
        zoo: Where they are.
        dataset: Their data set.
        devices: Such as `["cuda:0", "cuda:1"]`, as in `spread`. One that fails leaves its runs to the others.
        progress: Called with the number of examples done since its last call.

    Yields:
        Each run with its result or error, in the order in which they finish.

    Raises:
        HeldoutError: If the data set is bad, or all devices failed.
    """
    together = 1 if dataset.in_memory else _TOGETHER
    groups = [runs[start : start + together] for start in range(0, len(runs), together)]
    places = [str(device) for device in find_devices(devices)]
    yield from spread(partial(_sweeper, work, zoo, dataset), groups, places, progress)


def _sweeper(
    work: Work[T], zoo: Zoo, dataset: Dataset, device: str
) -> Callable[[Sequence[RunKey], Progress], list[tuple[RunKey, T | HeldoutError]]]:
    """Return what does a group of runs on a device."""
    with device_errors(device):
        there = dataset.to(device)

    def do(group: Sequence[RunKey], progress: Progress) -> list[tuple[RunKey, T | HeldoutError]]:
        results: list[tuple[RunKey, T | HeldoutError]] = []
        loaded: list[tuple[RunKey, Run]] = []
        with device_errors(device):
            for key in group:
                try:
                    loaded.append((key, load_run(key, zoo=zoo)))  # its copy goes to the device
                except HeldoutError as error:
                    results.append((key, error))
            if loaded:
                done = work([run for _, run in loaded], there, device, progress)
                results += zip((key for key, _ in loaded), done, strict=True)
        return results

    return do
