"""Many runs over one load of a data set, on one device or spread over several."""

import os
import queue
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

import torch

from heldout_torch.data import Dataset
from heldout_torch.errors import HeldoutError
from heldout_torch.evaluation.evaluate import Progress
from heldout_torch.plugins import load_plugins, loaded_plugins
from heldout_torch.zoo import Run, load_run
from heldout_torch.zoo.base import Zoo
from heldout_torch.zoo.keys import RunKey

T = TypeVar("T")
# Given runs, the data set, a device and whom to tell of progress, gives a result or an error for each run.
Work = Callable[[Sequence[Run], Dataset, str, Progress], Sequence[T | HeldoutError]]

_TOGETHER = 8  # runs in one pass over a data set that has to be decoded
_POLL_SECONDS = 2.0


def all_devices() -> list[str]:
    """List the CUDA devices, or the CPU if there is none."""
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())] or ["cpu"]


def sweep(
    work: Work[T],
    runs: Sequence[RunKey],
    zoo: Zoo,
    dataset: Dataset,
    devices: Sequence[str],
    progress: Progress,
) -> Iterator[tuple[RunKey, T | HeldoutError]]:
    """Do the same work on many runs; what is wrong with one does not stop the others.

    A data set that is held whole stays on the device from run to run. One that has to be decoded is gone through once
    for several runs.

    Args:
        work: What to do; a function of a module, or a partial of one, since other processes get it.
        runs: The runs.
        zoo: Where they are.
        dataset: Their data set.
        devices: Such as `["cuda:0", "cuda:1"]`. Each has a process of its own, and every so manyth run; they share
            the threads of this process, unless `OMP_NUM_THREADS` says how many each has.
        progress: Called with the number of examples done since its last call.

    Yields:
        Each run with its result or error, in the order in which they finish.

    Raises:
        HeldoutError: If the data set is bad, or a process died.
    """
    if len(devices) == 1:
        yield from _sweep_device(work, runs, zoo, dataset, devices[0], progress)
        return
    context: Any = torch.multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    results = context.Queue()
    shares = [(device, runs[number :: len(devices)]) for number, device in enumerate(devices)]
    shares = [(device, share) for device, share in shares if share]
    # All are on this machine: together they use the threads that this process would.
    threads = None if "OMP_NUM_THREADS" in os.environ else max(1, torch.get_num_threads() // len(shares))
    workers = [
        context.Process(
            target=_serve, args=(results, loaded_plugins(), threads, work, share, zoo, dataset, device), daemon=True
        )
        for device, share in shares
    ]
    for worker in workers:
        worker.start()
    try:
        running = len(workers)
        while running:
            try:
                message = results.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                if dead := [worker for worker in workers if worker.exitcode]:
                    raise HeldoutError(
                        f"a process died with exit code {dead[0].exitcode}; call again to go on"
                    ) from None
                continue
            if isinstance(message, int):
                progress(message)
            elif message is None:
                running -= 1
            elif isinstance(message, HeldoutError):
                raise message
            else:
                yield message
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _serve(
    results: Any,
    plugins: Sequence[str],
    threads: int | None,
    work: Work[T],
    runs: Sequence[RunKey],
    zoo: Zoo,
    dataset: Dataset,
    device: str,
) -> None:
    try:
        if threads:
            torch.set_num_threads(threads)
        load_plugins(plugins)
        for result in _sweep_device(work, runs, zoo, dataset, device, results.put):
            results.put(result)
        results.put(None)
    except HeldoutError as error:
        results.put(error)


def _sweep_device(
    work: Work[T], runs: Sequence[RunKey], zoo: Zoo, dataset: Dataset, device: str, progress: Progress
) -> Iterator[tuple[RunKey, T | HeldoutError]]:
    dataset = dataset.to(device)
    together = 1 if dataset.in_memory else _TOGETHER
    rest = iter(runs)
    while group := list(islice(rest, together)):
        loaded: list[tuple[RunKey, Run]] = []
        for found in group:
            try:
                loaded.append((found, load_run(found, zoo=zoo, device=device)))
            except HeldoutError as error:
                yield found, error
        if loaded:
            done = work([run for _, run in loaded], dataset, device, progress)
            yield from zip((found for found, _ in loaded), done, strict=True)
