"""`heldout report`: write a page that shows an experiment."""

import argparse
import shlex
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from heldout_torch.cli import options
from heldout_torch.cli.output import summarize
from heldout_torch.cli.parser import Parser
from heldout_torch.cli.tables import add_facts_options, find_chosen, load_facts, read_tables, which_experiment
from heldout_torch.errors import DataError, HeldoutError, counted, printable
from heldout_torch.experiments import known_experiments, recipe_of
from heldout_torch.plugins import loaded_plugins
from heldout_torch.report import gather_statistics, write_report
from heldout_torch.report.pages import check_output, names_of_classes
from heldout_torch.stats import RunTable
from heldout_torch.stats.accuracies import warn_of_fit
from heldout_torch.storage.files import read_bounded
from heldout_torch.storage.kinds import kind_of
from heldout_torch.storage.paths import local_path
from heldout_torch.training.subsets import draw_subset
from heldout_torch.zoo.base import Zoo
from heldout_torch.zoo.keys import RunKey, RunNumbers
from heldout_torch.zoo.open import open_zoo

_MAX_CLASSES = 2**20  # bytes of a file of class names


def configure(parser: Parser) -> None:
    """Add what the verb takes to its parser."""
    parser.description = (
        "Write a folder with index.html, which opens from disk: accuracies, memorized examples, "
        "high-influence pairs, C-scores, and which runs held out each example. The page loads nothing from the network."
    )
    options.add_place(parser)
    parser.add_argument(
        "--experiment", metavar="E", help="such as digits-mlp or 'digits-*', default: the only one there"
    )
    parser.add_argument(
        "--subset-ratio", type=options.subset_ratio, nargs="+", metavar="R", help="default: all that are there"
    )
    parser.add_argument("--runs", type=options.run_numbers, metavar="LIST", help="only these, such as 0-9,42")
    add_facts_options(parser)
    parser.add_argument(
        "--out", type=options.folder_to_write, required=True, metavar="DIR", help="new or empty folder to write"
    )
    parser.add_argument(
        "--stats",
        type=local_path,
        nargs="+",
        metavar="TABLE",
        help="saved run tables, one for each ratio, to use instead of ZOO's runs",
    )
    parser.add_argument(
        "--classes", type=local_path, metavar="FILE", help="text file of class names, one on each line, from class 0"
    )
    parser.set_defaults(run_verb=_report, table=None)


def _report(arguments: argparse.Namespace) -> int:
    out = arguments.out
    check_output(out)
    if arguments.stats and (arguments.subset_ratio or arguments.runs):
        raise DataError("--stats says which runs are shown: --subset-ratio and --runs mean nothing to saved tables")
    names = _class_names(arguments.classes) if arguments.classes else None
    zoo = open_zoo(arguments.zoo)
    name, keys = which_experiment(arguments, zoo)
    experiment, chosen = zoo.experiment(name), None
    if not arguments.stats:
        chosen = find_chosen(zoo, name, keys, arguments.subset_ratio, arguments.runs)
    dataset, facts = load_facts(arguments, zoo, experiment, keys)
    names_of_classes(names, experiment.dataset, dataset, facts)  # before the statistics
    commands: list[str] = []
    if chosen is None:
        tables = _saved_tables(arguments.stats, experiment.name)
        for table in tables.values():
            warn_of_fit(table)
    else:
        tables = read_tables(arguments, zoo, chosen, facts)
        data = ["--data", arguments.data] if arguments.data else []
        commands = [shlex.join(map(str, [*words, *data])) for words in _trained_by(zoo, tables)]
    statistics = gather_statistics(tables, dataset, facts)
    words = ["heldout", "report", arguments.zoo, "--experiment", experiment.name, "--out", arguments.out]
    for option, values in (("--data", arguments.data), ("--classes", arguments.classes)):
        words += [option, values] if values else []
    words += ["--skip-checksums"] if arguments.skip_checksums else []
    words += ["--allow-missing"] if arguments.allow_missing else []
    words += ["--runs", arguments.runs] if arguments.runs else []
    for option, several in (
        ("--subset-ratio", arguments.subset_ratio), ("--labels", arguments.labels), ("--stats", arguments.stats),
    ):  # fmt: skip
        words += [option, *several] if several else []
    words += [word for module in loaded_plugins() for word in ("--plugin", module)]
    commands = [printable(command) for command in (*commands, shlex.join(map(str, words)))]  # a page is shown to others
    page = write_report(statistics, experiment, dataset, out, names, commands)
    runs = sum(table.runs for table in tables.values())
    missing = int(np.isnan(statistics.memorization).sum())
    have = "has" if missing == 1 else "have"
    summarize(
        arguments,
        f"wrote the report of {counted(runs, 'run')}: {page}"
        + ("; it has no images, which need --data" if dataset is None else "")
        + (f"; {missing} of {len(statistics.memorization)} examples {have} no memorization (NaN)" if missing else ""),
        runs=runs, without_memorization=missing, images=dataset is not None, page=page,
    )  # fmt: skip
    return 0


def _trained_by(zoo: Zoo, tables: Mapping[float, RunTable]) -> list[list[str]]:
    """Return the words of the commands that trained the runs of each ratio, as far as they are known.

    Runs say their recipe, and not the file that it came from, nor that of a subset of their own. So a command is known
    where it needs neither: an experiment of the package, by its own recipe, on the random subsets of the runs' numbers.
    """
    commands = []
    for table in tables.values():
        keys = [RunKey.parse(key) for key in table.keys]
        first = keys[0]
        with suppress(HeldoutError):  # runs with aux arrays alone do not say how they were trained
            recipe = recipe_of(known_experiments()[first.experiment])
            by_recipe = zoo.metadata(first).recipe == recipe.to_record()
            drawn = draw_subset(first.run, table.train_examples, first.subset_ratio)
            if by_recipe and set(drawn) == set(zoo.aux(first).index_train):
                numbers = str(RunNumbers.of(key.run for key in keys))
                words = ["heldout", "train", first.experiment, "--subset-ratio", repr(first.subset_ratio)]
                commands.append([*words, "--runs", numbers, "--zoo", zoo.location])
    return commands


def _saved_tables(paths: list[Path], experiment: str) -> dict[float, RunTable]:
    tables = {}
    for path in paths:
        table = RunTable.load(path)
        key = table.keys[0].split("/")
        if len(key) == 3 and key[0] != experiment:
            raise DataError(f"{path}: holds runs of {key[0]}, not of {experiment}: statistics of another experiment")
        ratio = float(key[1]) if len(key) == 3 else round(table.subset_ratio, 3)
        if ratio in tables:
            raise DataError(f"{path}: is the second table of subset ratio {ratio}; join them with RunTable.concat")
        tables[ratio] = table
    return tables


def _class_names(path: Path) -> list[str]:
    try:
        return read_bounded(path, _MAX_CLASSES).decode().splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read as a text file of class names ({error.strerror})") from None
    except ValueError:
        raise DataError(f"{path}: is {kind_of(path)}, expected a text file of class names, in UTF-8") from None
