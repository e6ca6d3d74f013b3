"""`heldout stats`: memorization, influence, pairs and consistency scores of a zoo's runs, and what to keep by them."""

import argparse

import numpy as np

from heldout_torch.cli import options
from heldout_torch.cli.keep import add_keep_options, keep
from heldout_torch.cli.output import row, summarize
from heldout_torch.cli.parser import Parser
from heldout_torch.cli.tables import (
    add_facts_options,
    check_estimates,
    empty_means,
    needed_labels,
    one_table,
    statistic_tables,
    unscored,
)
from heldout_torch.devices import find_device
from heldout_torch.errors import DataError, counted
from heldout_torch.stats import (
    accuracy_columns,
    classwise_influence,
    consistency_scores,
    error_bound,
    influence_pairs,
    memorization_scores,
    run_accuracies,
    write_pairs,
    write_scores,
)
from heldout_torch.stats.columns import SUFFIXES, check_file, write_columns
from heldout_torch.stats.summary import write_classwise
from heldout_torch.zoo.aux_arrays import PARTS

_ORIGINAL = "Examples are written in the order of the data set's own files, and the file says so."
_FORMATS = "The suffix of FILE decides its format: .npz, .csv or .parquet."
_ABOUT = {  # of those that differ
    "accuracy": "Without --out, the table is printed. The suffix of FILE decides its format: .csv or .parquet.",
    "influence": f"{_ORIGINAL} FILE is an npz file.",
    "keep": f"The file says how it counts examples. {_FORMATS}",
}
_FILES = {"influence": "npz file", "accuracy": ".csv or .parquet file"}


def configure(parser: Parser) -> None:
    """Add what the verb takes to its parser."""
    statistics = parser.add_subparsers(title="statistics", required=True, metavar="STATISTIC")

    memorization = _add(statistics, "memorization", "scores with standard errors and intervals", _memorization)
    _add_ratio(memorization)
    consistency = _add(statistics, "consistency", "C-scores with standard errors and intervals", _consistency)
    _add_ratios(consistency)
    influence = _add(
        statistics, "influence", "influence within classes in the published layout, with intervals", _influence
    )
    _add_ratio(influence)
    _add_device(influence)

    pairs = _add(statistics, "pairs", "high-influence pairs with intervals, p-values and false-discovery rates", _pairs)
    _add_ratio(pairs)
    _add_device(pairs)
    pairs.add_argument(
        "--min-influence", type=options.difference, default=0.15, metavar="X", help="default: 0.15, as published"
    )
    pairs.add_argument(
        "--min-memorization",
        type=options.difference,
        default=0.25,
        metavar="X",
        help="of the training example, default: 0.25",
    )
    pairs.add_argument("--any-class", action="store_true", help="also find pairs with different labels")

    keep_parser = _add(statistics, "keep", "indices of the training examples to keep, and how they count", keep)
    _add_ratios(keep_parser)
    add_keep_options(keep_parser)

    accuracy = _add(
        statistics, "accuracy", "a table of accuracies by subset ratio, mean and standard deviation", _accuracy
    )
    _add_ratios(accuracy)


def _add(statistics: "argparse._SubParsersAction[Parser]", name: str, what: str, run: object) -> Parser:
    parser = statistics.add_parser(
        name, help=f"write {what}", description=f"Write {what}. {_ABOUT.get(name, f'{_ORIGINAL} {_FORMATS}')}"
    )
    optional = name == "keep"  # by a published score, or those of a file
    place = f"{options.PLACE}; aux arrays are enough"
    if optional:
        place += "; none is needed if --by names a published score or a file"
    options.add_place(parser, what=place, optional=optional)
    parser.add_argument(
        "--experiment", metavar="E", help="such as cifar10-inception or 'cifar10-*', default: the only one there"
    )
    parser.add_argument("--runs", type=options.run_numbers, default=None, help="only these runs, such as 0-9,42")
    add_facts_options(parser)
    parser.add_argument(
        "--table", type=options.folder_to_write, metavar="DIR", help="folder that keeps the run table for the next time"
    )
    file = _FILES.get(name, ".npz, .csv or .parquet file")
    parser.add_argument("--out", required=name != "accuracy", metavar="FILE", help=f"{file} to write")
    parser.add_argument(
        "--empty-zero", action="store_true",
        help="let a mean over no runs be 0, as in the published demo; by default such an estimate is NaN",
    )  # fmt: skip
    parser.set_defaults(run_verb=run)
    return parser


