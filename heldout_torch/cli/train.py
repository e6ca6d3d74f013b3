"""`heldout train`: new held-out runs."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, islice

from heldout_torch.cli import options
from heldout_torch.cli.follow import follow
from heldout_torch.cli.output import summarize
from heldout_torch.cli.parser import Parser
from heldout_torch.cli.sweeps import open_cluster, start_sweep
from heldout_torch.data import Dataset
from heldout_torch.errors import HeldoutError, counted
from heldout_torch.evaluation.provenance import Provenance
from heldout_torch.evaluation.save import check_all_outputs, check_folder, save_runs, start_all_outputs
from heldout_torch.experiments import (
    check_known,
    find_experiment,
    is_experiment_file,
    is_experiment_name,
    known_experiments,
    read_recipe,
    recipe_of,
)
from heldout_torch.storage.paths import local_path
from heldout_torch.storage.progress import Bar
from heldout_torch.training import RunBatch, train_runs
from heldout_torch.training.preflight import as_filed
from heldout_torch.training.subsets import read_subset
from heldout_torch.training.worker import Trained
from heldout_torch.zoo.base import WritableZoo
from heldout_torch.zoo.copy import Outcome
from heldout_torch.zoo.keys import RunKey, make_key
from heldout_torch.zoo.open import open_writable


def configure(parser: Parser) -> None:
    """Add what the verb takes to its parser."""
    parser.description = (
        "Train models on random subsets of a training set, and store them in a zoo. Runs that are in the zoo already "
        "are skipped, so an interrupted training can be continued: run the same command again. An interruption (Ctrl-C "
        "or SIGTERM) also keeps the state of the runs that are being trained. Otherwise, as with several devices, on a "
        "cluster or at a power failure, these runs are continued from a state that is saved every three minutes."
    )
    add_training_options(parser)
    parser.add_argument("--save", choices=["outputs"], help="also write the margin (log odds) of every example")
    parser.set_defaults(run_verb=_train)


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Add what says which runs are trained, and how."""
    parser.add_argument(
        "experiment",
        metavar="EXPERIMENT",
        help="experiment, such as digits-mlp, or its file, such as my-experiment.toml; an experiment that only the zoo "
        "declares needs --recipe, because a zoo does not say how runs are trained",
    )
    parser.add_argument("--runs", type=options.run_numbers, required=True, help="numbers of the runs, such as 0-1999")
    subset = parser.add_mutually_exclusive_group(required=True)
    subset.add_argument(
        "--subset-ratio",
        type=options.subset_ratio,
        nargs="+",
        metavar="R",
        help="share of the training set, such as 0.7",
    )
    subset.add_argument(
        "--subset", type=local_path, metavar="FILE",
        help="train on the examples of this file (npz, csv or parquet from `heldout stats keep`, or npy); needs --name",
    )  # fmt: skip
    options.add_order_option(parser)
    parser.add_argument("--zoo", required=True, help="folder of the zoo, or a URL that can be written (s3://...)")
    parser.add_argument("--name", help="store the runs under this name instead of EXPERIMENT")
    options.add_data_options(parser)
    parser.add_argument(
        "--recipe", type=local_path, metavar="FILE.toml", help="recipe to use instead of the experiment's"
    )
    parser.add_argument(
        "--batch-of-runs",
        type=_count_or_auto,
        default=None,
        metavar="N",
        help="number of runs trained together, default: auto",
    )
    parser.add_argument("--device", nargs="+", help="such as cpu or cuda:0 cuda:1, default: all GPUs, else the CPU")
    options.add_shard(parser)
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="train on this Ray cluster, an address or auto; all its machines must see the zoo",
    )


def train(arguments: argparse.Namespace, dataset: Dataset, works: list[RunBatch]) -> int:
    """Train what the options ask for, with a progress bar, and say what was done.

    Args:
        arguments: The options.
        dataset: What `what_to_train` gave for them.
        works: The same.

    Returns:
        How many runs failed.

    Raises:
        HeldoutError: As `heldout_torch.training.train_runs`, or if an option is bad.
    """
    device, zoo = _training_devices(arguments), open_writable(arguments.zoo)
    with Bar("train", "run", sum(len(work.runs) for work in works)) as bar:

        def progress(runs: float, loss: float | None) -> None:
            bar.add(runs)
            if loss is not None:
                bar.note = f"loss {loss:.4f}"

        def share(result: Trained) -> float:  # the others told of theirs while they were trained
            return 1 if result.skipped or arguments.cluster is not None else 0

        how = device, arguments.batch_of_runs, arguments.cluster, progress
        results = (train_runs(work, dataset, zoo, *how) for work in works)
        counts = follow(chain.from_iterable(results), bar, share)
    summarize(
        arguments,
        f"trained {counted(counts.done, 'run')} into {zoo.location}, skipped {counts.skipped} already there, "
        f"{counts.failed} failed",
        trained=counts.done, skipped=counts.skipped, failed=counts.failed, zoo=zoo.location,
    )  # fmt: skip
    return counts.failed


