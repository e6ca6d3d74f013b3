"""`heldout export`: TensorFlow runs become a zoo."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from heldout_torch.archives.remote_stream import open_stream
from heldout_torch.archives.seek_index import INDEX_ENDING
from heldout_torch.archives.stream import export_archive
from heldout_torch.cli import options
from heldout_torch.cli.output import complain, summarize
from heldout_torch.cli.parser import Parser
from heldout_torch.errors import printable
from heldout_torch.experiments import known_experiments
from heldout_torch.storage.paths import is_remote
from heldout_torch.storage.progress import Bar
from heldout_torch.storage.urls import is_archive, read_range
from heldout_torch.zoo.base import WritableZoo
from heldout_torch.zoo.copy import Outcome, copy_runs
from heldout_torch.zoo.open import open_source, open_writable
from heldout_torch.zoo.selection import Selection


def configure(parser: Parser) -> None:
    """Add what the verb takes to its parser."""
    parser.description = (
        "Convert the runs of an archive, packed or unpacked, to safetensors. Runs already in the zoo are "
        "skipped, so an interrupted export goes on where it stopped; an archive is then read again from its start."
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="an archive or its URL, - for one on standard input, the name of an experiment for its published archive, "
        "one run directory, or any place of runs",
    )
    parser.add_argument("--zoo", required=True, help="folder, or URL that can be written, to export into")
    parser.add_argument("--experiment", help="only this experiment, or the name of SOURCE's")
    parser.add_argument("--subset-ratio", type=options.subset_ratio, nargs="+", default=[], metavar="R")
    parser.add_argument("--runs", type=options.run_list, default=[], help="only these, such as 0-9,42")
    parser.add_argument(
        "--workers", type=options.count, default=options.processors(), help="threads, default: all cores"
    )
    options.add_shard_option(parser)
    parser.add_argument("--overwrite", action="store_true", help="export also what is in the zoo already")
    parser.add_argument("--md5", help="MD5 that the archive must have, default: the published one")
    options.add_ignore_option(parser)
    parser.set_defaults(run_verb=_export)


def _export(arguments: argparse.Namespace) -> int:
    selection = Selection(arguments.experiment, arguments.subset_ratio, arguments.runs, arguments.shard)
    target = open_writable(arguments.zoo)
    if arguments.source == "-":
        return _export_archive(arguments, sys.stdin.buffer, "standard input", None, target, selection)
    location = _published(arguments.source)
    if Path(location).is_file() or (
        is_remote(location) and is_archive(location) and not _is_indexed(location, selection)
    ):
        stream, size = open_stream(location, complain)
        if is_remote(location):
            complain(f"reading {location}, {'of unknown size' if size is None else f'{size:,} bytes'}")
        with stream:
            return _export_archive(arguments, stream, location.rpartition("/")[2], size, target, selection)
    source = open_source(location, selection, arguments.ignore)
    keys = selection.choose(source.keys(), source.location)
    with Bar("export", "run", len(keys)) as bar:
        return _follow(arguments, bar, copy_runs(source, target, keys, arguments.workers, arguments.overwrite), 1)


def _published(source: str) -> str:
    """Return the address of the published archive of an experiment that the package declares; else what is given."""
    experiment = known_experiments().get(source)
    if experiment is None or experiment.archive is None or Path(source).exists():
        return source
    return experiment.archive.url


def _is_indexed(location: str, selection: Selection) -> bool:
    """Whether some runs are chosen, and a seek index lies beside the archive, so that it need not be read whole."""
    try:
        return bool(selection.runs) and bool(read_range(location + INDEX_ENDING, 0, 1))
    except FileNotFoundError:
        return False


def _export_archive(
    arguments: argparse.Namespace,
    stream: BinaryIO,
    name: str,
    size: int | None,
    target: WritableZoo,
    selection: Selection,
) -> int:
    how = (selection, arguments.md5, arguments.workers, arguments.overwrite)
    with Bar("export", "B", size) as bar:
        outcomes = export_archive(stream, name, target, *how, bar.add, arguments.ignore, bar.print)
        return _follow(arguments, bar, outcomes, 0)


def _follow(arguments: argparse.Namespace, bar: Bar, results: Iterator[Outcome], step: int) -> int:
    exported = skipped = failed = 0
    for result in results:
        bar.add(step)
        if result.error is not None:
            failed += 1
            what = "" if result.key is None else f"run {result.key}: "
            bar.print(printable(f"error: {what}{result.error}"))
        elif result.skipped:
            skipped += 1
        else:
            exported += 1
    summarize(
        arguments,
        f"exported {exported} runs to {arguments.zoo}, skipped {skipped} already there, {failed} failed",
        exported=exported,
        skipped=skipped,
        failed=failed,
        zoo=arguments.zoo,
    )
    return 1 if failed else 0
