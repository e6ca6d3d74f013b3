"""Compiled kernel for rank correlations over resampled runs; importing this module compiles it or loads it."""

import numba
import numpy as np
from numba import types

from heldout_torch.storage.compiled import compiled, input_array


@numba.njit(nogil=True, forceinline=True)
def _weigh_ranks(order: np.ndarray, tied: np.ndarray, times: np.ndarray, ranks: np.ndarray) -> float:
    """Write each run's mean rank less that of all, when runs occur several times; return the sum of its squares."""
    runs = order.shape[0]
    before, start, squares = 0, 0, 0.0
    centre = (runs + 1) / 2  # as many runs are drawn as there are
    while start < runs:
        end, here = start, 0
        while True:
            here += times[order[end]]
            end += 1
            if end == runs or not tied[end]:
                break
        rank = before + (here + 1) / 2 - centre
        for place in range(start, end):
            ranks[order[place]] = rank
        squares += here * rank * rank
        before, start = before + here, end
    return squares


@compiled(
    types.void(
        input_array(types.int64, 2), input_array(types.bool_, 2), input_array(types.int64, 2),
        input_array(types.bool_, 2), input_array(types.int64, 2), types.float64[:, ::1],
    ),
    nogil=True,
)  # fmt: skip
def rank_correlations(
    one: np.ndarray, one_tied: np.ndarray, other: np.ndarray, other_tied: np.ndarray, times: np.ndarray, out: np.ndarray
) -> None:
    """Compute Spearman's rank correlation of two rows over runs, for every row and resample.

    Args:
        one: Runs in ascending order of the first row's values, (rows, runs).
        one_tied: Whether the value at a place equals that at the place before, (rows, runs).
        other: As `one`, of the second row.
        other_tied: As `one_tied`, of the second row.
        times: How often a resample holds each run, (resamples, runs); `runs` in all.
        out: Correlations (rows, resamples), out; NaN where a row is constant.
    """
    runs = times.shape[1]
    ranks, others = np.empty(runs), np.empty(runs)
    for row in range(out.shape[0]):
        for sample in range(out.shape[1]):
            time = times[sample]
            squares = _weigh_ranks(one[row], one_tied[row], time, ranks)
            squares *= _weigh_ranks(other[row], other_tied[row], time, others)
            product = 0.0
            for run in range(runs):
                product += time[run] * ranks[run] * others[run]
            out[row, sample] = product / np.sqrt(squares) if squares > 0 else np.nan
