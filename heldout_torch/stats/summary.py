"""Statistics of runs joined with facts about the examples, and their files, as the verbs write them.

By default files are in the order of the data set's own files, as CIFAR's published files, and say so.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from heldout_torch.errors import DataError
from heldout_torch.stats.arguments import as_kind
from heldout_torch.stats.classwise import ClassInfluence
from heldout_torch.stats.columns import write_columns
from heldout_torch.stats.estimators import Empty, consistency, memorization
from heldout_torch.stats.example_facts import ExampleFacts, as_facts
from heldout_torch.stats.influence_files import save_classwise, save_pairs
from heldout_torch.stats.intervals import consistency_interval, memorization_interval
from heldout_torch.stats.orders import Order, to_original
from heldout_torch.stats.pairs import InfluencePairs
from heldout_torch.stats.run_table import RunTable
from heldout_torch.stats.score_files import Scores, save_scores
from heldout_torch.stats.uncertainty import memorization_error
from heldout_torch.storage.paths import Location, local_path


def check_examples(table: RunTable, train: ExampleFacts, test: ExampleFacts, name: str) -> None:
    """Check that runs are about a data set.

    Raises:
        DataError: If sizes differ.
    """
    if (table.train_examples, table.test_examples) != (train.size, test.size):
        raise DataError(
            f"{name} has {train.size} training and {test.size} test examples, the runs are about "
            f"{table.train_examples} and {table.test_examples}, such as {table.keys[0]}; they are of another experiment"
        )


def memorization_scores(table: RunTable, examples: ExampleFacts, empty: Empty = "nan") -> Scores:
    """Estimate memorization, with standard errors and intervals, by published index.

    Args:
        table: Runs of one subset ratio.
        examples: The training set, as `facts_of(dataset, "train")` returns it.
        empty: As in `memorization`.
    """
    as_facts(examples)
    low, high = memorization_interval(table)
    error = memorization_error(table)
    return Scores(memorization(table, empty), examples.labels, examples.filenames, error, low, high, order="published")


def consistency_scores(tables: Mapping[float, RunTable], examples: ExampleFacts, empty: Empty = "nan") -> Scores:
    """Estimate consistency scores, with standard errors and intervals, by published index.

    Args:
        tables: By subset ratio.
        examples: The training set, as `facts_of(dataset, "train")` returns it.
        empty: As in `consistency`.
    """
    as_facts(examples)
    found = consistency(tables, empty)
    low, high = consistency_interval(tables)
    return Scores(found.scores, examples.labels, examples.filenames, found.standard_error, low, high, order="published")


def scores_for_file(scores: Scores, examples: ExampleFacts) -> Scores:
    """Bring scores by published index into the order in which files are written.

    Args:
        scores: By published index.
        examples: What they are about.

    Raises:
        DataError: If they are in another order, or not one for each example.
    """
    _check_order(scores.order, "scores")
    if len(scores.scores) != examples.size:
        raise DataError(f"{len(scores.scores)} scores are given for {examples.size} examples")
    if examples.original_index is None:
        return scores
    rows = {
        name: to_original(values, examples.original_index)
        for name, values in vars(scores).items()
        if isinstance(values, np.ndarray)
    }
    return replace(scores, **rows, order="original")


def pairs_for_file(pairs: InfluencePairs, train: ExampleFacts, test: ExampleFacts) -> InfluencePairs:
    """Bring pairs by published index into the order in which files are written; the strongest still come first.

    Raises:
        DataError: If they are in another order, or name examples that do not exist.
    """
    _check_order(pairs.order, "pairs")
    for index, facts, name in ((pairs.train_index, train, "training"), (pairs.test_index, test, "test")):
        if len(index) and not 0 <= index.min() <= index.max() < facts.size:
            raise DataError(f"pairs name {name} examples outside 0 ... {facts.size - 1}")
    if train.original_index is None or test.original_index is None:
        return pairs
    return replace(
        pairs,
        train_index=train.original_index[pairs.train_index],
        test_index=test.original_index[pairs.test_index],
        order="original",
    )


def class_for_file(one: ClassInfluence, train: ExampleFacts, test: ExampleFacts) -> ClassInfluence:
    """Bring a class's matrix by published index into the order in which files are written, ascending in both axes."""
    if train.original_index is None or test.original_index is None:
        return one
    return one.renumbered(train.original_index[one.train_index], test.original_index[one.test_index])


def write_scores(path: Location, scores: Scores, examples: ExampleFacts) -> None:
    """Write scores by published index into a file, npz, CSV or Parquet by its suffix.

    Raises:
        DataError: If the file cannot be written, or scores are in another order or not one for each example.
    """
    ordered = scores_for_file(as_kind(scores, Scores, "scores"), as_facts(examples))
    path = local_path(path)
    if path.suffix.lower() == ".npz":
        return save_scores(path, ordered)
    return write_columns(path, _published_index(examples) | ordered.columns())


def write_pairs(path: Location, pairs: InfluencePairs, train: ExampleFacts, test: ExampleFacts) -> None:
    """Write pairs by published index into a file, npz, CSV or Parquet by its suffix.

    Raises:
        DataError: If the file cannot be written, or pairs are in another order or name examples that do not exist.
    """
    as_kind(pairs, InfluencePairs, "pairs")
    for facts in (train, test):
        as_facts(facts)
    ordered = pairs_for_file(pairs, train, test)
    path = local_path(path)
    if path.suffix.lower() == ".npz":
        return save_pairs(path, ordered)
    about = train.columns(pairs.train_index, "train_") | test.columns(pairs.test_index, "test_")
    figures = {name: values for name, values in pairs.columns().items() if not name.endswith("index")}
    return write_columns(path, about | figures)


def write_classwise(
    path: Location, classes: Iterable[ClassInfluence], scores: Scores, train: ExampleFacts, test: ExampleFacts
) -> int:
    """Write the matrices of all classes in the published layout, an npz file.

    Args:
        path: The file.
        classes: By published index.
        scores: Memorization by published index.
        train: With labels.
        test: With labels.

    Returns:
        The number of classes.

    Raises:
        DataError: If labels are not known, or the file cannot be written.
    """
    if train.original_index is None or test.original_index is None:
        train, test = replace(train, original_index=None), replace(test, original_index=None)
    labels = [_in_order(facts.needed_labels("influence within classes"), facts) for facts in (train, test)]
    ordered = [class_for_file(one, train, test) for one in classes]
    save_classwise(path, ordered, labels[0], labels[1], _in_order(scores.scores, train), train.order)
    return len(ordered)


def _check_order(order: Order | None, name: str) -> None:
    if order != "published":
        found = "do not say how they count examples" if order is None else f"count examples in {order} order"
        raise DataError(f"{name} {found}, expected published indices; convert them by to_published, and set order")


def _in_order(values: np.ndarray, facts: ExampleFacts) -> np.ndarray:
    return values if facts.original_index is None else to_original(values, facts.original_index)


def _published_index(examples: ExampleFacts) -> dict[str, np.ndarray]:
    if examples.original_index is None:
        return {}
    return {"published_index": to_original(np.arange(examples.size), examples.original_index)}
