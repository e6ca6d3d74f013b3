"""`heldout published`: the published score and influence files, by name."""

import argparse

from heldout_torch.cli.output import row, summarize
from heldout_torch.cli.parser import Parser
from heldout_torch.stats.published_files import fetch_published, is_kept
from heldout_torch.stats.published_list import find_published, list_published


def configure(parser: Parser) -> None:
    """Add what the verb takes to its parser."""
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    listing = actions.add_parser(
        "list",
        help="list published files",
        description="List the names, the order of examples, and the contents of each.",
    )
    listing.set_defaults(run_verb=_list)
    fetch = actions.add_parser(
        "fetch",
        help="fetch files into the cache",
        description="Fetch published files into the package's cache and check them. Local copies in the folder that "
        "HELDOUT_TORCH_PUBLISHED names are checked instead.",
    )
    fetch.add_argument("names", nargs="+", metavar="NAME", help="such as cifar10-cscores")
    fetch.set_defaults(run_verb=_fetch)
    path = actions.add_parser(
        "path",
        help="print the path of a file, which is fetched first if it is not there",
        description="Print the path of a published file on this machine. A file that is not in the cache, nor in the "
        "folder that HELDOUT_TORCH_PUBLISHED names, is fetched from the network first.",
    )
    path.add_argument("name", metavar="NAME", help="such as cifar10-cscores")
    path.set_defaults(run_verb=_path)


def _list(arguments: argparse.Namespace) -> int:
    for name, one in list_published().items():
        kept = is_kept(one.file)
        line = f"{name}\t{one.order}\t{'kept' if kept else '-'}\t{one.what}"
        row(arguments, line, name=name, kind=one.kind, order=one.order, kept=kept, file=one.file.name, what=one.what)
    return 0


def _fetch(arguments: argparse.Namespace) -> int:
    for name in arguments.names:
        find_published(name)  # before anything is fetched
    for name in arguments.names:
        path = fetch_published(name)
        summarize(arguments, f"{name}: {path}", name=name, path=path)
    return 0


def _path(arguments: argparse.Namespace) -> int:
    path = fetch_published(arguments.name)
    row(arguments, str(path), name=arguments.name, path=path)
    return 0
