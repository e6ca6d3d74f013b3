"""Compiled kernels for processors that cannot count bits in vector registers: sums looked up in tables.

The method of four Russians (Arlazarov, Dinic, Kronrod and Faradzev, 1970): for GROUP runs and WIDTH columns, a table
holds the sums of the columns' bits over every subset of those runs. A row's bits name a table row, so one vector
addition counts GROUP runs for 64 columns. The tables of GROUPS groups lie in the innermost cache while rows pass by;
sums of 8 bits are added to wider ones before they can overflow.

The functions are those of `counting.kernels_cpu`, and their results the same. Importing this module compiles them.
"""

from typing import Any

import numba
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from heldout_torch.stats.counting.kernels_cpu import AXES, PANEL, insert, kernel

GROUP, GROUPS = 6, 6  # runs of a group, groups whose tables lie in the innermost cache: 24 KB
SUBSETS = 1 << GROUP
WIDTH = 64  # columns of a table: a cache line
_PANELS = WIDTH // PANEL
TILE_ROWS = 4  # rows that are summed at once, in registers
ROWS = 2048  # rows whose sums stay in a core's own cache
_WIDEN = 255 // (GROUP * GROUPS)  # rounds after which sums of 8 bits may overflow
_SPAN = 4  # blocks of WIDTH columns that are written together
_SLACK = np.float32(1e-5)  # hundreds of times what float32 may be wrong by, relative and absolute

_BYTE, _WORD = ir.IntType(8), ir.IntType(64)
_LANES, _VECTORS = 32, WIDTH // 32  # bytes of a vector register, vectors of a table row
_VECTOR = ir.VectorType(_BYTE, _LANES)


def _constant(value: int) -> ir.Constant:
    return ir.Constant(_WORD, value)


def _pointers(b: Any, addresses: Any) -> list[Any]:
    return [b.inttoptr(address, ir.PointerType(_BYTE)) for address in addresses]


def _vectors_at(b: Any, pointer: Any, offset: Any) -> list[Any]:
    """The vectors of a table row that begins some bytes behind a pointer."""
    places = [b.gep(pointer, [b.add(offset, _constant(v * _LANES))]) for v in range(_VECTORS)]
    return [b.bitcast(place, ir.PointerType(_VECTOR)) for place in places]


# Written as vector instructions by hand, as loops over bytes make poor ones; rows begin at a multiple of 32 bytes.


@intrinsic  # type: ignore[untyped-decorator]
def _row_adder(context: Any, tables: Any, names: Any, sums: Any) -> Any:
    """Add to the sums of TILE_ROWS rows the table rows that they name, one in each of GROUPS tables.

    Args (addresses): tables uint8 (GROUPS, SUBSETS, WIDTH); names uint8 (TILE_ROWS, GROUPS); sums uint8 (TILE_ROWS,
    WIDTH), in and out.
    """

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        tables, names, out = _pointers(b, arguments)
        for row in range(TILE_ROWS):
            targets = _vectors_at(b, out, _constant(row * WIDTH))
            sums = [b.load(target, align=32) for target in targets]
            for group in range(GROUPS):
                name = b.zext(b.load(b.gep(names, [_constant(row * GROUPS + group)])), _WORD)
                start = b.add(b.mul(name, _constant(WIDTH)), _constant(group * SUBSETS * WIDTH))
                found = _vectors_at(b, tables, start)
                sums = [b.add(old, b.load(one, align=32)) for old, one in zip(sums, found, strict=True)]
            for target, total in zip(targets, sums, strict=True):
                b.store(total, target, align=32)
        return context.get_dummy_value()

    return types.void(types.uintp, types.uintp, types.uintp), generate


@intrinsic  # type: ignore[untyped-decorator]
def _table_doubler(context: Any, table: Any, line: Any, subsets: Any) -> Any:
    """Append to a table of so many subsets those with one run more: each row plus the run's line.

    Args: addresses of the table uint8 (2 * subsets, WIDTH), half of it out, and of the line uint8 (WIDTH,); subsets.
    """

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        (table, line), subsets = _pointers(b, arguments[:2]), arguments[2]
        added = [b.load(one, align=32) for one in _vectors_at(b, line, _constant(0))]
        size = b.mul(subsets, _constant(WIDTH))
        before, loop, after = b.basic_block, b.append_basic_block("subsets"), b.append_basic_block("done")
        b.branch(loop)
        b.position_at_end(loop)
        offset = b.phi(_WORD)
        offset.add_incoming(_constant(0), before)
        targets = _vectors_at(b, table, b.add(offset, size))
        for target, less, more in zip(targets, _vectors_at(b, table, offset), added, strict=True):
            b.store(b.add(b.load(less, align=32), more), target, align=32)
        following = b.add(offset, _constant(WIDTH))
        offset.add_incoming(following, loop)
        b.cbranch(b.icmp_unsigned("<", following, size), loop, after)
        b.position_at_end(after)
        return context.get_dummy_value()

    return types.void(types.uintp, types.uintp, types.uintp), generate


