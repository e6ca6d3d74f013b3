"""The data of a report as scripts: a page opened from disk may load scripts, but no other files.

Each script calls `heldout.add(name, value)`. Floats are written so that reading them as float32 gives the statistics
back exactly; NaN becomes null.
"""

import base64
import json
from typing import Any

import numpy as np

from heldout_torch.report.statistics import LEVELS, ReportStatistics, extremes, near_level
from heldout_torch.stats import InfluencePairs
from heldout_torch.stats.counting.bits import unpack

BLOCK = 1000  # examples in a script
_GALLERY = 24  # images of a level, class by class
_EXTREMES = 16
_RUN_LIST_BYTES = 6_000_000  # for which runs held out which examples


def script(name: str, value: Any) -> bytes:
    """Return the contents of a script that adds a value."""
    return f"heldout.add({json.dumps(name)}, {json.dumps(value, separators=(',', ':'), allow_nan=False)});\n".encode()


def choose_examples(statistics: ReportStatistics, examples: np.ndarray) -> dict[str, list[int]]:
    """Choose the images of the galleries among some training examples, such as those of a class.

    Args:
        statistics: Of the report.
        examples: Published indices, int64 of shape (k,).

    Returns:
        Published indices under `level-0`, `level-1` and `level-2` (the levels of memorization), `regular` and
        `irregular` (the highest and the lowest C-scores).
    """
    values = statistics.memorization[examples]
    chosen = {
        f"level-{place}": examples[near_level(values, level, _GALLERY)].tolist() for place, level in enumerate(LEVELS)
    }
    highest, lowest = extremes(statistics.consistency.scores[examples], _EXTREMES)
    return chosen | {"regular": examples[highest].tolist(), "irregular": examples[lowest].tolist()}


def picture_order(
    groups: list[dict[str, list[int]]], pairs: InfluencePairs, n: int, m: int, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Order the images so that those shown together lie in the same sprite.

    Args:
        groups: What `choose_examples` gave, in order of their showing.
        pairs: The pairs that are shown.
        n: Number of training examples.
        m: Number of test examples.
        most: If there are more examples than that, only those which the page shows have an image.

    Returns:
        Published indices of training and of test images, int64, in their order.
    """
    shown = [example for group in groups for examples in group.values() for example in examples]
    train, test = [np.array(shown, np.int64), pairs.train_index], [pairs.test_index]
    if n + m <= most:
        train.append(np.arange(n))
        test.append(np.arange(m))
    return _once(np.concatenate(train)), _once(np.concatenate(test))


def _example_columns(
    statistics: ReportStatistics, labels: np.ndarray, picture: np.ndarray, examples: np.ndarray
) -> dict[str, list[Any]]:
    """Return what is known of some training examples, a column for each value.

    Args:
        statistics: Of the report.
        labels: Integers of shape (n,); -1 where they are not known.
        picture: Place of each training example among the images, int64 of shape (n,); -1 for a missing image.
        examples: Published indices, int64 of shape (k,).
    """
    counts = statistics.counts
    low, high = statistics.memorization_interval
    score_low, score_high = statistics.consistency_interval
    return {
        "label": labels[examples].tolist(),
        "picture": picture[examples].tolist(),
        "memorization": numbers(statistics.memorization[examples]),
        "low": numbers(low[examples]),
        "high": numbers(high[examples]),
        "trained": counts.trained_on[examples].tolist(),
        "trained_right": counts.correct_trained_on[examples].tolist(),
        "held": counts.held_out[examples].tolist(),
        "held_right": counts.correct_held_out[examples].tolist(),
        "score": numbers(statistics.consistency.scores[examples]),
        "score_low": numbers(score_low[examples]),
        "score_high": numbers(score_high[examples]),
    }


def block_script(
    statistics: ReportStatistics, labels: np.ndarray, picture: np.ndarray, block: int, run_lists: np.ndarray
) -> bytes:
    """Return the script of one block of training examples.

    Args:
        statistics: Of the report.
        labels: As in `_example_columns`.
        picture: As in `_example_columns`.
        block: Number of the block.
        run_lists: bool of shape (n,), for which examples the runs are listed.
    """
    examples = np.arange(block * BLOCK, min((block + 1) * BLOCK, len(labels)))
    columns = _example_columns(statistics, labels, picture, examples)
    columns["by_ratio"] = [numbers(row) for row in statistics.consistency.per_ratio[:, examples].T]
    table = statistics.table
    listed = examples[run_lists[examples]]
    columns["runs"] = [None] * len(examples)
    # (listed, bytes): first the bits of who trained on it, then of who is right.
    packed = [
        np.packbits(unpack(words[listed], table.runs), axis=1, bitorder="little")
        for words in (table.packed_trained_on, table.packed_correct_train)
    ]
    for example, trained, right in zip(listed, *packed, strict=True):
        columns["runs"][example - examples[0]] = base64.b64encode(trained.tobytes() + right.tobytes()).decode()
    return script(f"examples-{block}", columns)


def with_run_lists(statistics: ReportStatistics) -> np.ndarray:
    """Choose the examples whose runs are listed: all if that is little, else the most memorized; bool of shape (n,)."""
    bytes_each = 8 * -(-statistics.table.runs // 24) + 3  # base64 of two bits a run
    order = np.argsort(-statistics.memorization, kind="stable")
    chosen = np.zeros(len(order), bool)
    chosen[order[: _RUN_LIST_BYTES // bytes_each]] = True
    return chosen


def group_script(
    name: str, chosen: dict[str, list[int]], statistics: ReportStatistics, labels: np.ndarray, picture: np.ndarray
) -> bytes:
    """Return the script of the galleries of one class, or of all; arguments as in `choose_examples` and below."""
    examples = np.unique(np.array([example for part in chosen.values() for example in part], np.int64))
    columns = _example_columns(statistics, labels, picture, examples)
    return script(name, {**chosen, "examples": {"index": examples.tolist(), **columns}})


def pair_script(
    pairs: InfluencePairs,
    statistics: ReportStatistics,
    labels: tuple[np.ndarray, np.ndarray],
    pictures: tuple[np.ndarray, np.ndarray],
) -> bytes:
    """Return the script of the high-influence pairs, the most influential first.

    Args:
        pairs: Those to show.
        statistics: Of the report.
        labels: Of the training and of the test set, (n,) and (m,).
        pictures: Places among the images, int64 of shape (n,) and (m,); -1 for a missing image.
    """
    train, test = np.unique(pairs.train_index), np.unique(pairs.test_index)
    table = statistics.table
    accuracy = np.count_nonzero(unpack(table.packed_correct_test[test], table.runs), axis=1) / table.runs
    sure = {name: getattr(pairs, name) for name in ("low", "high", "false_discovery_rate")}
    columns = {
        "train": pairs.train_index.tolist(),
        "test": pairs.test_index.tolist(),
        "influence": numbers(pairs.influence),
        **{name: numbers(row) for name, row in sure.items() if row is not None},
        "examples": {"index": train.tolist(), **_example_columns(statistics, labels[0], pictures[0], train)},
        "tests": {
            "index": test.tolist(),
            "label": labels[1][test].tolist(),
            "picture": pictures[1][test].tolist(),
            "accuracy": numbers(accuracy),
        },
    }
    return script("pairs", columns)


def numbers(values: np.ndarray) -> list[float | None]:
    """Turn float32 values into the shortest floats that stand for them, NaN into None."""
    return [None if value != value else float(str(value)) for value in values.astype(np.float32)]


def _once(index: np.ndarray) -> np.ndarray:
    _, first = np.unique(index, return_index=True)
    return index[np.sort(first)]
