"""`heldout stats`: memorization, influence, pairs and consistency scores of a zoo's runs, and what to keep by them."""

import argparse
import io
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from heldout_torch.cli import options
from heldout_torch.cli.output import summarize
from heldout_torch.cli.parser import Parser
from heldout_torch.data import Dataset
from heldout_torch.errors import HeldoutError, ZooError
from heldout_torch.stats import (
    ClassInfluence,
    ConsistencyScores,
    RunTable,
    Scores,
    classwise_influence,
    consistency,
    error_bound,
    influence_pairs,
    keep_indices,
    memorization,
    memorization_error,
    original_index,
    save_classwise,
    save_pairs,
    save_scores,
    to_original,
)
from heldout_torch.stats import original_index as original
from heldout_torch.storage.files import write_atomically
from heldout_torch.zoo.open import open_zoo

_ORIGINAL = "Examples are written in the order of the data set's original files, as in the published ones."


def configure(parser: Parser) -> None:
    """Add what the verb takes to its parser."""
    statistics = parser.add_subparsers(title="statistics", required=True, metavar="STATISTIC")

    memorization = _add(statistics, "memorization", "scores, labels and standard errors", _memorization)
    _add_ratio(memorization)
    consistency = _add(statistics, "consistency", "C-scores, labels and standard errors", _consistency)
    _add_ratios(consistency)
    influence = _add(statistics, "influence", "class-wise influence matrices in the published layout", _influence)
    _add_ratio(influence)
    _add_device(influence)

    pairs = _add(statistics, "pairs", "high-influence pairs", _pairs)
    _add_ratio(pairs)
    _add_device(pairs)
    pairs.add_argument("--min-influence", type=float, default=0.15, metavar="X", help="default: 0.15, as published")
    pairs.add_argument(
        "--min-memorization", type=float, default=0.25, metavar="X", help="of the training example, default: 0.25"
    )
    pairs.add_argument("--any-class", action="store_true", help="also pairs of different labels")

    keep = _add(statistics, "keep", "indices of the training examples to keep, an npy file of int64", _keep)
    _add_ratios(keep)
    keep.add_argument("--fraction", type=float, required=True, metavar="F", help="share to keep, 0 to 1")
    keep.add_argument("--by", choices=["memorization", "consistency"], required=True)
    end = keep.add_mutually_exclusive_group()
    end.add_argument("--highest", action="store_true", help="keep the highest scores (default)")
    end.add_argument("--lowest", action="store_true", help="keep the lowest scores")
    keep.add_argument(
        "--order", choices=["original", "published"], default="original",
        help="count examples as the original files do (for torchvision's data sets), or by published index (for "
        "`heldout train --subset`)",
    )  # fmt: skip


def _add(statistics: "argparse._SubParsersAction[Parser]", name: str, what: str, run: object) -> Parser:
    parser = statistics.add_parser(name, help=f"write {what}", description=f"Write {what}. {_ORIGINAL}")
    parser.add_argument("zoo", metavar="ZOO", help="folder of a zoo or of an unpacked archive, or URL of a zoo")
    parser.add_argument("--experiment", required=True, metavar="E", help="such as cifar10-inception")
    parser.add_argument("--runs", type=options.run_list, default=None, help="only these, such as 0-9,42")
    options.add_data_options(parser)
    parser.add_argument("--table", type=Path, metavar="DIR", help="keep the runs' bits here, and use them again")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="file to write")
    parser.add_argument(
        "--empty-zero", action="store_true",
        help="take a mean over no runs for 0, as the published demo does; otherwise such an estimate is NaN",
    )  # fmt: skip
    parser.set_defaults(run_verb=run)
    return parser


