"""Estimate the effect of leaving out training examples, from the runs that held them out."""

from dataclasses import dataclass

import numpy as np

from heldout_torch.errors import DataError
from heldout_torch.stats.arguments import as_array, as_kind, as_labels, as_number, as_row_of_numbers
from heldout_torch.stats.estimators import influence, memorization
from heldout_torch.stats.score_files import Scores, values_of
from heldout_torch.stats.selection import Selection, selected
from heldout_torch.stats.shown import short_repr
from heldout_torch.stats.tables import AnyTable, check_table, outcomes, trained_on
from heldout_torch.storage.counts import as_count

_PAIRS, _TESTS = 2**24, 256  # pairs, and test examples, at once


def group_influence(table: AnyTable, group: Selection, test: Selection = None) -> np.ndarray:
    """Estimate the mean influence of a set of training examples on test examples.

    It is the mean of their single influences, not the effect of leaving out all of them at once, which is larger where
    examples stand in for each other; compare the runs of `RunTable.who_trained_on` for that.

    Args:
        table: At least two runs, of bits or of outputs.
        group: Training examples, at least one and each once: published indices, a slice or a mask.
        test: Test examples, in the same way; all by default.

    Returns:
        float64 of shape (test,), over the examples whose influence can be estimated; NaN if there is none.

    Raises:
        DataError: If there is only one run, examples are selected that do not exist, or the group is empty or names an
            example twice.
    """
    check_table(table)
    columns, rows = selected(group, table.train_examples, "group"), selected(test, table.test_examples, "test")
    if not len(columns):
        raise DataError("group names no example, expected at least one")
    if len(np.unique(columns)) < len(columns):
        raise DataError("group names an example twice, expected each once")
    means = np.full(len(rows), np.nan)
    step = max(1, _PAIRS // len(columns))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        block = influence(table, columns, rows[part])  # (rows, group)
        known = ~np.isnan(block)
        number = known.sum(1)
        np.divide(np.where(known, block, 0).sum(1, dtype=np.float64), number, out=means[part], where=number > 0)
    return means  # (test,)


@dataclass(frozen=True, eq=False, repr=False)
class ClassSummary:
    """Means over classes.

    Attributes:
        labels: The classes of both splits in ascending order, int64 of shape (classes,).
        memorization: Mean over a class's training examples, float64 of shape (classes,).
        influence: Mean influence of the training examples of one class on the test examples of another, float64 of
            shape (test classes, training classes).
    """

    labels: np.ndarray
    memorization: np.ndarray
    influence: np.ndarray

    __repr__ = short_repr


def class_summary(table: AnyTable, labels_train: np.ndarray, labels_test: np.ndarray) -> ClassSummary:
    """Summarize memorization by class, and influence by classes of the training and the test example.

    Args:
        table: At least two runs; of outputs with margins on the training set.
        labels_train: Labels by published index, integers of shape (n,).
        labels_test: The same for the test set, (m,).

    Returns:
        Means over what can be estimated; NaN where there is nothing.

    Raises:
        DataError: If there is only one run, or labels are of another length.
    """
    check_table(table)
    labels_train = as_labels(labels_train, table.train_examples, "labels_train")
    labels_test = as_labels(labels_test, table.test_examples, "labels_test")
    classes = np.union1d(labels_train, labels_test).astype(np.int64)
    memorized = memorization(table)
    matrix = np.full((len(classes), len(classes)), np.nan)
    means = np.full(len(classes), np.nan)
    for column, label in enumerate(classes):
        group = np.flatnonzero(labels_train == label)
        if not len(group):  # a class of the test set alone
            continue
        means[column] = _mean(memorized[group])
        influences = group_influence(table, group)  # (m,)
        matrix[:, column] = [_mean(influences[labels_test == other]) for other in classes]
    return ClassSummary(classes, means, matrix)


@dataclass(frozen=True, eq=False, repr=False)
class RemovalCurves:
    """Outcomes on test examples as more and more training examples are held out.

    Attributes:
        outcome: Mean accuracy or margin over the runs that lack the first k examples, float64 of shape (test, most +
            1), for k = 0 (all runs) ... most; NaN where no run lacks them all.
        standard_error: Of those means, float64 of the same shape; NaN for fewer than two runs.
        runs: Number of those runs, int64 of the same shape.
    """

    outcome: np.ndarray
    standard_error: np.ndarray
    runs: np.ndarray

    __repr__ = short_repr


def removal_curves(table: AnyTable, ranking: np.ndarray, test: Selection = None) -> RemovalCurves:
    """Compute outcomes on test examples over the runs that held out the first, the first two, ... training examples.

    No run is trained anew. If each example is missing in a share 1 - p of the runs, about (1 - p)**k of the runs lack
    k of them. Compute the ranking from other runs than those in `table`. Otherwise the same chance that puts an example
    in front of the ranking also makes its removal look harmful.

    Source: A. Ilyas et al., "Datamodels" (2022), section 4.1, where networks are trained for each subset.

    Args:
        table: The runs, of bits or of outputs.
        ranking: Training examples for each test example, the first to be left out first, such as `top_influences(half,
            k).index`; published indices, integers of shape (test, most), -1 for none at the end.
        test: Test examples: published indices, a slice or a mask; all by default.

    Raises:
        DataError: If the ranking is not of that shape, or examples are named that do not exist.
    """
    check_table(table)
    rows, ranking = selected(test, table.test_examples, "test"), as_array(ranking, "ranking")
    if ranking.ndim != 2 or len(ranking) != len(rows) or ranking.dtype.kind not in "iu":
        raise DataError(f"ranking is {ranking.dtype} {ranking.shape}, expected integers ({len(rows)}, most)")
    if ranking.size and not -1 <= ranking.min() <= ranking.max() < table.train_examples:
        raise DataError(f"ranking names examples outside 0 ... {table.train_examples - 1}, or other than -1 for none")
    if ((ranking[:, 1:] >= 0) & (ranking[:, :-1] < 0)).any():
        raise DataError("ranking names an example after -1, expected -1 only at the end")
    shape = len(rows), ranking.shape[1] + 1
    curves = RemovalCurves(np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape, np.int64))
    for start in range(0, len(rows), _TESTS):
        values = outcomes(table, rows[start : start + _TESTS])  # (runs, tests)
        for row, value in enumerate(values.T, start):
            known = np.count_nonzero(ranking[row] >= 0)
            lacking = np.ones((table.runs, known + 1), bool)
            lacking[:, 1:] = ~np.logical_or.accumulate(trained_on(table, ranking[row, :known]), axis=1)
            count = lacking.sum(0)
            with np.errstate(invalid="ignore", divide="ignore"):
                mean = value @ lacking / count
                squares = ((value[:, None] - mean) ** 2 * lacking).sum(0)
                curves.standard_error[row, : known + 1] = np.sqrt(squares / (count - 1) / count)
            curves.outcome[row, : known + 1], curves.runs[row, : known + 1] = mean, count
    return curves


