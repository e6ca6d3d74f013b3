"""`heldout export`: TensorFlow runs, or those of any place, become runs of a zoo."""

import argparse
import sys
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from heldout_torch.archives.build_index import IndexWriter
from heldout_torch.archives.first_bytes import HEAD, NoArchiveError, is_packed
from heldout_torch.archives.remote_stream import open_stream, version_of
from heldout_torch.archives.resume import Marks
from heldout_torch.archives.seek_index import INDEX_ENDING, MAGIC
from heldout_torch.archives.stream import export_archive
from heldout_torch.cli import options
from heldout_torch.cli.follow import Counts, follow
from heldout_torch.cli.output import complain, summarize
from heldout_torch.cli.parser import Parser
from heldout_torch.errors import RefusedError, ZooError, counted, nearest
from heldout_torch.experiments import known_experiments
from heldout_torch.storage.paths import extended, file_name, is_remote, local_path
from heldout_torch.storage.progress import Bar
from heldout_torch.storage.urls import is_archive, read_range
from heldout_torch.zoo.base import WritableZoo
from heldout_torch.zoo.copy import copy_runs, not_there
from heldout_torch.zoo.keys import RunNumbers
from heldout_torch.zoo.open import open_source, open_writable, sample_zoo
from heldout_torch.zoo.selection import Selection

_PAGE = 2**20  # bytes that a server may send which gives no ranges of it


def configure(parser: Parser) -> None:
    """Add what the verb takes to its parser."""
    parser.description = (
        "Convert the runs of an archive, packed or unpacked, to safetensors; or copy runs from one zoo to another. "
        "Runs that are in the zoo already are skipped, so an interrupted export can be continued. An archive at a URL "
        "is then read from near the place where it stopped; an archive on a disk or a pipe is read from its start."
    )
    options.add_place(
        parser, "source",
        "path or URL of an archive, - for standard input, name of an experiment for its published archive, one run "
        f"directory, or {options.PLACE}",
    )  # fmt: skip
    parser.add_argument(
        "--zoo", required=True, metavar="ZOO", help="zoo to export to: a folder, or a URL that can be written"
    )
    options.add_selection(parser, shards=True)
    options.add_workers(parser)
    parser.add_argument("--overwrite", action="store_true", help="also export runs that are in the zoo already")
    parser.add_argument(
        "--md5", type=options.md5, help="MD5 that a packed archive must have, default: the published one"
    )
    parser.add_argument(
        "--index", type=options.file_to_write, metavar="FILE",
        help="also write the seek index of the archive, as `heldout archive index` does; this reads the whole archive",
    )  # fmt: skip
    options.add_spacing_option(parser)
    options.add_ignore_option(parser)
    options.add_dtype_option(parser)
    parser.set_defaults(run_verb=_export)


