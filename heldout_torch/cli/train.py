"""`heldout train`: new held-out runs."""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from heldout_torch.cli import options
from heldout_torch.cli.output import summarize
from heldout_torch.cli.parser import Parser
from heldout_torch.data import Dataset
from heldout_torch.errors import HeldoutError, printable
from heldout_torch.experiments import find_experiment, is_experiment_file, read_recipe, recipe_of
from heldout_torch.storage.progress import Bar
from heldout_torch.training import RunBatch, train_runs
from heldout_torch.training.subsets import read_subset
from heldout_torch.zoo.keys import make_key
from heldout_torch.zoo.open import open_writable


def configure(parser: Parser) -> None:
    """Add what the verb takes to its parser."""
    parser.description = (
        "Train models on random subsets of a training set and file them in a zoo. Runs already in the zoo "
        "are skipped, so an interrupted training goes on where it stopped."
    )
    add_training_options(parser)
    parser.set_defaults(run_verb=_train)


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Add what says which runs are trained, and how."""
    parser.add_argument(
        "experiment",
        metavar="EXPERIMENT",
        help="such as digits-mlp, one that the zoo declares, or a file of your own, my-experiment.toml",
    )
    parser.add_argument("--runs", type=options.run_list, required=True, help="numbers of the runs, such as 0-1999")
    subset = parser.add_mutually_exclusive_group(required=True)
    subset.add_argument("--subset-ratio", type=options.subset_ratio, nargs="+", metavar="R", help="such as 0.7")
    subset.add_argument(
        "--subset",
        type=Path,
        metavar="FILE",
        help="train on these examples instead (of `heldout stats keep`, or npy); needs --name",
    )
    options.add_order_option(parser)
    parser.add_argument("--zoo", required=True, help="folder of the zoo, or a URL that can be written (s3://..., ...)")
    parser.add_argument("--name", help="file the runs under this name instead of EXPERIMENT")
    options.add_data_options(parser)
    parser.add_argument("--recipe", type=Path, metavar="FILE.toml", help="train in this way, not as shipped")
    parser.add_argument(
        "--batch-of-runs", type=_count_or_auto, default=None, metavar="N", help="runs trained together, default: auto"
    )
    parser.add_argument("--device", help="such as cpu or cuda:1, default: a GPU if there is one")
    options.add_shard_option(parser)
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="train on this Ray cluster, an address or auto; all its machines must see the zoo",
    )


def train(arguments: argparse.Namespace, dataset: Dataset, works: list[RunBatch]) -> int:
    """Train what the options ask for, with a progress bar, and print a summary.

    Args:
        arguments: The options.
        dataset: What `what_to_train` gave for them.
        works: The same.

    Returns:
        How many runs failed.

    Raises:
        HeldoutError: As `heldout_torch.training.train_runs`, or if an option is bad.
    """
    device = _device(arguments.device)
    total = sum(len(work.runs) for work in works)
    trained = skipped = failed = 0
    with Bar("train", "run", total) as bar:

        def progress(runs: float, loss: float | None) -> None:
            bar.add(runs)
            if loss is not None:
                bar.note = f"loss {loss:.4f}"

        for work in works:
            results = train_runs(
                work, dataset, arguments.zoo, device, arguments.batch_of_runs, arguments.cluster, progress
            )
            for result in results:
                if result.skipped or arguments.cluster is not None:
                    bar.add()
                if result.error is not None:
                    failed += 1
                    bar.print(printable(f"error: run {result.key}: {result.error}"))
                elif result.skipped:
                    skipped += 1
                else:
                    trained += 1
    summarize(
        arguments,
        f"trained {trained} runs into {arguments.zoo}, skipped {skipped} already there, {failed} failed",
        trained=trained,
        skipped=skipped,
        failed=failed,
        zoo=arguments.zoo,
    )
    return failed


def what_to_train(arguments: argparse.Namespace) -> tuple[Dataset, list[RunBatch]]:
    """Give the data set, and for each subset ratio the runs, that the options ask for.

    Raises:
        HeldoutError: If an option is bad, or what it names.
    """
    if is_experiment_file(arguments.experiment):
        experiment = find_experiment(arguments.experiment)
    else:
        experiment = open_writable(arguments.zoo).experiment(arguments.experiment)
    recipe = read_recipe(arguments.recipe) if arguments.recipe else recipe_of(experiment)
    dataset = options.load_data(arguments, experiment.dataset)
    runs = tuple(arguments.runs)[arguments.shard[0] :: arguments.shard[1]]
    subset, ratios = None, arguments.subset_ratio
    if arguments.subset is not None:
        if arguments.name in (None, experiment.name):
            raise HeldoutError("runs of a subset of your own need a name of your own: give --name NAME")
        order = dataset.original_index("train").numpy()
        subset = read_subset(arguments.subset, experiment.train_examples, order, arguments.order)
        ratios = [len(subset) / experiment.train_examples]
    if arguments.name is not None:
        make_key(arguments.name, 0.5, 0)
        experiment = replace(experiment, name=arguments.name, archive=None)
    return dataset, [RunBatch(experiment, recipe, ratio, runs, subset) for ratio in ratios]


def _train(arguments: argparse.Namespace) -> int:
    return 1 if train(arguments, *what_to_train(arguments)) else 0


def _device(name: str | None) -> str:
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise HeldoutError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from None
    return name


def _count_or_auto(text: str) -> int | None:
    return None if text == "auto" else options.count(text)
