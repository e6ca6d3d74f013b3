"""The same training as tasks on a Ray cluster: one task a batch of runs, tried again when its worker dies."""

import logging
from collections.abc import Iterator, Sequence

import torch

from heldout_torch.data import Dataset
from heldout_torch.errors import HeldoutError
from heldout_torch.plugins import load_plugins, loaded_plugins
from heldout_torch.training.run_batch import RunBatch
from heldout_torch.training.worker import Trained, train_batch
from heldout_torch.zoo.base import WritableZoo

_RETRIES = 20


def train_on_cluster(
    batches: Sequence[RunBatch], dataset: Dataset, zoo: WritableZoo, device: str | torch.device, address: str
) -> Iterator[Trained]:
    """Train batches of runs on a cluster.

    A task whose worker dies is started again, anywhere; what is written is the same, and a run that is there already
    stays. A task asks for one core, or on `cuda` for one GPU.

    Args:
        batches: The batches.
        dataset: The experiment's; it travels to the workers once.
        zoo: A zoo under a URL, or a folder on a file system that all machines of the cluster see under this path.
        device: `cpu` or `cuda`.
        address: Of the cluster, as `ray.init` takes it; `auto` finds the one that this machine belongs to.

    Yields:
        What became of each run, in the order in which they finish.

    Raises:
        HeldoutError: If Ray is not installed, the cluster cannot be reached, or a batch failed.
    """
    try:
        import ray
    except ImportError:
        raise HeldoutError("training on a cluster needs Ray: pip install 'heldout-torch[cluster]'") from None
    try:
        ray.init(address=address, ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise HeldoutError(f"Ray cluster {address!r} cannot be reached: {_line(error)}") from None
    gpus = int(torch.device(device).type == "cuda")
    task = ray.remote(num_cpus=1 - gpus, num_gpus=gpus, max_retries=_RETRIES)(_train)
    shared = ray.put(dataset)
    pending = [task.remote(loaded_plugins(), batch, shared, zoo, str(device)) for batch in batches]
    try:
        while pending:
            (done, *_), pending = ray.wait(pending)
            yield from ray.get(done)
    except ray.exceptions.RayTaskError as error:
        raise HeldoutError(f"a batch of runs failed on the cluster: {_line(error.cause)}") from None
    except ray.exceptions.RayError as error:
        raise HeldoutError(f"the cluster failed: {_line(error)}") from None
    finally:
        for task_left in pending:
            ray.cancel(task_left)


def _train(plugins: Sequence[str], batch: RunBatch, dataset: Dataset, zoo: WritableZoo, device: str) -> list[Trained]:
    load_plugins(plugins)
    if device == "cpu":
        torch.set_num_threads(1)  # the core that the task asked for
    return train_batch(batch, dataset, zoo, device, lambda runs, loss: None)


def _line(error: object) -> str:
    """Return all of an error's message as one line: Ray's first line is often a heading only."""
    return " ".join(str(error).split()) or type(error).__name__
