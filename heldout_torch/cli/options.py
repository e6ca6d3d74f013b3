"""Options that several verbs share, parsed in one way."""

import argparse
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from heldout_torch.data import Dataset, load_dataset
from heldout_torch.errors import HeldoutError
from heldout_torch.zoo.keys import RunNumbers, parse_ratio, parse_runs, parse_shard

T = TypeVar("T")


def checked(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Make a parser of text fit for argparse: its error becomes a usage error."""

    def parse_option(text: str) -> T:
        try:
            return parse(text)
        except HeldoutError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse_option


def subset_ratio(text: str) -> float:
    """Parse a subset ratio."""
    ratio = parse_ratio(text)
    if ratio is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no subset ratio, expected a number between 0 and 1")
    return ratio


def run_list(text: str) -> RunNumbers:
    """Parse a list of runs such as `0-9,42`."""
    return checked(parse_runs)(text)


def shard(text: str) -> tuple[int, int]:
    """Parse a share of the work, `i/n`."""
    return checked(parse_shard)(text)


def count(text: str) -> int:
    """Parse a number from 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1")
    return int(text)


def processors() -> int:
    """Tell how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def add_shard_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that takes a share of the runs, for job arrays."""
    parser.add_argument("--shard", type=shard, default=(0, 1), metavar="I/N", help="every N-th run from the I-th")


def add_ignore_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that leaves out variables of TensorFlow runs."""
    parser.add_argument(
        "--ignore", nargs="+", default=[], metavar="PATTERN",
        help="leave out variables such as 'model/ema/*' for which the network has no use; recorded in each run",
    )  # fmt: skip


def size(text: str) -> int:
    """Parse a number of bytes such as `500M` or `2G`."""
    found = re.fullmatch(r"(\d{1,15})([KMGT]?)B?", text.strip().upper())
    if found is None or int(found[1]) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of bytes, expected such as 500M or 2G")
    return int(found[1]) * 1000 ** " KMGT".index(found[2] or " ")


def add_order_option(parser: "argparse.ArgumentParser | argparse._ArgumentGroup") -> None:
    """Add the option that says how the indices of `--subset` count."""
    parser.add_argument(
        "--order", choices=["original", "published"],
        help="how a bare npy array of --subset counts examples: as the data set's own files do, or by published index",
    )  # fmt: skip


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where a data set lies."""
    parser.add_argument("--data", type=Path, metavar="PATH", help="folder or npz file of the data set")
    parser.add_argument(
        "--skip-checksums", action="store_true", help="admit CIFAR or MNIST files other than the published ones"
    )


def load_data(arguments: argparse.Namespace, name: str) -> Dataset:
    """Load a data set from where `add_data_options` says.

    Raises:
        DataError: If it is not there, or bad.
    """
    return load_dataset(name, arguments.data, verify_checksums=not arguments.skip_checksums)
