"""Compiled kernels for the CPU: AND + popcount over packed words, in registers.

Importing this module compiles them (a few seconds) or loads them from Numba's cache. They let go of the interpreter
and use no threads of their own; `stats.counting.sweep_cpu` runs them on all cores.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from heldout_torch.storage.compiled import compiled, input_array

_LANES = 8  # words in the widest vector register
_VECTORS = 2
PANEL = _LANES * _VECTORS  # columns of a tile
TILE_ROWS = 4
_WORD = ir.IntType(64)
_VECTOR = ir.VectorType(_WORD, _LANES)

BLOCK = 64  # panels that stay in a core's cache while rows pass by

T = TypeVar("T")


def _constant(value: int) -> ir.Constant:
    return ir.Constant(_WORD, value)


@intrinsic  # type: ignore[untyped-decorator]
def _tile_counter(context: Any, rows: Any, panel: Any, words: Any, counts: Any) -> Any:
    """Count the runs common to TILE_ROWS rows and the PANEL columns of a panel.

    Written as vector instructions by hand, as no loop vectoriser finds this: all counts stay in registers, and a word
    of a row meets a register of columns, so that nothing has to be summed across a register.

    Args (addresses): rows uint64 (TILE_ROWS, words); panel uint64 (words, PANEL); counts int64 (TILE_ROWS, PANEL), out.
    """
    insert: Any = cgutils.get_or_insert_function

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        rows, panel, words, counts = arguments
        popcount = insert(b.module, ir.FunctionType(_VECTOR, [_VECTOR]), "llvm.ctpop.v8i64")
        row_words, panel_words, out = (b.inttoptr(address, ir.PointerType(_WORD)) for address in (rows, panel, counts))

        def vector_at(pointer: Any, offset: Any) -> Any:
            return b.bitcast(b.gep(pointer, [offset]), ir.PointerType(_VECTOR))

        def spread(word: Any) -> Any:
            nothing = ir.Constant(_VECTOR, ir.Undefined)
            one = b.insert_element(nothing, word, ir.Constant(ir.IntType(32), 0))
            return b.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(ir.IntType(32), _LANES), [0] * _LANES))

        before, loop, after = b.basic_block, b.append_basic_block("words"), b.append_basic_block("store")
        b.branch(loop)
        b.position_at_end(loop)
        word = b.phi(_WORD)
        word.add_incoming(_constant(0), before)
        sums = [b.phi(_VECTOR) for _ in range(TILE_ROWS * _VECTORS)]
        columns = [
            b.load(vector_at(panel_words, b.add(b.mul(word, _constant(PANEL)), _constant(_LANES * v))), align=8)
            for v in range(_VECTORS)
        ]
        new_sums = []
        for r in range(TILE_ROWS):
            row = spread(b.load(b.gep(row_words, [b.add(b.mul(words, _constant(r)), word)])))
            for v in range(_VECTORS):
                common = b.call(popcount, [b.and_(row, columns[v])])
                new_sums.append(b.add(sums[r * _VECTORS + v], common))
        next_word = b.add(word, _constant(1))
        word.add_incoming(next_word, loop)
        for old, new in zip(sums, new_sums, strict=True):
            old.add_incoming(ir.Constant(_VECTOR, None), before)
            old.add_incoming(new, loop)
        b.cbranch(b.icmp_signed("<", next_word, words), loop, after)
        b.position_at_end(after)
        for i, new in enumerate(new_sums):
            b.store(new, vector_at(out, _constant(_LANES * i)), align=8)
        return context.get_dummy_value()

    return types.void(types.uintp, types.uintp, types.intp, types.uintp), generate


@intrinsic  # type: ignore[untyped-decorator]
def _word_counter(context: Any, word: Any) -> Any:
    """Count the 1 bits of a word."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        return b.ctpop(arguments[0])

    return types.int64(types.uint64), generate


_count_tile: Any = _tile_counter  # numba passes the context itself, which type checkers do not know
_popcount: Any = _word_counter


_COEFFICIENTS = (input_array(types.float64, 1),) * 4
AXES = (input_array(types.uint64, 3), input_array(types.uint64, 2), *_COEFFICIENTS)


def kernel(result: Any, *arguments: Any) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Compile a function for arguments of these types when its module is imported, or load it from Numba's cache."""
    return compiled(result(*arguments), nogil=True, error_model="numpy")


@kernel(types.void, input_array(types.uint64, 2), input_array(types.uint64, 2), types.int32[:, ::1])
def count_examples(trained_on: np.ndarray, correct: np.ndarray, counts: np.ndarray) -> None:
    """Count for each example the runs that trained on it, that are correct, and both; counts (examples, 3), out."""
    for i in range(trained_on.shape[0]):
        trained = right = both = 0
        for w in range(trained_on.shape[1]):
            trained += _popcount(trained_on[i, w])
            right += _popcount(correct[i, w])
            both += _popcount(trained_on[i, w] & correct[i, w])
        counts[i, 0], counts[i, 1], counts[i, 2] = trained, right, both


@kernel(types.void, input_array(types.uint64, 2), input_array(types.uint64, 2), types.int32[::1])
def count_pairs(one: np.ndarray, other: np.ndarray, counts: np.ndarray) -> None:
    """Count the runs common to row i of two arrays, for each i; counts (rows,), out."""
    for i in range(one.shape[0]):
        both = 0
        for w in range(one.shape[1]):
            both += _popcount(one[i, w] & other[i, w])
        counts[i] = both


# Below, a panel holds PANEL columns word by word, and the estimate of row r and column c is
#   float32(common runs * (row_scale[r] * column_scale[c]) - row_shift[r] * column_shift[c]),
# computed in float64 and rounded once. Rows and columns are filled up to whole tiles with NaN, which nothing selects.


