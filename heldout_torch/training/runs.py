"""Train the runs that a zoo lacks, on the devices of this machine or on a cluster."""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from heldout_torch.cluster import Cluster
from heldout_torch.data import AnyDataset, Dataset, as_dataset
from heldout_torch.devices import find_devices
from heldout_torch.errors import HeldoutError
from heldout_torch.evaluation.devices import device_errors, tasks_at_once
from heldout_torch.evaluation.workers import spread
from heldout_torch.models import expected_tensors, find_architecture
from heldout_torch.stats.arguments import as_kind
from heldout_torch.storage.counts import as_count
from heldout_torch.storage.urls import remove_file
from heldout_torch.training.loop import Watch
from heldout_torch.training.preflight import as_filed, check_others, check_same, check_work
from heldout_torch.training.run_batch import RunBatch
from heldout_torch.training.state import saved_states, state_file
from heldout_torch.training.worker import Trained, train_batch
from heldout_torch.zoo import Experiment
from heldout_torch.zoo.base import WritableZoo
from heldout_torch.zoo.keys import make_key
from heldout_torch.zoo.open import Place, open_writable

_CACHE_BYTES = 2 << 20  # on a CPU, a stack should stay in a core's cache
_GPU_BYTES = 2 << 30  # on a GPU that this process cannot ask what is free: of a cluster, or none of CUDA's
_MAX_STACK = 512  # so that the files of one stack are written while a GPU trains the next


def train_runs(
    work: RunBatch,
    dataset: AnyDataset,
    zoo: Place,
    device: str | torch.device | Sequence[str] = "cpu",
    batch_of_runs: int | None = None,
    cluster: str | None = None,
    progress: Watch | None = None,
) -> Iterator[Trained]:
    """Train the runs that a zoo lacks.

    Each run appears in the zoo whole or not at all, so you can interrupt the work at any moment and call it again.
    Several trainers may write to one zoo at the same time. Apart from the rounding of sums, a run does not depend on
    which other runs are trained with it. On a CPU, as many batches of runs are trained at once as PyTorch has threads.

    The manifest of the zoo is brought up to date when the training ends, however it ends.

    Args:
        work: All runs that are wanted, and how they are trained.
        dataset: The experiment's data set.
        zoo: Folder of the zoo, which need not exist; or a URL that fsspec can write (`s3://…`, `gs://…`, …).
        device: Where to train; on a cluster, `cpu` or `cuda`. Several GPUs, such as `["cuda:0", "cuda:1"]`, have a
            process each; if one fails, the others take its runs.
        batch_of_runs: How many runs are trained together; chosen from the size of the network by default.
        cluster: Address of a Ray cluster to train on instead, or `auto`; each task uses one core or GPU. The zoo must
            be a URL, or a folder that all machines see under this path. This machine needs no GPU.
        progress: Called after each step with the share of work done, in runs, and at the end of an epoch also with the
            mean loss; not called for a cluster.

    Yields:
        The outcome of each run, in the order in which they finish; runs that were there already come first.

    Raises:
        HeldoutError: If data set, recipe and experiment do not fit each other, a run in the zoo was trained with
            another recipe or on other data, or the zoo cannot be written.
    """
    as_kind(work, RunBatch, "work")
    batch_of_runs = None if batch_of_runs is None else as_count(batch_of_runs, "batch_of_runs")
    several = isinstance(device, Sequence) and not isinstance(device, str)
    devices: Sequence[str | torch.device] = list(device) if several else [device]  # type: ignore[arg-type,list-item]
    if cluster is None:
        devices = find_devices(devices)
    target = open_writable(zoo)
    dataset = as_dataset(dataset)
    check_work(work, dataset)
    work = as_filed(work, target)
    if (batch_of_runs or 1) > 1 and not find_architecture(work.experiment.architecture).stackable:
        raise HeldoutError(
            f"runs of {work.experiment.architecture} are trained one at a time, not {batch_of_runs} together"
        )
    keys = [make_key(work.experiment.name, work.subset_ratio, run) for run in sorted(set(work.runs))]
    missing, data = target.missing(keys), dataset.digest()
    for key in check_same(work, data, sorted(set(keys) - set(missing)), target):
        yield Trained(key, skipped=True)
    if missing:
        check_others(work, data, target)
    with target:
        runs = [key.run for key in missing]
        yield from _train(work, runs, dataset, target, devices, batch_of_runs, cluster, progress or _unwatched)
        _remove_states(work, target)


