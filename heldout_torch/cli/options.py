"""Options that several verbs share, parsed in one way."""

import argparse
import json
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from heldout_torch.archives.access_points import SPACING
from heldout_torch.data import Dataset, load_dataset
from heldout_torch.devices import all_devices, find_devices
from heldout_torch.errors import HeldoutError
from heldout_torch.storage.files import check_new_file, check_writable
from heldout_torch.storage.paths import ZOO_VARIABLE, check_folder_name, environment, local_path
from heldout_torch.zoo.copy import Outcome, not_there
from heldout_torch.zoo.dtypes import DTYPES
from heldout_torch.zoo.keys import RunKey, as_ratio, parse_runs, parse_shard
from heldout_torch.zoo.selection import Selection

T = TypeVar("T")
PLACE = "folder or URL of a zoo, unpacked TensorFlow archive, or packed archive with its seek index"


def checked(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Return a parser of text fit for argparse: its error becomes a usage error."""

    def parse_option(text: str) -> T:
        try:
            return parse(text)
        except HeldoutError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse_option


subset_ratio = checked(as_ratio)
run_numbers = checked(parse_runs)


def count(text: str, least: int = 1) -> int:
    """Return a number from 1, or from another least."""
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least}")
    return int(text)


def share(text: str, least: int = 0) -> float:
    """Return a number from 0, or from another least, to 1."""
    with suppress(ValueError):
        if least <= (number := float(text)) <= 1:
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least} to 1")


def md5(text: str) -> str:
    """Return an MD5 as it is compared."""
    if re.fullmatch(r"[0-9a-f]{32}", digest := text.strip().lower()) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not an MD5, expected 32 hexadecimal digits")
    return digest


count_from_0 = partial(count, least=0)
difference = partial(share, least=-1)  # of two shares, such as an influence


def file_to_write(text: str) -> Path:
    """Return the path of a file that is to be written, after a check that it can be; files are local.

    Raises:
        HeldoutError: If it is a URL, a folder or a device, or its folder cannot be written.
    """
    check_new_file(path := local_path(text))
    return path


def file_to_append(text: str) -> Path:
    """Return the path of a file that grows: one that is there needs no folder that takes files.

    Raises:
        HeldoutError: As `file_to_write`.
    """
    return path if (path := local_path(text)).is_file() else file_to_write(text)


def folder_to_write(text: str) -> Path:
    """Return the path of a folder that is to be written into, as `file_to_write` does of a file.

    Raises:
        HeldoutError: As `file_to_write`, or if there is none and the name is that of a file.
    """
    path = local_path(text)
    check_folder_name(path)
    check_writable(path)
    return path


def add_place(parser: argparse.ArgumentParser, name: str = "zoo", what: str = PLACE, optional: bool = False) -> None:
    """Add the place of runs that is read; the environment may name it."""
    default = environment(ZOO_VARIABLE) or None
    how = {"nargs": "?", "default": default} if default or optional else {}
    told = f"{what}; may be left out if the environment variable {ZOO_VARIABLE} names it"
    parser.add_argument(name, metavar=name.upper(), help=told, **how)  # type: ignore[arg-type]


def add_selection(parser: argparse.ArgumentParser, shards: bool = False, filters: bool = False) -> None:
    """Add the options that choose among the runs of a place; `selection` and `choose` read them.

    Args:
        parser: The verb's.
        shards: Whether a share of the runs can be taken.
        filters: Whether runs that are asked for may be missing.
    """
    chosen = parser.add_argument_group("which runs")
    chosen.add_argument(
        "--experiment", metavar="E", help="only runs of this experiment, such as cifar10-inception or 'cifar*'"
    )
    chosen.add_argument(
        "--subset-ratio", type=subset_ratio, nargs="+", default=[], metavar="R", help="only these ratios"
    )
    lacking = "those that are there" if filters else "one that is not there is an error"
    chosen.add_argument(
        "--runs", type=run_numbers, default=(), metavar="LIST", help=f"only these runs, such as 0-9,42; {lacking}"
    )
    if shards:
        add_shard(chosen)


def add_shard(parser: argparse._ActionsContainer) -> None:
    """Add the option that takes a share of the runs, for job arrays."""
    parser.add_argument(
        "--shard",
        type=checked(parse_shard),
        default=(0, 1),
        metavar="I/N",
        help="only every N-th run, starting with run I, from 0",
    )


def choose(arguments: argparse.Namespace, keys: list[RunKey], place: str) -> tuple[list[RunKey], list[Outcome]]:
    """Return what `add_selection` asked for: of the runs of a place those that are chosen, and what is not there.

    Raises:
        ZooError: If nothing is.
    """
    chosen = selection(arguments)
    return chosen.choose(keys, place), not_there(chosen, keys, place)


def selection(arguments: argparse.Namespace) -> Selection:
    """Return what `add_selection` asked for."""
    shard = getattr(arguments, "shard", (0, 1))
    return Selection(arguments.experiment, arguments.subset_ratio, arguments.runs, shard)


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add the number of runs that are worked on at once."""
    parser.add_argument("--workers", type=count, metavar="N", help="number of threads, default: chosen for the places")


def add_dtype_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that stores models in half the bytes."""
    parser.add_argument(
        "--dtype", choices=list(DTYPES),
        help="store weights in 16 bits, for features and scores; such runs load as float32 and cannot be verified",
    )  # fmt: skip


def add_ignore_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that leaves out variables of TensorFlow runs."""
    parser.add_argument(
        "--ignore", nargs="+", default=[], metavar="PATTERN",
        help="leave out variables of the checkpoint that the network does not use, such as 'model/ema/*'",
    )  # fmt: skip


def add_spacing_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that decides how dense a seek index is."""
    parser.add_argument(
        "--spacing", type=size, default=SPACING, metavar="N",
        help="decompressed bytes between access points, each of which takes 32 kB of the seek index; default: 8 MiB",
    )  # fmt: skip


def devices(arguments: argparse.Namespace) -> list[str]:
    """Return the devices of `--device`, by default all GPUs, or the CPU.

    Raises:
        DeviceError: If one cannot be used, or is named twice.
    """
    return [str(device) for device in find_devices(arguments.device or all_devices())]


def size(text: str) -> int:
    """Parse a number of bytes such as `500M` or `2G`."""
    found = re.fullmatch(r"(\d{1,15})([KMGT]?)B?", text.strip().upper())
    if found is None or int(found[1]) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes, expected such as 500M or 2G")
    return int(found[1]) * 1000 ** " KMGT".index(found[2] or " ")


def json_object(text: str) -> dict[str, Any]:
    """Parse a JSON object, such as the options of a network."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON ({error})") from None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a JSON object")
    return found