@numba.njit(nogil=True, error_model="numpy", forceinline=True)
def _estimate_tile(
    panels: np.ndarray, rows: np.ndarray, row_scale: np.ndarray, row_shift: np.ndarray,
    column_scale: np.ndarray, column_shift: np.ndarray, p: int, r: int, counts: np.ndarray, values: np.ndarray,
) -> None:  # fmt: skip
    _count_tile(rows[r:].ctypes.data, panels[p].ctypes.data, rows.shape[1], counts.ctypes.data)
    # Slices, as LLVM would not see that an index such as `first + c` cannot be negative, and not vectorise.
    scales, shifts = column_scale[p * PANEL : (p + 1) * PANEL], column_shift[p * PANEL : (p + 1) * PANEL]
    for i in range(TILE_ROWS):
        scale, shift = row_scale[r + i], row_shift[r + i]
        for c in range(PANEL):
            values[i, c] = np.float32(counts[i, c] * (scale * scales[c]) - shift * shifts[c])


@kernel(types.void, *AXES, types.float32[:, ::1])
def fill(
    panels: np.ndarray, rows: np.ndarray, row_scale: np.ndarray, row_shift: np.ndarray,
    column_scale: np.ndarray, column_shift: np.ndarray, out: np.ndarray,
) -> None:  # fmt: skip
    """Write the estimates of all rows and columns to `out` (rows, columns), which is not filled up."""
    counts, values = np.empty((TILE_ROWS, PANEL), np.int64), np.empty((TILE_ROWS, PANEL), np.float32)
    for block in range(0, panels.shape[0], BLOCK):
        for r in range(0, out.shape[0], TILE_ROWS):
            height = min(TILE_ROWS, out.shape[0] - r)
            for p in range(block, min(block + BLOCK, panels.shape[0])):
                _estimate_tile(panels, rows, row_scale, row_shift, column_scale, column_shift, p, r, counts, values)
                width = min(PANEL, out.shape[1] - p * PANEL)
                for i in range(height):
                    line = out[r + i, p * PANEL : p * PANEL + width]
                    for c in range(width):
                        line[c] = values[i, c]


@kernel(types.int64, *AXES, types.float32, types.int64[::1], types.int64[::1], types.float32[::1])
def select(
    panels: np.ndarray, rows: np.ndarray, row_scale: np.ndarray, row_shift: np.ndarray,
    column_scale: np.ndarray, column_shift: np.ndarray, threshold: np.float32,
    found_row: np.ndarray, found_column: np.ndarray, found_value: np.ndarray,
) -> int:  # fmt: skip
    """Find the estimates of at least `threshold`; give their number, which may be more than there is room for."""
    counts, values = np.empty((TILE_ROWS, PANEL), np.int64), np.empty((TILE_ROWS, PANEL), np.float32)
    found = 0
    for p in range(panels.shape[0]):
        for r in range(0, rows.shape[0], TILE_ROWS):
            _estimate_tile(panels, rows, row_scale, row_shift, column_scale, column_shift, p, r, counts, values)
            hits = np.int32(0)
            for i in range(TILE_ROWS):
                for c in range(PANEL):
                    hits += np.int32(1) if values[i, c] >= threshold else np.int32(0)
            if hits == 0:
                continue
            for i in range(TILE_ROWS):
                for c in range(PANEL):
                    if values[i, c] >= threshold:
                        if found < found_row.shape[0]:
                            found_row[found], found_column[found] = r + i, p * PANEL + c
                            found_value[found] = values[i, c]
                        found += 1
    return found


@numba.njit(nogil=True, error_model="numpy")
def insert(best: np.ndarray, best_row: np.ndarray, value: np.float32, row: int) -> None:
    """Put an estimate above the last among the best of a column, behind its equals, which came first."""
    place = best.shape[0] - 1
    while place > 0 and best[place - 1] < value:
        best[place], best_row[place] = best[place - 1], best_row[place - 1]
        place -= 1
    best[place], best_row[place] = value, row


@kernel(types.void, *AXES, types.int64, types.float32[:, ::1], types.int64[:, ::1])
def keep_best(
    panels: np.ndarray, rows: np.ndarray, row_scale: np.ndarray, row_shift: np.ndarray,
    column_scale: np.ndarray, column_shift: np.ndarray, first_row: int, best: np.ndarray, best_row: np.ndarray,
) -> None:  # fmt: skip
    """Keep for each column the rows of the largest estimates, in place.

    `best` (columns, k) holds the largest estimates so far in descending order, -inf where there is none yet, and
    `best_row` their rows. Rows must come in ascending order over several calls: of equal estimates the first stays.
    """
    counts, values = np.empty((TILE_ROWS, PANEL), np.int64), np.empty((TILE_ROWS, PANEL), np.float32)
    k = best.shape[1]
    for p in range(panels.shape[0]):
        least = best[p * PANEL : (p + 1) * PANEL, k - 1].copy()
        for r in range(0, rows.shape[0], TILE_ROWS):
            _estimate_tile(panels, rows, row_scale, row_shift, column_scale, column_shift, p, r, counts, values)
            hits = np.int32(0)
            for i in range(TILE_ROWS):
                for c in range(PANEL):
                    hits += np.int32(1) if values[i, c] > least[c] else np.int32(0)
            if hits == 0:
                continue
            for i in range(TILE_ROWS):
                for c in range(PANEL):
                    if values[i, c] > least[c]:
                        column = p * PANEL + c
                        insert(best[column], best_row[column], values[i, c], first_row + r + i)
                        least[c] = best[column, k - 1]
