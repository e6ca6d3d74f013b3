"""`heldout zoo`: look after a zoo, and carry runs to and from remote ones."""

import argparse
from pathlib import Path

from heldout_torch.cli import options
from heldout_torch.cli.output import row, say, summarize
from heldout_torch.cli.parser import Parser
from heldout_torch.errors import ZooError, printable
from heldout_torch.storage.paths import is_remote
from heldout_torch.storage.progress import Bar
from heldout_torch.zoo.export import Selection
from heldout_torch.zoo.keys import MODEL_FILE, RunKey
from heldout_torch.zoo.manifest import MANIFEST_FILE, Manifest, check_zoo, index_zoo, read_manifest
from heldout_torch.zoo.remote import cache_folder, fetch_manifest, is_offline
from heldout_torch.zoo.remote_index import index_remote
from heldout_torch.zoo.store import open_zoo
from heldout_torch.zoo.transfer import pull_runs, push_zoo


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
        action.add_argument("zoo", type=Path, metavar="ZOO", help="folder of the zoo")
        action.set_defaults(run_verb=run_verb)
    push.add_argument("remote", metavar="REMOTE", help="URL or folder that the runs go to")
    for action, run_verb in ((listing, _list), (pull, _pull)):
        action.add_argument(
            "zoo", metavar="ZOO", help="URL of a zoo" + (", or its folder" if action is listing else "")
        )
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
    zoo = open_zoo(arguments.zoo)
    with Bar("index", "run") as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.add(done - bar.done)

        if isinstance(zoo, Path):
            manifest = index_zoo(zoo, arguments.workers, show)
        else:
            manifest = index_remote(zoo, arguments.workers, show)
            if not manifest.runs:
                raise ZooError(f"{zoo}: is no zoo, it holds no <experiment>/<subset_ratio>/<run>/{MODEL_FILE}")
    summarize(
        arguments, f"indexed {len(manifest.runs)} runs in {zoo}/{MANIFEST_FILE}", runs=len(manifest.runs), zoo=zoo
    )
    return 0


def _check(arguments: argparse.Namespace) -> int:
    wrong = checked = 0
    with Bar("check", "run", len(read_manifest(arguments.zoo).runs)) as bar:
        for key, error in check_zoo(arguments.zoo, arguments.workers):
            bar.add()
            checked += 1
            if error is not None:
                wrong += 1
                bar.print(printable(f"error: run {key}: {error}"))
    summarize(
        arguments,
        f"checked {checked} runs of {arguments.zoo}, {wrong} wrong",
        checked=checked,
        wrong=wrong,
        zoo=arguments.zoo,
    )
    return 1 if wrong else 0


def _list(arguments: argparse.Namespace) -> int:
    remote = is_remote(arguments.zoo)
    manifest = fetch_manifest(arguments.zoo, is_offline()) if remote else read_manifest(Path(arguments.zoo))
    if not arguments.json:
        say("experiment/ratio/run\tepoch\ttrain\tremoved\ttest\tbytes")
    for key in _selected(manifest, arguments):
        record = manifest.runs[key]
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
    manifest = fetch_manifest(arguments.zoo)
    keys = _selected(manifest, arguments)
    failed = 0
    total = sum(manifest.runs[key].size for key in keys)
    with Bar("pull", "B", total) as bar:
        for key, error in pull_runs(arguments.zoo, keys, arguments.workers, bar.add):
            if error is not None:
                failed += 1
                bar.print(printable(f"error: run {key}: {error}"))
    summarize(
        arguments,
        f"{len(keys) - failed} runs are in {cache_folder(arguments.zoo)}, {failed} failed",
        fetched=len(keys) - failed,
        failed=failed,
        folder=cache_folder(arguments.zoo),
    )
    return 1 if failed or not keys else 0


def _push(arguments: argparse.Namespace) -> int:
    total = sum(record.size for record in read_manifest(arguments.zoo).runs.values())
    with Bar("push", "B", total) as bar:
        copied = push_zoo(arguments.zoo, arguments.remote, arguments.workers, bar.add)
    summarize(arguments, f"copied {copied} runs to {arguments.remote}", copied=copied, zoo=arguments.remote)
    return 0


def _selected(manifest: Manifest, arguments: argparse.Namespace) -> list[RunKey]:
    selection = Selection(arguments.experiment, arguments.subset_ratio, arguments.runs)
    return [key for key in manifest.runs if selection.holds(key)]
