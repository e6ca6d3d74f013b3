"""The linear datamodeling score (LDS): how well an attribution predicts the margins of runs.

Source: S. M. Park et al., "TRAK: Attributing Model Behavior at Scale" (2023), section 2. An attribution predicts the
margin of a run on a test example by the sum of its scores over the examples that the run trained on. Its LDS on that
test example is Spearman's rank correlation, over runs, between the predicted and the actual margins.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from heldout_torch.devices import find_device, float64_device
from heldout_torch.errors import DataError, counted, warn
from heldout_torch.lazy import lazy_module
from heldout_torch.stats.arguments import as_array, as_share
from heldout_torch.stats.outputs import OutputTable
from heldout_torch.stats.selection import Selection, selected
from heldout_torch.stats.shown import short_repr
from heldout_torch.stats.tables import check_outputs
from heldout_torch.storage.counts import as_count
from heldout_torch.storage.progress import tracked
from heldout_torch.storage.threads import processors

if TYPE_CHECKING:
    import torch
else:
    torch = lazy_module("torch")

_SCORES, _TRAIN, _ROWS = 2**26, 4096, 64  # scores and training examples at once; test examples a thread ranks at once

# Attribution scores (test, train), or a function that makes them of test examples, int64 (k,) -> (k, train).
Attribution = np.ndarray | Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False, repr=False)
class DatamodelingScores:
    """Linear datamodeling scores of an attribution.

    Attributes:
        correlation: Rank correlation of each test example, float64 of shape (test,), -1 ... 1; NaN where all runs have
            the same margin, or the same prediction.
        mean: Over the test examples that have one; NaN if none has.
        interval: Interval around the mean, by bootstrap over runs.
        runs: Number of runs.
    """

    correlation: np.ndarray
    mean: float
    interval: tuple[float, float]
    runs: int

    __repr__ = short_repr


def lds(
    scores: Attribution,
    table: OutputTable,
    train: Selection = None,
    test: Selection = None,
    *,
    level: float = 0.95,
    resamples: int = 200,
    seed: int = 0,
    device: "str | torch.device" = "cpu",
) -> DatamodelingScores:
    """Measure attribution scores on runs; use other runs than those that the scores were made from.

    Args:
        scores: Float of shape (test, train), larger where the training example helps; a memory map is read in blocks.
            Or a function that takes published indices of test examples and returns their rows.
        table: At least three runs, such as `table.select_runs(...)` of those that were not used for the scores.
        train: Training examples of the columns: published indices, a slice or a mask; all by default.
        test: Test examples of the rows, in the same way.
        level: Probability that the interval covers the mean, above 0 and below 1.
        resamples: Number of bootstrap resamples of the runs, at least 1.
        seed: Of the resamples, an integer from 0.
        device: Where predictions are computed.

    Raises:
        DataError: If there are fewer than three runs, the scores are not of that shape or no finite numbers, or another
            argument is not as above.
    """
    check_outputs(table)
    resamples, level = as_count(resamples, "resamples"), as_share(level, "level")
    if table.runs < 3:
        raise DataError(f"{counted(table.runs, 'run')} ({', '.join(table.keys)}), expected three runs or more to rank")
    if not callable(scores):
        scores = as_array(scores, "scores")
    columns, rows = selected(train, table.train_examples, "train"), selected(test, table.test_examples, "test")
    if isinstance(scores, np.ndarray) and scores.shape != (len(rows), len(columns)):
        raise DataError(f"scores have shape {scores.shape}, expected (test, train) {(len(rows), len(columns))}")
    random = np.random.default_rng(as_count(seed, "seed", least=0, most=2**128))
    drawn = random.multinomial(table.runs, np.full(table.runs, 1 / table.runs), resamples)
    times = np.concatenate([np.ones((1, table.runs), np.int64), drawn])  # the first is the runs themselves
    correlations = np.empty((len(rows), len(times)))
    step = max(1, min(_SCORES // max(1, len(columns)), 2048))
    for start in tracked(range(0, len(rows), step), "linear datamodeling score", "block"):
        part = slice(start, start + step)
        block = scores[part] if isinstance(scores, np.ndarray) else scores(rows[part])
        predicted = _predict(_checked(block, rows[part], len(columns)), table, columns, device)  # (rows, runs)
        if not np.isfinite(predicted).all():
            example = rows[part][~np.isfinite(predicted).all(1)][0]
            raise DataError(f"sums of scores of test example {example} are infinite, expected smaller scores")
        _correlate(predicted, table.margins("test", rows[part]).T, times, correlations[part])
    known = ~np.isnan(correlations)
    if unknown := int((~known[:, 0]).sum()):
        warn(
            f"{unknown} of {len(rows)} test examples have no linear datamodeling score: their predictions, which are "
            "sums of scores, or their margins are the same for all runs",
            0,
        )
    number = known.sum(0)  # (1 + resamples,); 0 where a resample of few runs is one run alone, which has no rank
    means = np.where(known, correlations, 0).sum(0) / np.where(number > 0, number, np.nan)
    found = means[1:][number[1:] > 0]
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2]) if len(found) else (np.nan, np.nan)
    return DatamodelingScores(correlations[:, 0].copy(), float(means[0]), (float(low), float(high)), table.runs)


def _checked(block: np.ndarray, rows: np.ndarray, columns: int) -> np.ndarray:
    block = as_array(block, "scores")
    if block.shape != (len(rows), columns) or block.dtype.kind not in "fiu":
        raise DataError(f"scores are {block.dtype} {block.shape}, expected numbers {(len(rows), columns)}")
    if not np.isfinite(block).all():
        row, column = np.argwhere(~np.isfinite(block))[0]
        raise DataError(f"score {block[row, column]} of test example {rows[row]}, expected a finite number")
    return block


def _predict(scores: np.ndarray, table: OutputTable, columns: np.ndarray, device: "str | torch.device") -> np.ndarray:
    """Sum the scores of the examples that each run trained on.

    Scores are rounded to a unit, 2**-52 of the largest possible sum, so that float64 holds all sums exactly. Otherwise
    runs with equal sums would not be tied, because a product adds the columns of different runs in different orders.
    """
    import torch

    device = float64_device(find_device(device))
    largest = np.maximum(*(np.abs(end(1, initial=0).astype(np.float64)) for end in (scores.max, scores.min)))  # (rows,)
    unit = np.ldexp(1.0, np.maximum(np.frexp(largest)[1] + len(columns).bit_length() - 52, -1074))[:, None]  # (rows, 1)
    total = torch.zeros((len(scores), table.runs), dtype=torch.float64, device=device)
    for start in range(0, len(columns), _TRAIN):
        part = slice(start, start + _TRAIN)
        masks = torch.from_numpy(table.mask(None, columns[part])).to(device).double()  # (runs, columns)
        units = scores[:, part].astype(np.float64) / unit
        total += torch.from_numpy(np.rint(units, out=units)).to(device) @ masks.T
    with np.errstate(over="ignore"):
        return total.cpu().numpy() * unit  # (rows, runs)


def _correlate(predicted: np.ndarray, margins: np.ndarray, times: np.ndarray, out: np.ndarray) -> None:
    from heldout_torch.stats.rank_kernels import rank_correlations

    def work(start: int) -> None:
        part = slice(start, start + _ROWS)
        rank_correlations(*_sorted(predicted[part]), *_sorted(margins[part]), times, out[part])

    with ThreadPoolExecutor(processors()) as pool:
        for _ in pool.map(work, range(0, len(out), _ROWS)):
            pass


def _sorted(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(values, axis=1)
    ascending = np.take_along_axis(values, order, axis=1)
    tied = np.zeros(values.shape, bool)
    tied[:, 1:] = ascending[:, 1:] == ascending[:, :-1]
    return order, tied  # (rows, runs)
