"""What verbs about statistics share: which runs, their tables, and what is known of the examples."""

import argparse
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np

from heldout_torch.cli import options
from heldout_torch.cli.data_of_runs import check_data_of
from heldout_torch.cli.output import complain
from heldout_torch.data import Dataset, load_dataset
from heldout_torch.data.checks import SPLITS
from heldout_torch.errors import DataError, ZooError, warn
from heldout_torch.experiments import Experiment
from heldout_torch.stats import ExampleFacts, RunTable, example_counts, facts_of, find_facts
from heldout_torch.stats.accuracies import warn_of_fit
from heldout_torch.stats.estimators import Empty
from heldout_torch.stats.kept_tables import kept_table
from heldout_torch.stats.published_files import as_file
from heldout_torch.stats.summary import check_examples
from heldout_torch.stats.table_rows import find_runs, read_aux
from heldout_torch.zoo.base import Zoo
from heldout_torch.zoo.find import ratios_of
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.open import open_zoo
from heldout_torch.zoo.selection import Selection, is_pattern

T = TypeVar("T")
Facts = tuple[ExampleFacts, ExampleFacts]
Chosen = dict[float, list[RunKey]]  # by subset ratio


def add_facts_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where labels are known from: a data set, or files without images."""
    options.add_data_options(parser)
    parser.add_argument(
        "--labels", nargs="+", default=[], metavar="FILE",
        help="read labels from these files instead of a data set: published scores or class-wise influence, or their "
        "names (cifar100-influence, imagenet-index), or an npz data set",
    )  # fmt: skip


def load_facts(
    arguments: argparse.Namespace, zoo: Zoo, experiment: Experiment, keys: Sequence[RunKey]
) -> tuple[Dataset | None, Facts]:
    """Return the data set, if it is there, and what is known of training and test examples.

    Args:
        arguments: As in `add_facts_options`.
        zoo: Where the runs are.
        experiment: What they are of.
        keys: The runs.

    Raises:
        DataError: If a file is not there, bad, or about other examples, or the data set is not the one that the runs
            were trained on.
    """
    if arguments.data is not None and arguments.labels:
        raise DataError("--data and --labels both give labels; give only one of them")
    if arguments.data is None and (arguments.download or arguments.skip_checksums or arguments.allow_missing):
        raise DataError("--download, --skip-checksums and --allow-missing need a data set; give --data")
    name, sizes = experiment.dataset, (experiment.train_examples, experiment.test_examples)
    classes = experiment.config.get("num_classes")
    dataset: Dataset | None = None
    if arguments.data is not None:
        dataset = options.load_data(arguments, name)
        check_data_of(dataset, zoo, keys)
    elif not arguments.labels:
        dataset = _data_without_path(zoo, experiment, keys)
    if dataset is not None:
        return dataset, (facts_of(dataset, "train"), facts_of(dataset, "test"))
    files = [as_file(text, name) for text in arguments.labels]
    train, test = (find_facts(name, split, size, files, classes) for split, size in zip(SPLITS, sizes, strict=True))
    return None, (train, test)


def _data_without_path(zoo: Zoo, experiment: Experiment, keys: Sequence[RunKey]) -> Dataset | None:
    """Return the data set of runs, if it is there without a path, and is the one that they were trained on."""
    try:
        dataset = load_dataset(experiment.dataset)
    except DataError:  # only few are
        return None
    try:
        check_data_of(dataset, zoo, keys)
    except DataError as error:
        warn(f"labels are left out: {error}; give that one with --data", stacklevel=0)
        return None
    return dataset


def needed_labels(what: str, train: ExampleFacts, test: ExampleFacts) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of both splits; raises DataError if some are not known, with what needs them."""
    return (
        train.needed_labels(f"{what} need labels of the training set"),
        test.needed_labels(f"{what} need labels of the test set"),
    )


def check_estimates(table: RunTable, empty: Empty = "nan") -> int:
    """Return how many training examples have no memorization and no influence: all runs trained on them, or none.

    Args:
        table: The runs.
        empty: What a mean over no runs counts as; with `zero` all examples have estimates.

    Raises:
        DataError: If none has an estimate.
    """
    if empty == "zero" or table.runs < 2:  # of one run, the statistic itself says that it needs more
        return 0
    trained = example_counts(table).trained_on
    missing = int(np.count_nonzero((trained == 0) | (trained == table.runs)))
    if missing == table.train_examples:
        raise DataError(
            f"no example has memorization or influence: all {table.runs} runs, such as {table.keys[0]}, trained on the "
            "same examples, and each example needs runs that trained on it and runs that did not"
        )
    return missing


