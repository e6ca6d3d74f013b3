"""Options that `verify` and `evaluate` share: which runs are evaluated, on which data, and how."""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from heldout_torch.cli import options
from heldout_torch.cluster import Cluster
from heldout_torch.errors import HeldoutError, ZooError
from heldout_torch.evaluation.cluster import sweep_on_cluster
from heldout_torch.evaluation.sweep import sweep
from heldout_torch.models import find_architecture
from heldout_torch.zoo.base import Zoo
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.open import open_zoo

# Takes the work, runs, zoo, data set and, by name, whom to tell of progress.
Sweep = Callable[..., Iterator[tuple[RunKey, Any | HeldoutError]]]


def add_sweep_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which runs are evaluated on what, and how."""
    options.add_selection(parser, shards=True)
    options.add_data_options(parser)
    parser.add_argument(
        "--precision", choices=["exact", "fast"], default="exact", help="fast: 16 bits where float32 would agree"
    )
    parser.add_argument("--batch-size", type=options.count, metavar="N", help="number of images loaded at once")
    parser.add_argument(
        "--device", nargs="+",
        help="such as cpu or cuda:0 cuda:1, on a cluster cpu or cuda, default: all GPUs, else the CPU",
    )  # fmt: skip
    parser.add_argument(
        "--cluster", metavar="ADDRESS",
        help="compute on this Ray cluster, an address or auto; all its machines must see the zoos and the data",
    )  # fmt: skip


def start_sweep(arguments: argparse.Namespace) -> Sweep:
    """Return what does a sweep where the options say: `sweep` on devices of this machine, or on a cluster.

    Raises:
        HeldoutError: If a device cannot be used, or the cluster not be reached.
    """
    if arguments.cluster is None:
        return partial(sweep, devices=options.devices(arguments))
    return partial(sweep_on_cluster, cluster=open_cluster(arguments))


def open_cluster(arguments: argparse.Namespace) -> Cluster:
    """Return the cluster of `--cluster`, for the kind of device that `--device` names.

    Raises:
        HeldoutError: As `Cluster`.
    """
    return Cluster(arguments.cluster, " ".join(arguments.device) if arguments.device else None)


def open_place(arguments: argparse.Namespace, place: str) -> tuple[Zoo, list[RunKey]]:
    """Open a place, and list its runs, of which those that are selected are of one experiment.

    Raises:
        HeldoutError: If they are of several, or nobody knows their network.
    """
    zoo, selection = open_zoo(place), options.selection(arguments)
    keys = zoo.keys()
    if len(experiments := sorted({key.experiment for key in keys if selection.holds(key)})) > 1:
        raise ZooError(f"{zoo.location}: holds runs of {', '.join(experiments)}; choose one with --experiment")
    for experiment in experiments:
        find_architecture(zoo.experiment(experiment).architecture)  # or each run would fail by itself
    return zoo, keys
