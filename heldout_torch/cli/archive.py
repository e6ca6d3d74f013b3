"""`heldout archive`: what is done with a published archive without unpacking it."""

import argparse
from pathlib import Path

from heldout_torch.archives.seek_index import INDEX_ENDING, build_index
from heldout_torch.cli.output import complain, summarize
from heldout_torch.cli.parser import Parser
from heldout_torch.storage.progress import Bar


def configure(parser: Parser) -> None:
    """Add what the verb takes to its parser."""
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    index = actions.add_parser(
        "index",
        help="write ARCHIVE.seek beside the archive",
        description="Read the archive once and write ARCHIVE.seek beside it. With both in one place, on a disk or a "
        "web server, load_run(..., zoo=ARCHIVE) reads one run in about a second.",
    )
    index.add_argument("archive", type=Path, metavar="ARCHIVE", help="a local .tar.gz")
    index.set_defaults(run_verb=_index)


def _index(arguments: argparse.Namespace) -> int:
    archive: Path = arguments.archive
    size = archive.stat().st_size if archive.is_file() else None
    with Bar("index", "B", size) as bar:
        index = build_index(archive, bar.add)
    for problem in index.problems:
        complain(f"error: {archive}: {problem}")
    summarize(
        arguments, f"indexed {len(index.keys)} runs in {archive}{INDEX_ENDING}",
        runs=len(index.keys), problems=len(index.problems), archive=archive,
    )  # fmt: skip
    return 1 if index.problems else 0
