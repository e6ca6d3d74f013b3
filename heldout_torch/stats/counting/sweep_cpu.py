"""Sweeps over matrices of estimates on all cores, by compiled kernels that suit the processor.

Threads come from a pool of our own: unlike Numba's own threading this may be called from several threads and after a
fork. A thread's piece of work takes a second or so at most, so an interrupt is heeded soon.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import llvmlite.binding  # type: ignore[import-untyped]
import numba
import numpy as np

from heldout_torch.stats.counting import kernels_cpu
from heldout_torch.stats.counting.axis import Axis
from heldout_torch.stats.counting.kernels_cpu import BLOCK, PANEL, TILE_ROWS
from heldout_torch.storage.progress import tracked

_MANY_ROWS = 512  # from which on tables are worth being filled
_THREADS: int = getattr(numba.config, "NUMBA_NUM_THREADS")  # all cores that this process may use  # noqa: B009
ROOM = 2**16  # found pairs of a piece of work, before it has to be done again with more room
_EXAMPLES = 2**15

T = TypeVar("T")
S = TypeVar("S")


class Kernels(NamedTuple):
    """Compiled kernels, and what suits them.

    Attributes:
        fill: As `kernels_cpu.fill`.
        select: As `kernels_cpu.select`.
        keep_best: As `kernels_cpu.keep_best`.
        columns: Of a piece of work.
        rows: That stay in a core's cache while columns pass by.
        fill_rows: Of a piece of work when all estimates are written.
    """

    fill: Callable[..., None]
    select: Callable[..., int]
    keep_best: Callable[..., None]
    columns: int
    rows: int
    fill_rows: int


def choose_kernels(rows: int, words: int) -> Kernels:
    """Choose kernels by the processor's features: counting bits where registers can, else sums looked up in tables.

    Args:
        rows: Number of rows to count over.
        words: Words of 64 runs.
    """
    told: str | None = getattr(numba.config, "CPU_FEATURES")  # noqa: B009, set by NUMBA_CPU_FEATURES, to compile for another processor
    features = llvmlite.binding.get_host_cpu_features().flatten() if told is None else told
    has = {feature for feature in features.split(",") if feature.startswith("+")}
    if "+avx512vpopcntdq" in has or "+avx2" not in has or rows < _MANY_ROWS or words * 64 >= 2**16:
        return Kernels(kernels_cpu.fill, kernels_cpu.select, kernels_cpu.keep_best, BLOCK * PANEL, 1024, 256)
    from heldout_torch.stats.counting import kernels_tables as tables

    return Kernels(tables.fill, tables.select, tables.keep_best, 64 * tables.WIDTH, tables.ROWS, tables.ROWS)


def fill(rows: Axis, columns: Axis, out: np.ndarray, device: Any = "cpu") -> None:
    """As `kernels.fill`."""
    panels, scale, shift = _panels(columns)
    kernels = choose_kernels(len(rows), rows.words.shape[1])
    step = _step(len(rows), kernels.fill_rows, TILE_ROWS)

    def work(start: int) -> None:
        part = _padded(rows.part(slice(start, start + step)), TILE_ROWS)
        kernels.fill(panels, *part, scale, shift, np.asarray(out[start : start + step]))

    for _ in _in_threads(work, range(0, len(rows), step), "influence"):
        pass


def select(
    problems: Iterable[tuple[Axis, Axis]], threshold: np.float32, device: Any = "cpu"
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """As `kernels.select`, piece by piece."""

    def pieces() -> Iterator[tuple[Kernels, Axis, Axis]]:
        for rows, columns in problems:
            kernels = choose_kernels(len(rows), rows.words.shape[1])
            for start in range(0, len(columns), kernels.columns):
                yield kernels, rows, columns.part(slice(start, start + kernels.columns))

    def work(piece: tuple[Kernels, Axis, Axis]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        kernels, rows, columns = piece
        panels, scale, shift = _panels(columns)
        empty = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
        found = [empty]
        for start in range(0, len(rows), kernels.rows):
            part = rows.part(slice(start, start + kernels.rows))
            row, column, value = _selected(kernels, panels, _padded(part, TILE_ROWS), scale, shift, threshold)
            found.append((part.index[row], columns.index[column], value))
        row, column, value = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return row, column, value

    yield from _in_threads(work, list(pieces()), "pairs")


def keep_best(rows: Axis, columns: Axis, k: int, device: Any = "cpu") -> tuple[np.ndarray, np.ndarray]:
    """As `kernels.keep_best`; gives positions among the rows, -1 where there is none."""
    best = np.full((len(columns), k), -np.inf, np.float32)
    best_row = np.full((len(columns), k), -1, np.int64)
    kernels = choose_kernels(len(rows), rows.words.shape[1])
    step = _step(len(columns), kernels.columns, PANEL)

    def work(start: int) -> None:
        part = columns.part(slice(start, start + step))
        panels, scale, shift = _panels(part)
        values = np.full((len(panels) * PANEL, k), -np.inf, np.float32)
        positions = np.full((len(panels) * PANEL, k), -1, np.int64)
        for row in range(0, len(rows), kernels.rows):
            padded = _padded(rows.part(slice(row, row + kernels.rows)), TILE_ROWS)
            kernels.keep_best(panels, *padded, scale, shift, row, values, positions)
        best[start : start + step], best_row[start : start + step] = values[: len(part)], positions[: len(part)]

    for _ in _in_threads(work, range(0, len(columns), step), "top influences"):
        pass
    return best_row, best


def count_examples(trained_on: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """As `kernels.count_examples`."""
    counts = np.empty((len(trained_on), 3), np.int32)

    def work(start: int) -> None:
        part = slice(start, start + _EXAMPLES)
        kernels_cpu.count_examples(np.asarray(trained_on[part]), np.asarray(correct[part]), counts[part])

    for _ in _in_threads(work, range(0, len(trained_on), _EXAMPLES), "counts"):
        pass
    return counts


def count_pairs(one: np.ndarray, one_index: np.ndarray, other: np.ndarray, other_index: np.ndarray) -> np.ndarray:
    """As `kernels.count_pairs`."""
    counts = np.empty(len(one_index), np.int32)

    def work(start: int) -> None:
        part = slice(start, start + _EXAMPLES)
        kernels_cpu.count_pairs(np.asarray(one[one_index[part]]), np.asarray(other[other_index[part]]), counts[part])

    for _ in _in_threads(work, range(0, len(counts), _EXAMPLES), "counts"):
        pass
    return counts


def _selected(
    kernels: Kernels, panels: np.ndarray, rows: Any, scale: np.ndarray, shift: np.ndarray, threshold: np.float32
) -> Any:
    room = ROOM
    while True:
        row, column, value = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.float32)
        found = kernels.select(panels, *rows, scale, shift, threshold, row, column, value)
        if found <= room:
            return row[:found].copy(), column[:found].copy(), value[:found].copy()
        room = found


def _padded(axis: Axis, multiple: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gather words, scale and shift, filled up with NaN scales to a multiple of examples."""
    length = -(-len(axis) // multiple) * multiple
    words = np.zeros((length, axis.words.shape[1]), np.uint64)
    words[: len(axis)] = axis.words[axis.index]
    coefficients = np.full((2, length), np.nan)
    coefficients[:, : len(axis)] = axis.scale, axis.shift
    return words, coefficients[0], coefficients[1]


def _panels(columns: Axis) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gather words as panels of shape (panels, words, PANEL), scale and shift."""
    words, scale, shift = _padded(columns, PANEL)
    return np.ascontiguousarray(words.reshape(-1, PANEL, words.shape[1]).transpose(0, 2, 1)), scale, shift


def _step(length: int, most: int, multiple: int) -> int:
    """Return the size of a piece of work: at most `most`, a multiple, and small enough that every core gets some."""
    share = -(-length // (4 * _THREADS))
    return min(most, max(1, -(-share // multiple)) * multiple)


def _in_threads(work: Callable[[T], S], pieces: Sequence[T], what: str) -> Iterator[S]:
    """Do pieces of work on all cores; give the results in order."""
    with ThreadPoolExecutor(_THREADS) as pool:
        waiting: deque[Future[S]] = deque()
        try:
            for piece in tracked(pieces, what, "block", len(pieces)):
                waiting.append(pool.submit(work, piece))
                if len(waiting) > 2 * _THREADS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
