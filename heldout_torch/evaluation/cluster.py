"""A sweep as tasks on a Ray cluster."""

import math
from collections.abc import Iterator, Sequence
from typing import TypeVar

from heldout_torch.cluster import Cluster
from heldout_torch.data import Dataset
from heldout_torch.errors import HeldoutError
from heldout_torch.evaluation.evaluate import Progress
from heldout_torch.evaluation.sweep import Work, sweep
from heldout_torch.zoo.base import Zoo
from heldout_torch.zoo.keys import RunKey

T = TypeVar("T")

_RUNS = 8  # of a task at most: so many are done again when its worker dies


def sweep_on_cluster(
    work: Work[T], runs: Sequence[RunKey], zoo: Zoo, dataset: Dataset, cluster: Cluster, progress: Progress
) -> Iterator[tuple[RunKey, T | HeldoutError]]:
    """Do the same work on many runs, as `sweep` does here, a few runs in each task of a cluster.

    Args:
        work: As in `sweep`. It may be done twice for a run, when a worker dies.
        runs: The runs.
        zoo: Where they are: a URL, or a folder that all machines of the cluster see under this path.
        dataset: Their data set; its files, if it has any, are there on all machines.
        cluster: Where to compute.
        progress: Called with the number of examples done, after each task.

    Yields:
        Each run with its result or error, in the order in which tasks finish.

    Raises:
        HeldoutError: If the data set is bad, or the cluster fails.
    """
    size = max(1, min(_RUNS, math.ceil(len(runs) / cluster.slots)))
    groups = [runs[start : start + size] for start in range(0, len(runs), size)]
    for results, examples in cluster.map(_sweep_group, groups, work, zoo, dataset, cluster.device):
        progress(examples)
        yield from results


def _sweep_group(
    runs: Sequence[RunKey], work: Work[T], zoo: Zoo, dataset: Dataset, device: str
) -> tuple[list[tuple[RunKey, T | HeldoutError]], int]:
    done: list[int] = []
    results = list(sweep(work, runs, zoo, dataset, [device], done.append))
    return results, sum(done)