def add_order_option(parser: "argparse.ArgumentParser | argparse._ArgumentGroup") -> None:
    """Add the option that says how the indices of `--subset` count."""
    parser.add_argument(
        "--order", choices=["original", "published"],
        help="how an npy file of --subset counts examples: in the order of the data set's files, or by published index",
    )  # fmt: skip


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where a data set lies; `load_data` reads them."""
    data = parser.add_argument_group("the data set")
    data.add_argument("--data", type=local_path, metavar="PATH", help="folder or npz file of the data set")
    data.add_argument(
        "--download", action="store_true", help="download CIFAR or MNIST into the --data folder if missing"
    )
    data.add_argument(
        "--skip-checksums", action="store_true", help="accept CIFAR or MNIST files that differ from the published ones"
    )
    data.add_argument(
        "--allow-missing",
        action="store_true",
        help="leave out ImageNet examples whose files are missing; not for training, nor for writing aux arrays",
    )


def load_data(arguments: argparse.Namespace, name: str) -> Dataset:
    """Load a data set from where `add_data_options` says.

    Raises:
        DataError: If it is not there, or bad.
    """
    return load_dataset(
        name, arguments.data, download=arguments.download, verify_checksums=not arguments.skip_checksums,
        allow_missing=arguments.allow_missing,
    )  # fmt: skip
