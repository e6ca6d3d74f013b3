"""`heldout zoo`: list, check and index a zoo, and copy runs to and from remote zoos."""

import argparse
from itertools import chain

from heldout_torch.cli import options
from heldout_torch.cli.follow import follow
from heldout_torch.cli.output import complain, row, say, summarize
from heldout_torch.cli.parser import Parser
from heldout_torch.errors import HeldoutError, ZooError, counted, of_run
from heldout_torch.storage.progress import Bar, tracked
from heldout_torch.storage.threads import map_ahead
from heldout_torch.zoo.aux_arrays import PARTS
from heldout_torch.zoo.base import Zoo
from heldout_torch.zoo.cache import cache_folder
from heldout_torch.zoo.copy import Outcome, check_runs, copy_runs, fetch_runs
from heldout_torch.zoo.keys import AUX_FILE, MODEL_FILE, RunKey
from heldout_torch.zoo.manifest import MANIFEST_FILE
from heldout_torch.zoo.open import open_writable, open_zoo
from heldout_torch.zoo.records import RECORD_FILE, RunRecord


def configure(parser: Parser) -> None:
    """Add what the verb takes to its parser."""
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")

    index = actions.add_parser(
        "index",
        help="write the manifest (the list of a zoo's runs), and missing records",
        description="Write ZOO/manifest.json, the list of the zoo's runs, compiled from their records. "
        "Every command that writes runs does this, too. Use this verb after you moved files by hand, or to add "
        "records to a zoo of the old format.",
    )
    index.add_argument("zoo", metavar="ZOO", help="folder of the zoo, or a URL that can be written")
    check = actions.add_parser(
        "check",
        help="compare every byte with the runs' records",
        description="Read the files of all runs, compare their sizes and SHA-256 with the runs' records, and the "
        "records with the manifest. Of a TensorFlow archive, convert each run in memory instead.",
    )
    listing = actions.add_parser(
        "list",
        help="list runs with their epochs, accuracies and sizes",
        description="List runs, one on each line: epochs trained, accuracies on the examples trained on, held out and "
        "of the test set, and size in bytes.",
    )
    pull = actions.add_parser(
        "pull",
        help="fetch runs of a remote zoo into the cache, several at a time",
        description="Fetch runs of a remote zoo, check them, and keep them in the cache, where they can be read "
        "without the network. Files that are there already are checked, and not fetched again.",
    )
    push = actions.add_parser(
        "push",
        help="copy a zoo's runs to another place; runs that are there stay; outputs are not copied",
        description="Copy runs to another place, and bring its manifest up to date. Runs that are there already stay, "
        "so an interrupted push can be continued. Output tables (--save outputs) are not copied.",
    )

    for action in (check, listing, pull, push):
        options.add_place(action)
        options.add_selection(action, filters=action is listing)
    listing.add_argument(
        "--min-accuracy", type=options.share, metavar="A", help="only runs with at least this on the test set, 0 to 1"
    )
    push.add_argument("remote", metavar="REMOTE", help="URL or folder to copy to")
    options.add_dtype_option(push)
    for action in (index, check, pull, push):
        options.add_workers(action)
    for action, run_verb in (
        (index, _index), (check, _check), (listing, _list), (pull, _pull), (push, _push),
    ):  # fmt: skip
        action.set_defaults(run_verb=run_verb)


def _index(arguments: argparse.Namespace) -> int:
    zoo = open_writable(arguments.zoo)
    with Bar("index", "run") as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.add(done - bar.done)

        found = zoo.index(arguments.workers, show)
    if not found.manifest.runs and not found.damaged:
        raise ZooError(
            f"{zoo.location}: is not a zoo: no folder <experiment>/<subset_ratio>/<run> in it has a {RECORD_FILE}, "
            f"or both {AUX_FILE} and {MODEL_FILE}"
        )
    for key, error in found.damaged.items():
        complain(f"error: {of_run(key, error)}")
    runs, damaged = len(found.manifest.runs), len(found.damaged)
    summarize(
        arguments, f"indexed {counted(runs, 'run')} in the manifest {zoo.location}/{MANIFEST_FILE}, {damaged} damaged",
        indexed=runs, damaged=damaged, zoo=zoo.location,
    )  # fmt: skip
    return 1 if damaged else 0