def _train(
    work: RunBatch,
    missing: list[int],
    dataset: Dataset,
    zoo: WritableZoo,
    devices: Sequence[str | torch.device],
    batch_of_runs: int | None,
    cluster: str | None,
    progress: Watch,
) -> Iterator[Trained]:
    if not missing:
        return
    interrupted = _interrupted(work, missing, zoo, dataset.digest())
    if cluster is not None:
        machines = Cluster(cluster, " ".join(map(str, devices)))
        zoo.declare(work.experiment)
        budget = _budget(machines.device, asks=False)
        batches = _batches(work, missing, batch_of_runs, machines.slots, budget, interrupted)
        for done in machines.map(_train_task, batches, dataset, zoo, machines.device):
            yield from done
        return
    zoo.declare(work.experiment)
    device = devices[0]
    budget = _budget(device)
    if len(devices) > 1:
        batches = _batches(work, missing, batch_of_runs, len(devices), budget, interrupted)
        make = partial(_trainer, dataset, zoo)
        yield from spread(make, batches, [str(device) for device in devices], lambda told: progress(*told))
        return
    threads = torch.get_num_threads() if torch.device(device).type == "cpu" else 1
    batches = _batches(work, missing, batch_of_runs, threads, budget, interrupted)
    yield from _train_here(batches, dataset, zoo, device, threads, progress)


def _trainer(
    dataset: Dataset, zoo: WritableZoo, device: str
) -> Callable[[RunBatch, Callable[[Any], object]], list[Trained]]:
    """Return what trains a batch on a device, and tells what it tells a `Watch`."""
    with device_errors(device):
        there = dataset.to(device)  # once for all batches

    def do(batch: RunBatch, tell: Callable[[Any], object]) -> list[Trained]:
        def watch(runs: float, loss: float | None) -> None:
            tell((runs, loss))

        return train_batch(batch, there, zoo, device, watch)

    return do


def _train_task(batch: RunBatch, dataset: Dataset, zoo: WritableZoo, device: str) -> list[Trained]:
    return train_batch(batch, dataset, zoo, device, _unwatched)


def _unwatched(runs: float, loss: float | None) -> None:
    """Be told of progress that nobody wants to know."""


def _batches(
    work: RunBatch, missing: list[int], size: int | None, workers: int, budget: int, interrupted: list[RunBatch]
) -> list[RunBatch]:
    """Divide runs into batches of a size, or such that all workers have one whose weights take so many bytes.

    Those whose training was interrupted come first, and stay as they are: their states are of no other batches.
    """
    begun = {run for batch in interrupted for run in batch.runs}
    runs = [run for run in missing if run not in begun]
    size = size or _auto_batch(work.experiment, len(runs), workers, budget)
    others = [replace(work, runs=tuple(runs[start : start + size])) for start in range(0, len(runs), size)]
    return [*interrupted, *others]


def _interrupted(work: RunBatch, missing: list[int], zoo: WritableZoo, data: str) -> list[RunBatch]:
    """Return the batches of missing runs of which there are states."""
    if not find_architecture(work.experiment.architecture).stackable:
        return []  # a run's batch is always that run
    found, left = [], set(missing)
    for location, runs in saved_states(work, zoo.location).items():
        batch = replace(work, runs=runs)
        if runs and left.issuperset(runs) and location == state_file(batch, zoo.location, data):
            found.append(batch)
            left.difference_update(runs)
    return found


def _remove_states(work: RunBatch, zoo: WritableZoo) -> None:
    """Remove the states that nobody will go on from, as all of their runs are there."""
    for location, runs in saved_states(work, zoo.location).items():
        if runs and not zoo.missing(make_key(work.experiment.name, work.subset_ratio, run) for run in runs):
            remove_file(location)


def _budget(device: str | torch.device, asks: bool = True) -> int:
    """Return how many bytes a stack's weights may take on a device, which is asked what is free if it is here."""
    kind = torch.device(device).type
    if kind == "cpu":
        return _CACHE_BYTES
    return torch.cuda.mem_get_info(device)[0] // 4 if asks and kind == "cuda" else _GPU_BYTES


def _auto_batch(experiment: Experiment, runs: int, workers: int, budget: int) -> int:
    if not find_architecture(experiment.architecture).stackable:
        return 1
    shapes = expected_tensors(experiment.architecture, experiment.config).values()
    bytes_of_run = 8 * sum(math.prod(shape) for shape, _ in shapes)  # float32 weights and momentum
    return max(1, min(budget // bytes_of_run, math.ceil(runs / workers), _MAX_STACK))


def _train_here(
    batches: list[RunBatch],
    dataset: Dataset,
    zoo: WritableZoo,
    device: str | torch.device,
    threads: int,
    progress: Watch,
) -> Iterator[Trained]:
    stop, lock = threading.Event(), threading.Lock()

    def watch(runs: float, loss: float | None) -> None:
        if stop.is_set():
            raise HeldoutError("training was stopped")
        with lock:
            progress(runs, loss)

    with device_errors(device):
        there = dataset.to(device)  # once for all batches
    workers = min(threads * tasks_at_once(device), len(batches))
    # The products of a stack are too small to be worth waiting for a second thread, which a busy machine delays.
    threads_each = 1 if find_architecture(batches[0].experiment.architecture).stackable else max(1, threads // workers)
    threads_before = torch.get_num_threads()
    with ThreadPoolExecutor(workers, "train", torch.set_num_threads, (threads_each,)) as pool:
        try:
            futures = [pool.submit(train_batch, batch, there, zoo, device, watch) for batch in batches]
            for future in as_completed(futures):
                yield from future.result()
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            torch.set_num_threads(threads_before)
