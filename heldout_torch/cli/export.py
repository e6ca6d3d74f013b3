"""`heldout export`: TensorFlow runs, or those of any place, become runs of a zoo."""

import argparse
import sys
from pathlib import Path
from typing import BinaryIO

from heldout_torch.archives.remote_stream import open_stream
from heldout_torch.archives.seek_index import INDEX_ENDING
from heldout_torch.archives.stream import export_archive
from heldout_torch.cli import options
from heldout_torch.cli.follow import Counts, follow
from heldout_torch.cli.output import complain, summarize
from heldout_torch.cli.parser import Parser
from heldout_torch.errors import ZooError, nearest
from heldout_torch.experiments import known_experiments
from heldout_torch.storage.paths import file_name, is_remote, local_path
from heldout_torch.storage.progress import Bar
from heldout_torch.storage.urls import is_archive, read_range
from heldout_torch.zoo.base import WritableZoo
from heldout_torch.zoo.copy import copy_runs
from heldout_torch.zoo.open import open_source, open_writable, sample_zoo
from heldout_torch.zoo.selection import Selection


def configure(parser: Parser) -> None:
    """Add what the verb takes to its parser."""
    parser.description = (
        "Convert the runs of an archive, packed or unpacked, to safetensors; between zoos, copy them. Runs already in "
        "the zoo are skipped, so an interrupted export goes on where it stopped; a packed archive is then read again "
        "from its start."
    )
    options.add_place(
        parser, "source",
        "an archive or its URL, - for one on standard input, the name of an experiment for its published archive, one "
        f"run directory, or {options.PLACE}",
    )  # fmt: skip
    parser.add_argument("--zoo", required=True, metavar="ZOO", help="folder, or URL that can be written, to export to")
    options.add_selection(parser, shards=True)
    options.add_workers(parser)
    parser.add_argument("--overwrite", action="store_true", help="export also what is in the zoo already")
    parser.add_argument("--md5", help="MD5 that a packed archive must have, default: the published one")
    options.add_ignore_option(parser)
    options.add_dtype_option(parser)
    parser.set_defaults(run_verb=_export)


def _export(arguments: argparse.Namespace) -> int:
    target, selection = open_writable(arguments.zoo), options.selection(arguments)
    location = _published(arguments.source)
    if location == "-":
        counts = _export_archive(arguments, sys.stdin.buffer, "standard input", None, target)
    elif _is_stream(location, selection):
        stream, size = open_stream(location, complain)
        if is_remote(location):
            complain(f"reading {location}, {'of unknown size' if size is None else f'{size:,} bytes'}")
        with stream:
            counts = _export_archive(arguments, stream, file_name(location), size, target)
    else:
        source = open_source(location, selection, arguments.ignore)
        keys = selection.choose(source.keys(), source.location)
        with Bar("export", "run", len(keys)) as bar:
            counts = follow(
                copy_runs(source, target, keys, arguments.workers, arguments.overwrite, arguments.dtype), bar
            )
    summarize(
        arguments,
        f"exported {counts.done} runs to {target.location}, skipped {counts.skipped} already there, "
        f"{counts.failed} failed",
        exported=counts.done, skipped=counts.skipped, failed=counts.failed, zoo=target.location,
    )  # fmt: skip
    return counts.status


def _published(source: str) -> str:
    """Return where an experiment that the package declares was published, or is bundled; else what is given."""
    experiment = known_experiments().get(source)
    if experiment is None or Path(source).exists():
        _check_meant(source)
        return source
    if (bundled := sample_zoo() / source).is_dir():
        return str(bundled)
    return source if experiment.archive is None else experiment.archive.url


def _check_meant(source: str) -> None:
    """Raise ZooError for a name, of no file, that is most like one of an experiment."""
    near = nearest(source, known_experiments())
    if near and not is_remote(source) and not local_path(source).exists():
        raise ZooError(f"{source}: is neither a place of runs nor the name of an experiment{near}")


def _is_stream(location: str, selection: Selection) -> bool:
    """Whether a location is an archive that is read from its beginning."""
    if not is_remote(location):
        return local_path(location).is_file()
    return is_archive(location) and not (selection.runs and _is_indexed(location))


def _is_indexed(location: str) -> bool:
    try:
        return bool(read_range(location + INDEX_ENDING, 0, 1))
    except FileNotFoundError:
        return False


def _export_archive(
    arguments: argparse.Namespace, stream: BinaryIO, name: str, size: int | None, target: WritableZoo
) -> Counts:
    workers = arguments.workers or target.threads
    how = (options.selection(arguments), arguments.md5, workers, arguments.overwrite)
    with Bar("export", "B", size) as bar:
        outcomes = export_archive(stream, name, target, *how, bar.add, arguments.ignore, bar.print, arguments.dtype)
        return follow(outcomes, bar, lambda outcome: 0)