def _check(arguments: argparse.Namespace) -> int:
    zoo, keys, lacking = _chosen(arguments)
    with Bar("check", "run", len(lacking) + len(keys)) as bar:
        counts = follow(chain(lacking, check_runs(zoo, keys, arguments.workers)), bar)
    checked = counts.done + counts.failed
    summarize(
        arguments, f"checked {counted(checked, 'run')} of {zoo.location}, {counts.failed} wrong",
        checked=checked, wrong=counts.failed, zoo=zoo.location,
    )  # fmt: skip
    return counts.status


def _list(arguments: argparse.Namespace) -> int:
    zoo = open_zoo(arguments.zoo)
    keys = options.selection(arguments).choose(zoo.keys(), zoo.location)
    failed = listed = 0
    lowest = arguments.min_accuracy
    for key, record in _records(zoo, keys):
        if isinstance(record, HeldoutError):
            failed += 1
            complain(f"error: {of_run(key, str(record))}")
            continue
        if lowest is not None and not (record.accuracy[2] or 0.0) >= lowest:
            continue
        if not listed and not arguments.json:
            say("experiment/ratio/run\tepoch\ttrain\tremoved\ttest\tbytes")
        listed += 1
        accuracies = "\t".join("-" if value is None else f"{value:.4f}" for value in record.accuracy)
        epoch = "-" if record.epoch is None else record.epoch
        row(
            arguments, f"{key}\t{epoch}\t{accuracies}\t{record.size}",
            **vars(key), epoch=record.epoch, bytes=record.size,
            **dict(zip(PARTS, record.accuracy, strict=True)),
        )  # fmt: skip
    if not listed and not failed:
        raise ZooError(f"{zoo.location}: none of {counted(len(keys), 'run')} has {lowest:g} or more on the test set")
    return 1 if failed else 0


def _pull(arguments: argparse.Namespace) -> int:
    zoo, keys, lacking = _chosen(arguments)
    with Bar("pull", "B") as bar:
        fetched = fetch_runs(zoo, keys, arguments.workers, bar.add)
        counts = follow(chain(lacking, fetched), bar, lambda outcome: 0)
    folder = cache_folder(zoo.location)
    summarize(
        arguments, f"{counted(counts.done, 'run')} in {folder}, {counts.failed} failed",
        fetched=counts.done, failed=counts.failed, folder=folder,
    )  # fmt: skip
    return counts.status


def _push(arguments: argparse.Namespace) -> int:
    target = open_writable(arguments.remote)
    zoo, keys, lacking = _chosen(arguments)
    with Bar("push", "run", len(lacking) + len(keys)) as bar:
        copied = copy_runs(zoo, target, keys, arguments.workers, dtype=arguments.dtype)
        counts = follow(chain(lacking, copied), bar)
    summarize(
        arguments,
        f"copied {counted(counts.done, 'run')} to {target.location}, {counts.skipped} already there, "
        f"{counts.failed} failed",
        copied=counts.done, skipped=counts.skipped, failed=counts.failed, zoo=target.location,
    )  # fmt: skip
    return counts.status


def _chosen(arguments: argparse.Namespace) -> tuple[Zoo, list[RunKey], list[Outcome]]:
    zoo = open_zoo(arguments.zoo)
    return zoo, *options.choose(arguments, zoo.keys(), zoo.location)


def _records(zoo: Zoo, keys: list[RunKey]) -> list[tuple[RunKey, RunRecord | HeldoutError]]:
    def read(key: RunKey) -> RunRecord | HeldoutError:
        try:
            return zoo.record(key)
        except HeldoutError as error:
            return error

    found = tracked(map_ahead(read, keys, zoo.threads), "records", "run", len(keys))
    return list(zip(keys, found, strict=True))