_add_rows: Any = _row_adder  # numba passes the context itself, which type checkers do not know
_double_table: Any = _table_doubler


@numba.njit(nogil=True, error_model="numpy")
def _aligned(size: int) -> np.ndarray:
    raw = np.zeros(size + 64, np.uint8)
    start = (-np.int64(raw.ctypes.data)) % 64
    return raw[start : start + size]


@numba.njit(nogil=True, error_model="numpy")
def _name_subsets(rows: np.ndarray) -> np.ndarray:
    """Cut rows of words (rows, words) into groups of runs: uint8 (rounds, rows, GROUPS), rows up to whole tiles."""
    words = rows.shape[1]
    rounds = -(-words * 64 // (GROUP * GROUPS))
    length = -(-rows.shape[0] // TILE_ROWS) * TILE_ROWS
    names = np.zeros((rounds, length, GROUPS), np.uint8)
    for r in range(rows.shape[0]):
        for number in range(rounds):
            for group in range(GROUPS):
                run = (number * GROUPS + group) * GROUP
                word, shift = run >> 6, np.uint64(run & 63)
                if word < words:
                    bits = rows[r, word] >> shift
                    if shift > 64 - GROUP and word + 1 < words:
                        bits |= rows[r, word + 1] << (np.uint64(64) - shift)
                    names[number, r, group] = np.uint8(bits & np.uint64(SUBSETS - 1))
    return names


@numba.njit(nogil=True, error_model="numpy")
def _unpack(panels: np.ndarray, first: int, bits: np.ndarray) -> None:
    """Write the bits of WIDTH columns from a panel on, uint8 0 or 1 (runs, WIDTH); behind the last panel they are 0."""
    bits[:] = 0
    for p in range(min(_PANELS, panels.shape[0] - first)):
        for word in range(panels.shape[1]):
            columns = panels[first + p, word]
            for bit in range(64):
                line = bits[word * 64 + bit, p * PANEL : (p + 1) * PANEL]
                for c in range(PANEL):
                    line[c] = np.uint8((columns[c] >> np.uint64(bit)) & np.uint64(1))


@numba.njit(nogil=True, error_model="numpy")
def _fill_tables(bits: np.ndarray, tables: np.ndarray) -> None:
    """Write the sums over all subsets of each group of runs, but the empty one's 0; bits (GROUPS * GROUP, WIDTH)."""
    line = bits.ctypes.data
    for group in range(GROUPS):
        table = tables[group].ctypes.data
        for run in range(GROUP):
            _double_table(table, line, 1 << run)
            line += WIDTH


@numba.njit(nogil=True, error_model="numpy")
def _count(
    panels: np.ndarray, first: int, names: np.ndarray, bits: np.ndarray, tables: np.ndarray, sums: np.ndarray,
    counts: np.ndarray, place: int,
) -> None:  # fmt: skip
    """Count the runs common to all rows and the WIDTH columns from a panel on, to counts[:, place:] uint16, out."""
    _unpack(panels, first, bits)
    rounds, rows = names.shape[0], names.shape[1]
    counts[:, place : place + WIDTH] = 0
    sums[:] = 0
    for number in range(rounds):
        _fill_tables(bits[number * GROUPS * GROUP : (number + 1) * GROUPS * GROUP], tables)
        at = names[number].ctypes.data
        for r in range(0, rows, TILE_ROWS):
            _add_rows(tables.ctypes.data, at + r * GROUPS, sums.ctypes.data + r * WIDTH)
        if number % _WIDEN == _WIDEN - 1 or number == rounds - 1:
            for r in range(rows):
                total, some = counts[r, place : place + WIDTH], sums[r]
                for c in range(WIDTH):
                    total[c] += some[c]
                    some[c] = 0


@numba.njit(nogil=True, error_model="numpy")
def _any_near(count: np.ndarray, least: np.ndarray, slope: np.ndarray, scale: float, shift: float) -> Any:
    """Whether an estimate of a row may reach what its column asks for: in float32, for sure never too strict.

    count * scale * column_scale - shift * column_shift >= wanted is asked as count >= least / scale + shift / scale *
    slope, where least = wanted / column_scale and slope = column_shift / column_scale.
    """
    inverse, ratio = np.float32(1 / scale), np.float32(shift / scale)
    near = np.int32(0)
    for c in range(WIDTH):
        one, other = least[c] * inverse, ratio * slope[c]  # large ones may make a small sum, with their rounding
        bound = one + other - _SLACK - _SLACK * (abs(one) + abs(other))
        near += np.int32(1) if np.float32(count[c]) >= bound else np.int32(0)
    return near > 0


@numba.njit(nogil=True, error_model="numpy")
def _buffers(names: np.ndarray, blocks: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rounds, rows = names.shape[0], names.shape[1]
    bits = _aligned(rounds * GROUPS * GROUP * WIDTH).reshape(rounds * GROUPS * GROUP, WIDTH)
    tables = _aligned(GROUPS * SUBSETS * WIDTH).reshape(GROUPS, SUBSETS, WIDTH)
    return bits, tables, _aligned(rows * WIDTH).reshape(rows, WIDTH), np.zeros((rows, blocks * WIDTH), np.uint16)


@kernel(types.void, *AXES, types.float32[:, ::1])
def fill(
    panels: np.ndarray, rows: np.ndarray, row_scale: np.ndarray, row_shift: np.ndarray,
    column_scale: np.ndarray, column_shift: np.ndarray, out: np.ndarray,
) -> None:  # fmt: skip
    """As `kernels_cpu.fill`."""
    names = _name_subsets(rows)
    bits, tables, sums, counts = _buffers(names, _SPAN)
    for first in range(0, panels.shape[0], _SPAN * _PANELS):
        for block in range(_SPAN):
            if first + block * _PANELS < panels.shape[0]:
                _count(panels, first + block * _PANELS, names, bits, tables, sums, counts, block * WIDTH)
        # Rows of the result lie far apart, so that each is written in one go for several blocks.
        start = first * PANEL
        end = min(start + _SPAN * WIDTH, out.shape[1])
        scales, shifts = column_scale[start:end], column_shift[start:end]
        for r in range(out.shape[0]):
            line, count, scale, shift = out[r, start:end], counts[r], row_scale[r], row_shift[r]
            for c in range(line.shape[0]):
                line[c] = np.float32(count[c] * (scale * scales[c]) - shift * shifts[c])


@kernel(types.int64, *AXES, types.float32, types.int64[::1], types.int64[::1], types.float32[::1])
def select(
    panels: np.ndarray, rows: np.ndarray, row_scale: np.ndarray, row_shift: np.ndarray,
    column_scale: np.ndarray, column_shift: np.ndarray, threshold: np.float32,
    found_row: np.ndarray, found_column: np.ndarray, found_value: np.ndarray,
) -> int:  # fmt: skip
    """As `kernels_cpu.select`."""
    names = _name_subsets(rows)
    bits, tables, sums, counts = _buffers(names, 1)
    least, slope = np.full(WIDTH, np.float32(np.inf)), np.zeros(WIDTH, np.float32)
    found = 0
    for first in range(0, panels.shape[0], _PANELS):
        _count(panels, first, names, bits, tables, sums, counts, 0)
        start = first * PANEL
        width = min(WIDTH, column_scale.shape[0] - start)
        least[:] = np.inf  # behind the last column
        for c in range(width):
            least[c] = np.float32(threshold / column_scale[start + c])
            slope[c] = np.float32(column_shift[start + c] / column_scale[start + c])
        for r in range(rows.shape[0]):
            count = counts[r]
            if not _any_near(count, least, slope, row_scale[r], row_shift[r]):
                continue
            for c in range(width):
                scale, shift = row_scale[r] * column_scale[start + c], row_shift[r] * column_shift[start + c]
                value = np.float32(count[c] * scale - shift)
                if value >= threshold:
                    if found < found_row.shape[0]:
                        found_row[found], found_column[found], found_value[found] = r, start + c, value
                    found += 1
    return found


@kernel(types.void, *AXES, types.int64, types.float32[:, ::1], types.int64[:, ::1])
def keep_best(
    panels: np.ndarray, rows: np.ndarray, row_scale: np.ndarray, row_shift: np.ndarray,
    column_scale: np.ndarray, column_shift: np.ndarray, first_row: int, best: np.ndarray, best_row: np.ndarray,
) -> None:  # fmt: skip
    """As `kernels_cpu.keep_best`."""
    names = _name_subsets(rows)
    bits, tables, sums, counts = _buffers(names, 1)
    least, slope = np.full(WIDTH, np.float32(np.inf)), np.zeros(WIDTH, np.float32)
    k = best.shape[1]
    for first in range(0, panels.shape[0], _PANELS):
        _count(panels, first, names, bits, tables, sums, counts, 0)
        start = first * PANEL
        width = min(WIDTH, column_scale.shape[0] - start)
        least[:] = np.inf
        for c in range(width):
            least[c] = np.float32(best[start + c, k - 1] / column_scale[start + c])
            slope[c] = np.float32(column_shift[start + c] / column_scale[start + c])
        for r in range(rows.shape[0]):
            count = counts[r]
            if not _any_near(count, least, slope, row_scale[r], row_shift[r]):
                continue
            for c in range(width):
                column = start + c
                scale, shift = row_scale[r] * column_scale[column], row_shift[r] * column_shift[column]
                value = np.float32(count[c] * scale - shift)
                if value > best[column, k - 1]:
                    insert(best[column], best_row[column], value, first_row + r)
                    least[c] = np.float32(best[column, k - 1] / column_scale[column])