def unscored(missing: int, size: int) -> str:
    """Return the end of a summary that says how many examples have no score, if any."""
    return f"; {missing} of {size} examples {'has' if missing == 1 else 'have'} no score (NaN)" if missing else ""


def empty_means(arguments: argparse.Namespace) -> Empty:
    """Return what a mean over no runs counts as."""
    return "zero" if arguments.empty_zero else "nan"


def which_experiment(arguments: argparse.Namespace, zoo: Zoo) -> tuple[str, list[RunKey]]:
    """Return the experiment asked for, without one the only one that is there, which is said; and its runs.

    It may be asked for by a pattern. If it has no runs, that is no error yet.

    Raises:
        ZooError: If none is asked for, and there is none or several.
    """
    name = arguments.experiment
    if name is not None and not is_pattern(name):
        return name, zoo.keys(name)
    keys = Selection(name).choose(zoo.keys(), zoo.location)
    only = _only(arguments, sorted({key.experiment for key in keys}), zoo.location, "--experiment")
    return only, [key for key in keys if key.experiment == only]


def _only(arguments: argparse.Namespace, there: list[T], location: str, option: str) -> T:
    if len(there) > 1:
        raise ZooError(f"{location}: give {option}, one of {', '.join(map(str, there))}")
    if not arguments.quiet:
        complain(f"{option}: taking {there[0]}, the only one there")
    return there[0]


def find_chosen(
    zoo: Zoo, experiment: str, keys: Sequence[RunKey], ratios: Iterable[float] | None, runs: Sequence[int] | None = None
) -> Chosen:
    """Return the runs of each subset ratio, before any data set is loaded.

    Args:
        zoo: Where the runs are.
        experiment: Its name.
        keys: Its runs that are there.
        ratios: Those asked for; all that are there if None.
        runs: Numbers of the runs that each must have; all that are there if None.

    Raises:
        ZooError: If there are no such runs.
    """
    there = ratios_of(zoo, experiment, keys)
    found = [find_runs(zoo, experiment, ratio, runs, keys) for ratio in (there if ratios is None else ratios)]
    return {some[0].subset_ratio: some for some in found}


def read_tables(arguments: argparse.Namespace, zoo: Zoo, chosen: Chosen, facts: Facts) -> dict[float, RunTable]:
    """Make the run tables of subset ratios, or take those that are kept, and warn where training did not fit.

    Args:
        arguments: With `table`, the folder where tables are kept.
        zoo: Where the runs are.
        chosen: As `find_chosen` returns them.
        facts: Of the examples that the runs are about.

    Raises:
        ZooError: If aux arrays are missing, damaged, or cannot be fetched.
        DataError: If runs are about other examples, or a kept table is of other runs.
    """
    tables = {}
    for ratio, keys in chosen.items():
        name = keys[0].experiment
        if arguments.table is None:
            tables[ratio] = RunTable.from_aux(read_aux(zoo, keys), keys)
        else:
            tables[ratio] = kept_table(arguments.table / name / repr(ratio), zoo, keys)
        check_examples(tables[ratio], *facts, f"data set of {name}")
        warn_of_fit(tables[ratio])
    return tables


def statistic_tables(arguments: argparse.Namespace, one: bool = False) -> tuple[dict[float, RunTable], Facts]:
    """Make the run tables that a statistic is about, and return what is known of their examples.

    Args:
        arguments: With `zoo`, `experiment`, `subset_ratio`, `runs`, and as in `load_facts` and `read_tables`.
        one: Whether the statistic is about one subset ratio, which must be given if there are several.
    """
    zoo = open_zoo(arguments.zoo)
    name, keys = which_experiment(arguments, zoo)
    experiment, ratios = zoo.experiment(name), arguments.subset_ratio
    if one:
        there = ratios_of(zoo, name, keys) if ratios is None else []
        ratios = [_only(arguments, there, zoo.location, "--subset-ratio") if ratios is None else ratios]
    chosen = find_chosen(zoo, name, keys, ratios, arguments.runs)
    _, facts = load_facts(arguments, zoo, experiment, keys)
    return read_tables(arguments, zoo, chosen, facts), facts


def one_table(arguments: argparse.Namespace) -> tuple[RunTable, Facts]:
    """Make the run table of a statistic that is about one subset ratio; see `statistic_tables`."""
    tables, facts = statistic_tables(arguments, one=True)
    return next(iter(tables.values())), facts