def _add_ratio(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--subset-ratio", type=options.subset_ratio, required=True, metavar="R", help="such as 0.7")


def _add_ratios(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--subset-ratio", type=options.subset_ratio, nargs="+", metavar="R", help="default: all that are there"
    )


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")


def _memorization(arguments: argparse.Namespace) -> int:
    dataset, table = _dataset(arguments), _table(arguments, arguments.subset_ratio)
    scores = _memorization_scores(arguments, table, dataset)
    save_scores(arguments.out, scores)
    bound = error_bound(table.runs, arguments.subset_ratio) ** 0.5
    summarize(
        arguments,
        f"wrote memorization from {table.runs} runs to {arguments.out}; root mean squared error below {bound:.3f}",
        runs=table.runs,
        out=arguments.out,
    )
    return 0


def _consistency(arguments: argparse.Namespace) -> int:
    dataset = _dataset(arguments)
    result = _consistency_scores(arguments, dataset)
    save_scores(arguments.out, _in_original_order(Scores(result.scores, None, None, result.standard_error), dataset))
    summarize(
        arguments,
        f"wrote consistency scores over {len(result.ratios)} subset ratios to {arguments.out}",
        ratios=len(result.ratios),
        out=arguments.out,
    )
    return 0


def _influence(arguments: argparse.Namespace) -> int:
    dataset, table = _dataset(arguments), _table(arguments, arguments.subset_ratio)
    labels = _labels(dataset, table)
    order = original(dataset, "train"), original(dataset, "test")
    classes = []
    for one in classwise_influence(table, *labels, empty=_empty(arguments), device=arguments.device):
        train, test = order[0][one.train_index], order[1][one.test_index]
        rows, columns = np.argsort(train), np.argsort(test)
        classes.append(ClassInfluence(one.label, train[rows], test[columns], one.influence[np.ix_(rows, columns)]))
    memorized = to_original(memorization(table, _empty(arguments)), order[0])
    save_classwise(
        arguments.out, classes, to_original(labels[0], order[0]), to_original(labels[1], order[1]), memorized
    )
    summarize(
        arguments,
        f"wrote influence within {len(classes)} classes from {table.runs} runs to {arguments.out}",
        classes=len(classes),
        runs=table.runs,
        out=arguments.out,
    )
    return 0


def _pairs(arguments: argparse.Namespace) -> int:
    dataset, table = _dataset(arguments), _table(arguments, arguments.subset_ratio)
    pairs = influence_pairs(
        table,
        *_labels(dataset, table),
        arguments.min_influence,
        arguments.min_memorization,
        not arguments.any_class,
        empty=_empty(arguments),
        device=arguments.device,
    )
    train, test = original_index(dataset, "train"), original_index(dataset, "test")
    originals = replace(pairs, train_index=train[pairs.train_index], test_index=test[pairs.test_index])
    save_pairs(arguments.out, originals)
    summarize(
        arguments,
        f"wrote {len(pairs)} pairs from {table.runs} runs to {arguments.out}",
        pairs=len(pairs),
        runs=table.runs,
        out=arguments.out,
    )
    return 0


def _keep(arguments: argparse.Namespace) -> int:
    dataset = _dataset(arguments)
    if arguments.by == "memorization":
        ratios = _ratios(arguments)
        if len(ratios) != 1:
            listed = ", ".join(map(repr, ratios))
            raise HeldoutError(f"memorization is about one subset ratio: give --subset-ratio, one of {listed}")
        scores = _memorization_scores(arguments, _table(arguments, ratios[0]), dataset)
    else:
        scores = _in_original_order(Scores(_consistency_scores(arguments, dataset).scores), dataset)
    kept = keep_indices(scores.scores, arguments.fraction, highest=not arguments.lowest)
    if arguments.order == "published":
        kept = np.flatnonzero(np.isin(original_index(dataset, "train"), kept))
    buffer = io.BytesIO()
    np.save(buffer, kept.astype(np.int64), allow_pickle=False)
    write_atomically(arguments.out, buffer.getvalue())
    end = "lowest" if arguments.lowest else "highest"
    summarize(
        arguments,
        f"wrote {len(kept)} of {len(scores.scores)} indices, those of the {end} {arguments.by}, to {arguments.out}",
        kept=len(kept),
        examples=len(scores.scores),
        out=arguments.out,
    )
    return 0


def _memorization_scores(arguments: argparse.Namespace, table: RunTable, dataset: Dataset) -> Scores:
    _labels(dataset, table)
    scores = Scores(memorization(table, _empty(arguments)), None, None, memorization_error(table))
    return _in_original_order(scores, dataset)


def _consistency_scores(arguments: argparse.Namespace, dataset: Dataset) -> ConsistencyScores:
    tables = {ratio: _table(arguments, ratio) for ratio in _ratios(arguments)}
    for table in tables.values():
        _labels(dataset, table)
    return consistency(tables, _empty(arguments))


def _in_original_order(scores: Scores, dataset: Dataset) -> Scores:
    order = original_index(dataset, "train")
    error = None if scores.standard_error is None else to_original(scores.standard_error, order)
    labels = to_original(dataset.labels("train").numpy(), order)
    return Scores(to_original(scores.scores, order), labels, None, error)


def _dataset(arguments: argparse.Namespace) -> Dataset:
    return options.load_data(arguments, open_zoo(arguments.zoo).experiment(arguments.experiment).dataset)


def _labels(dataset: Dataset, table: RunTable) -> tuple[np.ndarray, np.ndarray]:
    train, test = dataset.labels("train").numpy(), dataset.labels("test").numpy()
    if (len(train), len(test)) != (table.train_examples, table.test_examples):
        raise HeldoutError(
            f"{dataset.name} has {len(train)} training and {len(test)} test examples, the runs are about "
            f"{table.train_examples} and {table.test_examples}"
        )
    return train, test


def _ratios(arguments: argparse.Namespace) -> list[float]:
    found = {key.subset_ratio for key in open_zoo(arguments.zoo).keys(arguments.experiment)}
    if not found:
        raise ZooError(f"runs of {arguments.experiment} are not in {arguments.zoo}")
    return sorted(arguments.subset_ratio or found)


def _table(arguments: argparse.Namespace, ratio: float) -> RunTable:
    folder = None if arguments.table is None else arguments.table / arguments.experiment / repr(ratio)
    if folder is None or not folder.exists():
        table = RunTable.from_zoo(arguments.zoo, arguments.experiment, ratio, arguments.runs)
        if folder is not None:
            table.save(folder)
        return table
    table = RunTable.load(folder)
    keys = [key for key in open_zoo(arguments.zoo).keys(arguments.experiment) if key.subset_ratio == ratio]
    wanted = tuple(str(key) for key in keys if arguments.runs is None or key.run in arguments.runs)
    if table.keys != wanted:
        raise HeldoutError(
            f"{folder}: holds {table.runs} runs, not the {len(wanted)} asked for; remove it, or give another --table"
        )
    return table


def _empty(arguments: argparse.Namespace) -> Literal["nan", "zero"]:
    return "zero" if arguments.empty_zero else "nan"
