"""`heldout zoo`: look after a zoo, and carry runs to and from remote ones."""

import argparse

from heldout_torch.cli import options
from heldout_torch.cli.output import complain, row, say, summarize
from heldout_torch.cli.parser import Parser
from heldout_torch.errors import ZooError, printable
from heldout_torch.storage.progress import Bar
from heldout_torch.storage.threads import map_ahead
from heldout_torch.zoo.base import Zoo
from heldout_torch.zoo.cache import cache_folder
from heldout_torch.zoo.copy import check_runs, copy_runs, fetch_runs
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.manifest import MANIFEST_FILE
from heldout_torch.zoo.open import open_writable, open_zoo
from heldout_torch.zoo.selection import Selection


def configure(parser: Parser) -> None:
    """Add what the verb takes to its parser."""
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")

    index = actions.add_parser("index", help="write the manifest: every run's hashes, epoch and accuracies")
    check = actions.add_parser("check", help="compare every byte with the manifest")
    listing = actions.add_parser("list", help="list runs with epoch, accuracies and size, from the manifest")
    pull = actions.add_parser("pull", help="fetch runs of a remote zoo into the cache, several at a time")
    push = actions.add_parser("push", help="copy a zoo's runs to a remote one; what is there already stays")

    index.add_argument("zoo", metavar="ZOO", help="folder of the zoo, or a URL that can be written")
    index.set_defaults(run_verb=_index)
    for action, run_verb in ((check, _check), (push, _push)):
        action.add_argument("zoo", metavar="ZOO", help="any place of runs")
        action.set_defaults(run_verb=run_verb)
    push.add_argument("remote", metavar="REMOTE", help="URL or folder that the runs go to")
    for action, run_verb in ((listing, _list), (pull, _pull)):
        action.add_argument("zoo", metavar="ZOO", help="any place of runs" if action is listing else "URL of a zoo")
        action.add_argument("--experiment", help="only this experiment")
        action.add_argument("--subset-ratio", type=options.subset_ratio, nargs="+", default=[], metavar="R")
        action.add_argument("--runs", type=options.run_list, default=[], help="only these, such as 0-9,42")
        action.set_defaults(run_verb=run_verb)
    listing.add_argument(
        "--min-accuracy", type=float, default=0.0, metavar="A", help="only runs with at least this on the test set"
    )
    for action in (index, check, pull, push):
        action.add_argument(
            "--workers", type=options.count, default=options.processors(), help="threads, default: all cores"
        )


def _index(arguments: argparse.Namespace) -> int:
    zoo = open_writable(arguments.zoo)
    with Bar("index", "run") as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.add(done - bar.done)

        found = zoo.index(arguments.workers, show)
    if not found.manifest.runs and not found.damaged:
        raise ZooError(f"{zoo.location}: is no zoo, it holds no <experiment>/<subset_ratio>/<run>/...")
    for key, error in found.damaged.items():
        complain(f"error: run {key}: {error}")
    summarize(
        arguments,
        f"indexed {len(found.manifest.runs)} runs in {zoo.location}/{MANIFEST_FILE}, {len(found.damaged)} damaged",
        runs=len(found.manifest.runs),
        damaged=len(found.damaged),
        zoo=zoo.location,
    )
    return 1 if found.damaged else 0


def _check(arguments: argparse.Namespace) -> int:
    zoo = open_zoo(arguments.zoo)
    keys = zoo.keys()
    wrong = 0
    with Bar("check", "run", len(keys)) as bar:
        for outcome in check_runs(zoo, keys, arguments.workers):
            bar.add()
            if outcome.error is not None:
                wrong += 1
                bar.print(printable(f"error: run {outcome.key}: {outcome.error}"))
    summarize(
        arguments,
        f"checked {len(keys)} runs of {zoo.location}, {wrong} wrong",
        checked=len(keys),
        wrong=wrong,
        zoo=zoo.location,
    )
    return 1 if wrong else 0


def _list(arguments: argparse.Namespace) -> int:
    zoo = open_zoo(arguments.zoo)
    keys = _selected(zoo, arguments)
    if not arguments.json:
        say("experiment/ratio/run\tepoch\ttrain\tremoved\ttest\tbytes")
    for key, record in zip(keys, map_ahead(zoo.record, keys, zoo.threads), strict=True):
        if (record.accuracy[2] or 0.0) >= arguments.min_accuracy:
            accuracies = "\t".join("-" if value is None else f"{value:.4f}" for value in record.accuracy)
            epoch = "-" if record.epoch is None else record.epoch
            row(
                arguments, f"{key}\t{epoch}\t{accuracies}\t{record.size}",
                **vars(key), epoch=record.epoch, bytes=record.size,
                **dict(zip(("train", "removed", "test"), record.accuracy, strict=True)),
            )  # fmt: skip
    return 0


def _pull(arguments: argparse.Namespace) -> int:
    zoo = open_zoo(arguments.zoo)
    keys = _selected(zoo, arguments)
    failed = 0
    with Bar("pull", "B") as bar:
        for outcome in fetch_runs(zoo, keys, arguments.workers, bar.add):
            if outcome.error is not None:
                failed += 1
                bar.print(printable(f"error: run {outcome.key}: {outcome.error}"))
    folder = cache_folder(zoo.location)
    summarize(
        arguments,
        f"{len(keys) - failed} runs are in {folder}, {failed} failed",
        fetched=len(keys) - failed,
        failed=failed,
        folder=folder,
    )
    return 1 if failed else 0


def _push(arguments: argparse.Namespace) -> int:
    source, target = open_zoo(arguments.zoo), open_writable(arguments.remote)
    keys = source.keys()
    copied = failed = 0
    with Bar("push", "run", len(keys)) as bar:
        for outcome in copy_runs(source, target, keys, arguments.workers):
            bar.add()
            copied += outcome.error is None and not outcome.skipped
            if outcome.error is not None:
                failed += 1
                bar.print(printable(f"error: run {outcome.key}: {outcome.error}"))
    summarize(
        arguments,
        f"copied {copied} runs to {target.location}, {failed} failed",
        copied=copied,
        failed=failed,
        zoo=target.location,
    )
    return 1 if failed else 0


def _selected(zoo: Zoo, arguments: argparse.Namespace) -> list[RunKey]:
    selection = Selection(arguments.experiment, arguments.subset_ratio, arguments.runs)
    return selection.choose(zoo.keys(), zoo.location)