def _export(arguments: argparse.Namespace) -> int:
    target, selection = open_writable(arguments.zoo), options.selection(arguments)
    location = _published(arguments.source)
    if location == _address(arguments.source) and selection.experiment is None:
        # It holds no other; and only if all is named that is wanted, the rest need not be read.
        selection = replace(selection, experiment=arguments.source)
    if location == "-" or _is_stream(location, selection):
        counts = _export_archive(arguments, location, target, selection)
    elif arguments.index is not None:
        raise ZooError(f"{location}: is not an archive that is read from its beginning, --index has no use there")
    else:
        source = open_source(location, selection, arguments.ignore)
        there = source.keys()
        keys, lacking = selection.choose(there, source.location), not_there(selection, there, source.location)
        with Bar("export", "run", len(lacking) + len(keys)) as bar:
            copied = copy_runs(source, target, keys, arguments.workers, arguments.overwrite, arguments.dtype)
            counts = follow(chain(lacking, copied), bar)
    summarize(
        arguments,
        f"exported {counted(counts.done, 'run')} to {target.location}, skipped {counts.skipped} already there, "
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
    return _address(source) or source


def _address(name: str) -> str | None:
    """Return the URL of an experiment's published archive, if there is one."""
    experiment = known_experiments().get(name)
    return None if experiment is None or experiment.archive is None else experiment.archive.url


def _check_meant(source: str) -> None:
    """Raise ZooError for an archive that is not there, and a name, of no file, that is like an experiment's."""
    if is_remote(source) or local_path(source).exists():
        return
    if is_archive(source):
        raise ZooError(f"{source}: does not exist; to read a published archive, give the name of its experiment")
    if near := nearest(source, known_experiments()):
        raise ZooError(f"{source}: is neither a place that holds runs nor the name of an experiment{near}")


def _is_stream(location: str, selection: Selection) -> bool:
    """Whether a location is an archive that is read from its beginning."""
    if not is_remote(location):
        return local_path(location).is_file()
    if is_archive(location):
        return not (selection.runs and _is_indexed(location))
    return _begins_as_archive(location)


def _begins_as_archive(location: str) -> bool:
    """Whether an archive lies at an address of another name, such as `x.tar` or `download.php?id=3`.

    A name that ends in `.tar`, or has `.tar.` in it, counts as one, too; the error then says what it is.
    """
    name = file_name(location)
    if ".tar." in f"{name}.":
        return True
    if "." not in name or location.count("/") < 3:  # a zoo's address seldom has a dot but the host's
        return False
    try:
        with open_stream(location, complain).stream as stream:  # which needs no ranges
            head = stream.read(HEAD)
        is_packed(head)
    except (FileNotFoundError, NoArchiveError, ZooError):
        return False
    return bool(head)


def _is_indexed(location: str) -> bool:
    try:
        head = read_range(extended(location, INDEX_ENDING), 0, len(MAGIC), _PAGE)
        return head.startswith(MAGIC[:-1])  # of any version; some servers have a page for what is not there
    except (FileNotFoundError, RefusedError):
        return False


def _export_archive(arguments: argparse.Namespace, location: str, target: WritableZoo, selection: Selection) -> Counts:
    """Read an archive from its beginning, or from where an earlier call left it."""
    name, marks = "standard input" if location == "-" else file_name(location), None
    size = etag = None
    if is_remote(location):
        size, etag = version_of(location, complain)
        complain(f"reading {location}, {'of unknown size' if size is None else f'{size:,} bytes'}")
        marks = _marks(arguments, location, size, etag, target, selection)
    start = marks.start.point.packed if marks is not None and marks.start is not None else 0
    if start:
        complain(f"going on at byte {start:,}, where an earlier call stopped")
    with ExitStack() as stack:
        if location == "-":
            stream: BinaryIO = sys.stdin.buffer
        else:
            opened = open_stream(location, complain, start)
            stream = stack.enter_context(opened.stream)
            if is_remote(location) and (opened.size, opened.etag) != (size, etag):
                raise ZooError(f"{location}: changed while it was opened; start again")
            size = opened.size
        index = None
        if arguments.index is not None:
            index = stack.enter_context(IndexWriter(name, arguments.index, arguments.spacing))
        bar = stack.enter_context(Bar("export", "B", size))
        bar.add(start)
        outcomes = export_archive(
            stream, name, target, selection, arguments.md5, arguments.workers or target.threads, arguments.overwrite,
            bar.add, arguments.ignore, bar.print, arguments.dtype, index, etag, marks,
        )  # fmt: skip
        counts = follow(outcomes, bar, lambda outcome: 0)
    for problem in index.problems if index is not None else ():
        complain(f"error: {name}: {problem}")
        counts.failed += 1
    return counts


def _marks(
    arguments: argparse.Namespace,
    location: str,
    size: int | None,
    etag: str | None,
    target: WritableZoo,
    selection: Selection,
) -> Marks | None:
    """Return where the export can go on; None if it cannot, of which a line says why."""
    if arguments.index is not None:
        complain(
            "a seek index needs the whole archive in one call; if this call is interrupted, the next one starts again"
        )
        return None
    if etag is None:
        complain(
            "the server sends no version (ETag) of the archive; if this call is interrupted, the next one starts again"
        )
        return None
    chosen = (selection.experiment, sorted(selection.subset_ratios), str(RunNumbers.of(selection.runs)))
    options = (*chosen, arguments.overwrite, tuple(arguments.ignore), arguments.dtype)
    return Marks.of(location, size, etag, target, selection.shard, options, complain)