def _add_ratio(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--subset-ratio", type=options.subset_ratio, metavar="R", help="such as 0.7, default: the only one"
    )


def _add_ratios(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--subset-ratio", type=options.subset_ratio, nargs="+", metavar="R", help="default: all ratios that are there"
    )


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")


def _memorization(arguments: argparse.Namespace) -> int:
    out = check_file(arguments.out)
    table, facts = one_table(arguments)
    missing = check_estimates(table, empty_means(arguments))
    write_scores(out, memorization_scores(table, facts[0], empty_means(arguments)), facts[0])
    bound = error_bound(table.runs, table.subset_ratio) ** 0.5
    summarize(
        arguments,
        f"wrote memorization from {counted(table.runs, 'run')} to {out}; root mean squared error below {bound:.3f}"
        + unscored(missing, table.train_examples),
        runs=table.runs, error_bound=bound, without_score=missing, order=facts[0].order, out=out,
    )  # fmt: skip
    return 0


def _consistency(arguments: argparse.Namespace) -> int:
    out = check_file(arguments.out)
    tables, facts = statistic_tables(arguments)
    scores = consistency_scores(tables, facts[0], empty_means(arguments))
    missing = int(np.isnan(scores.scores).sum())
    if missing == len(scores.scores):
        raise DataError("no example has a consistency score: every run trained on all examples, and none was held out")
    write_scores(out, scores, facts[0])
    summarize(
        arguments,
        f"wrote consistency scores over {counted(len(tables), 'subset ratio')} to {out}"
        + unscored(missing, len(scores.scores)),
        ratios=len(tables), without_score=missing, order=facts[0].order, out=out,
    )  # fmt: skip
    return 0


def _influence(arguments: argparse.Namespace) -> int:
    out, device = check_file(arguments.out, [".npz"]), find_device(arguments.device)
    table, (train, test) = one_table(arguments)
    labels = needed_labels("influences within classes", train, test)
    missing = check_estimates(table, empty_means(arguments))
    matrices = classwise_influence(table, *labels, level=0.95, empty=empty_means(arguments), device=device)
    classes = write_classwise(out, matrices, memorization_scores(table, train, empty_means(arguments)), train, test)
    summarize(
        arguments,
        f"wrote influence within {counted(classes, 'class')} from {counted(table.runs, 'run')} to {out}"
        + unscored(missing, table.train_examples),
        classes=classes, runs=table.runs, without_score=missing, out=out,
    )  # fmt: skip
    return 0


def _pairs(arguments: argparse.Namespace) -> int:
    out, device = check_file(arguments.out), find_device(arguments.device)
    table, (train, test) = one_table(arguments)
    labels = None, None
    if not arguments.any_class:
        labels = needed_labels("pairs within classes (--any-class finds all)", train, test)  # type: ignore[assignment]
    missing = check_estimates(table, empty_means(arguments))
    pairs = influence_pairs(
        table, *labels, arguments.min_influence, arguments.min_memorization, not arguments.any_class,
        empty=empty_means(arguments), device=device,
    )  # fmt: skip
    write_pairs(out, pairs, train, test)
    assert pairs.false_discovery_rate is not None
    found = int((pairs.false_discovery_rate <= 0.05).sum())
    summarize(
        arguments,
        f"wrote {counted(len(pairs), 'pair')} from {counted(table.runs, 'run')} to {out}; "
        f"{found} at a false-discovery rate of 5 %" + unscored(missing, table.train_examples),
        pairs=len(pairs), pairs_at_5_percent=found, runs=table.runs, without_score=missing, out=out,
    )  # fmt: skip
    return 0


def _accuracy(arguments: argparse.Namespace) -> int:
    out = None if arguments.out is None else check_file(arguments.out, SUFFIXES[1:])
    columns = accuracy_columns(
        {ratio: run_accuracies(table) for ratio, table in statistic_tables(arguments)[0].items()}
    )
    if out is not None:
        write_columns(out, columns)
    shares = "".join(f", {part} {{{part}_mean:.4f}} ± {{{part}_deviation:.4f}}" for part in PARTS)
    for values in zip(*(column.tolist() for column in columns.values()), strict=True):
        facts = dict(zip(columns, values, strict=True))
        runs = counted(facts["runs"], "run")
        row(arguments, f"{facts['subset_ratio']!r}: {runs}{shares.format(**facts)}", **facts)
    return 0