def what_to_train(arguments: argparse.Namespace) -> tuple[Dataset, list[RunBatch]]:
    """Return the data set, and for each subset ratio the runs, that the options ask for; nothing is written yet.

    Raises:
        HeldoutError: If an option is bad, or what it names.
    """
    if is_experiment_file(arguments.experiment) or not is_experiment_name(arguments.experiment):
        experiment = find_experiment(arguments.experiment)
    else:
        experiment = open_writable(arguments.zoo).experiment(arguments.experiment)
    recipe = read_recipe(arguments.recipe) if arguments.recipe else recipe_of(experiment)
    dataset = options.load_data(arguments, experiment.dataset)
    index, shards = arguments.shard
    runs = tuple(islice(arguments.runs, index, None, shards))
    if not runs:
        raise HeldoutError(f"shard {index}/{shards} takes none of the {counted(len(arguments.runs), 'run')}")
    subset, ratios = None, arguments.subset_ratio
    if arguments.subset is None and arguments.order is not None:
        raise HeldoutError("--order says how --subset counts examples; give --subset, too")
    if arguments.subset is not None:
        if arguments.name in (None, experiment.name, *known_experiments()):
            raise HeldoutError("runs on a subset of your own need another name; give --name NAME")
        order = dataset.original_index("train").numpy()
        subset = read_subset(arguments.subset, experiment.train_examples, order, arguments.order, experiment.dataset)
        ratios = [len(subset) / experiment.train_examples]
    if arguments.name is not None:
        make_key(arguments.name, 0.5, 0)
        experiment = replace(experiment, name=arguments.name, archive=None)
        check_known(experiment, "--name")
    zoo = open_writable(arguments.zoo)
    return dataset, [as_filed(RunBatch(experiment, recipe, ratio, runs, subset), zoo) for ratio in ratios]


def _train(arguments: argparse.Namespace) -> int:
    if arguments.save:
        check_folder(open_writable(arguments.zoo))
    dataset, works = what_to_train(arguments)
    if arguments.save:
        zoo = open_writable(arguments.zoo)
        made = Provenance(zoo, zoo, dataset.digest(), flips=False)
        check_all_outputs(zoo, _keys(works, arguments.runs), dataset, made.of_outputs)
    failed = train(arguments, dataset, works)
    if arguments.save:
        failed += _save_outputs(arguments, dataset, works, zoo, made)
    return 1 if failed else 0


def _keys(works: list[RunBatch], runs: Sequence[int] = ()) -> list[RunKey]:
    """Return the runs of works, or those of other numbers that differ from them in nothing else."""
    return [make_key(work.experiment.name, work.subset_ratio, run) for work in works for run in runs or work.runs]


def _save_outputs(
    arguments: argparse.Namespace, dataset: Dataset, works: list[RunBatch], zoo: WritableZoo, made: Provenance
) -> int:
    """Evaluate the runs whose outputs are not there, or of a network that was replaced; return how many failed."""
    mine, there = _keys(works), set(zoo.keys(works[0].experiment.name))
    filled = start_all_outputs(zoo, _keys(works, arguments.runs), dataset, made.of_outputs)
    rest = [key for key in mine if key in there and (key not in filled or made.differs(key))]
    total = len(rest) * (len(dataset.labels("train")) + len(dataset.labels("test")))
    work, sweep = partial(save_runs, out=zoo, made=made, aux=False, outputs=True), start_sweep(arguments)

    def outcomes(bar: Bar) -> Iterator[Outcome]:
        for key, aux in sweep(work, rest, zoo, dataset, progress=bar.add):
            yield Outcome(key, error=str(aux) if isinstance(aux, HeldoutError) else None)

    with Bar("outputs", "image", total) as bar:
        counts = follow(outcomes(bar), bar, lambda outcome: 0)
    skipped = len(there.intersection(mine)) - len(rest)
    summarize(
        arguments,
        f"wrote outputs of {counted(counts.done, 'run')} into {zoo.location}, skipped {skipped} already there, "
        f"{counts.failed} failed",
        outputs=counts.done, skipped=skipped, failed=counts.failed, zoo=zoo.location,
    )  # fmt: skip
    return counts.failed


def _training_devices(arguments: argparse.Namespace) -> str | list[str]:
    if arguments.cluster is not None:
        return open_cluster(arguments).device
    return options.devices(arguments)


def _count_or_auto(text: str) -> int | None:
    return None if text == "auto" else options.count(text)
