"""`heldout archive`: what is done with a published archive without unpacking it."""

import argparse
import sys
from pathlib import Path


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("archive", help="make a seek index, for reading single runs out of an archive")
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
    from tqdm import tqdm

    from heldout_torch.archives.seek_index import INDEX_ENDING, build_index

    archive: Path = arguments.archive
    size = archive.stat().st_size if archive.is_file() else None
    with tqdm(total=size, unit="B", unit_scale=True, desc="index", file=sys.stderr) as bar:
        index = build_index(archive, bar.update)
    for problem in index.problems:
        print(f"error: {archive}: {problem}", file=sys.stderr)
    print(f"indexed {len(index.keys)} runs in {archive}{INDEX_ENDING}")
    return 1 if index.problems else 0
