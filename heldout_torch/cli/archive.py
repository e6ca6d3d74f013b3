"""`heldout archive`: what is done with a published archive without unpacking it."""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from heldout_torch.archives.build_index import build_index
from heldout_torch.archives.inspection import Inspection, inspect_archive
from heldout_torch.archives.remote_stream import open_stream
from heldout_torch.archives.seek_index import INDEX_ENDING
from heldout_torch.cli import options
from heldout_torch.cli.output import complain, say, say_json, summarize
from heldout_torch.cli.parser import Parser
from heldout_torch.errors import counted
from heldout_torch.evaluation import verify
from heldout_torch.storage.paths import file_name, place
from heldout_torch.storage.progress import Bar
from heldout_torch.zoo import load_run
from heldout_torch.zoo.folder import FolderZoo
from heldout_torch.zoo.records import RunFiles


def configure(parser: Parser) -> None:
    """Add what the verb takes to its parser."""
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    index = actions.add_parser(
        "index",
        help="write a seek index, by default ARCHIVE.seek next to the archive",
        description="Read the archive once, and write its seek index to ARCHIVE.seek or to the file of --out. If both "
        "are in one place, on a disk or a web server, load_run(..., zoo=ARCHIVE) reads one run in about a second. If "
        "the seek index is elsewhere, use load_run(..., zoo=ARCHIVE, index=FILE).",
    )
    index.add_argument("archive", type=place, metavar="ARCHIVE", help="path or URL of a .tar.gz file")
    index.add_argument("--out", type=options.file_to_write, metavar="FILE", help="file to write, default: ARCHIVE.seek")
    options.add_spacing_option(index)
    index.set_defaults(run_verb=_index)
    inspect = actions.add_parser(
        "inspect",
        help="show what the beginning of an archive has, and what an export would do with it",
        description="Read the beginning of an archive, list the names of its files, and convert its first complete "
        "runs in memory. With --data, also evaluate these runs and compare with their aux_arrays.npz.",
    )
    inspect.add_argument("archive", metavar="SOURCE", help="path or URL of an archive, or - for standard input")
    inspect.add_argument(
        "--bytes", type=options.size, default=2 * 10**9, metavar="N", help="how much to read, such as 500M, default: 2G"
    )
    options.add_ignore_option(inspect)
    options.add_data_options(inspect)
    inspect.set_defaults(run_verb=_inspect)


def _index(arguments: argparse.Namespace) -> int:
    archive, out = arguments.archive, arguments.out
    size = archive.stat().st_size if isinstance(archive, Path) and archive.is_file() else None
    with Bar("index", "B", size) as bar:
        index = build_index(archive, bar.add, arguments.spacing, out, bar.print)
    for problem in index.problems:
        complain(f"error: {archive}: {problem}")
    summarize(
        arguments, f"indexed {counted(len(index.keys), 'run')} in {out or f'{archive}{INDEX_ENDING}'}",
        runs=len(index.keys), problems=len(index.problems), archive=archive,
    )  # fmt: skip
    return 1 if index.problems else 0


def _inspect(arguments: argparse.Namespace) -> int:
    if arguments.archive == "-":
        stream, name, size = sys.stdin.buffer, "standard input", None
    else:
        stream, size, _ = open_stream(arguments.archive, complain)
        name = file_name(arguments.archive)
    with stream, Bar("inspect", "B", min(size or arguments.bytes, arguments.bytes)) as bar:
        found = inspect_archive(stream, name, arguments.bytes, arguments.ignore, bar.add)
    verified = list(_verified(arguments, found)) if arguments.data is not None else []
    if arguments.json:
        counts = {name: dict(value) for name, value in vars(found).items() if isinstance(value, Counter)}
        keys = [str(run.metadata.key) for run in found.converted]
        facts = {"archive": found.archive, "read": found.read, "ended": found.ended, **counts, "converted": keys}
        say_json(**facts, verified=[{"result": line, "good": good} for line, good in verified])
    else:
        for line in (*found.lines(), *(line for line, _ in verified)):
            say(line)
    return 0 if found.converted and not found.problems and all(good for _, good in verified) else 1


def _verified(arguments: argparse.Namespace, found: Inspection) -> Iterator[tuple[str, bool]]:
    """Evaluate the runs that were converted; yield a line on each, and whether it is as recorded."""
    with tempfile.TemporaryDirectory() as folder, FolderZoo(Path(folder)) as zoo:
        for run in found.converted:
            zoo.put_files(RunFiles.of(run.metadata, run.state, run.aux, run.aux_bytes))
            dataset = options.load_data(arguments, run.metadata.dataset)
            result = verify(load_run(run.metadata.key, zoo=zoo), dataset)
            yield (
                f"run {run.metadata.key}: {result.matches} out of {result.examples} predictions match, "
                f"{counted(result.ties, 'tie')}",
                not result.mismatches,
            )