def brittleness(curves: RemovalCurves, below: float, min_runs: int = 10) -> np.ndarray:
    """Find the smallest number of training examples without which a test example is lost.

    Args:
        curves: Curves from runs that did not make the ranking.
        below: A test example is lost if its mean is below this, such as 0.5 for accuracy, 0 for log odds.
        min_runs: Means over fewer runs are ignored.

    Returns:
        The least number of examples, int64 of shape (test,); -1 if there is none within the curve.

    Raises:
        DataError: If `curves` is something else, `below` is not a number, or `min_runs` is not an integer from 1.
    """
    curves = as_kind(curves, RemovalCurves, "curves")
    below, min_runs = as_number(below, "below"), as_count(min_runs, "min_runs")
    lost = (curves.runs >= min_runs) & (curves.outcome < below)  # (test, most + 1)
    return np.where(lost.any(1), lost.argmax(1), -1)


def mislabel_auc(scores: np.ndarray | Scores, mislabelled: np.ndarray) -> float:
    """Compute how well a score, such as memorization, separates mislabelled examples from others.

    Args:
        scores: Float of shape (n,), or `Scores`, larger where a label is more likely wrong; examples with NaN are left
            out.
        mislabelled: bool of shape (n,).

    Returns:
        Area under the ROC curve, 0 ... 1: the chance that a mislabelled example has the larger score of two, ties
        counting half (Mann and Whitney, 1947); NaN if all or none of the examples are mislabelled.

    Raises:
        DataError: If scores are not a row of numbers, the two are not of one length, or `mislabelled` is not bool.
    """
    scores, mislabelled = as_row_of_numbers(values_of(scores), "scores"), as_array(mislabelled, "mislabelled")
    if mislabelled.shape != scores.shape or mislabelled.dtype != bool:
        raise DataError(
            f"scores {scores.shape} and mislabelled {mislabelled.dtype} {mislabelled.shape}: expected a row of each, "
            "of one length, the second bool"
        )
    known = ~np.isnan(scores)
    wrong, right = scores[known & mislabelled], np.sort(scores[known & ~mislabelled])
    if not len(wrong) or not len(right):
        return float("nan")
    smaller = (np.searchsorted(right, wrong, "left") + np.searchsorted(right, wrong, "right")) / 2
    return float(smaller.mean() / len(right))


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean(dtype=np.float64)) if len(known) else float("nan")
