"""Sweeps over matrices of estimates in PyTorch: int8 products on tensor cores, exact, selected where they are.

Blocks are unpacked, multiplied and judged on the device; only what is kept leaves it. The same code runs on the CPU,
which is how it is tested where there is no CUDA device.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import torch

from heldout_torch.stats.counting.axis import Axis
from heldout_torch.stats.counting.bits import WORD_BITS
from heldout_torch.storage.progress import tracked

ROWS = 4096  # of a block: 32 bytes a pair make 2 GB
COLUMNS = 16384
_MULTIPLE = 32  # the product wants more than 16 rows, and multiples of 8
_NOTHING = torch.iinfo(torch.int64).min

# A block on the device: int8 bits (examples, runs), scale and shift float64 (examples,).
_Block = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def fill(rows: Axis, columns: Axis, out: np.ndarray, device: str | torch.device) -> None:
    """As `kernels.fill`."""
    for c in tracked(range(0, len(columns), COLUMNS), "influence", "block"):
        column_part = columns.part(slice(c, c + COLUMNS))
        column_block = _block(column_part, device)
        for r in range(0, len(rows), ROWS):
            part = rows.part(slice(r, r + ROWS))
            estimates = _estimates(_block(part, device), column_block)[: len(part), : len(column_part)]
            out[r : r + ROWS, c : c + COLUMNS] = estimates.cpu().numpy()


def select(
    problems: Iterable[tuple[Axis, Axis]], threshold: np.float32, device: str | torch.device
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """As `kernels.select`, block by block."""
    for rows, columns in tracked(problems, "pairs", "block"):
        for c in range(0, len(columns), COLUMNS):
            column_part = columns.part(slice(c, c + COLUMNS))
            column_block = _block(column_part, device)
            for r in range(0, len(rows), ROWS):
                part = rows.part(slice(r, r + ROWS))
                estimates = _estimates(_block(part, device), column_block)
                row, column = torch.nonzero(estimates >= float(threshold), as_tuple=True)
                value = estimates[row, column].cpu().numpy()
                yield part.index[row.cpu().numpy()], column_part.index[column.cpu().numpy()], value


def keep_best(rows: Axis, columns: Axis, k: int, device: str | torch.device) -> tuple[np.ndarray, np.ndarray]:
    """As `kernels.keep_best`; gives positions among the rows, -1 where there is none."""
    position = np.full((len(columns), k), -1, np.int64)
    value = np.full((len(columns), k), -np.inf, np.float32)
    for c in tracked(range(0, len(columns), ROWS), "top influences", "block"):
        column_part = columns.part(slice(c, c + ROWS))
        column_block = _block(column_part, device)
        best = torch.full((len(column_block[0]), k), _NOTHING, device=device)  # (columns, k)
        for r in range(0, len(rows), COLUMNS):
            block = _block(rows.part(slice(r, r + COLUMNS)), device)
            keys = _sortable(_estimates(column_block, block), r)  # (columns, rows)
            best = torch.topk(torch.cat([best, keys], dim=1), k, dim=1).values
        kept = best[: len(column_part)].cpu().numpy()
        found = kept != _NOTHING
        position[c : c + ROWS][found] = 0xFFFFFFFF - (kept[found] & 0xFFFFFFFF)
        value[c : c + ROWS][found] = _order((kept[found] >> 32).astype(np.int32)).view(np.float32)
    return position, value


def _block(axis: Axis, device: str | torch.device) -> _Block:
    length = -(-len(axis) // _MULTIPLE) * _MULTIPLE
    words = np.zeros((length, axis.words.shape[1]), np.int64)
    words[: len(axis)] = axis.words[axis.index].view(np.int64)
    coefficients = np.full((2, length), np.nan)
    coefficients[:, : len(axis)] = axis.scale, axis.shift
    shifts = torch.arange(WORD_BITS, device=device)
    # (examples, words, 64): the sign that >> draws in is masked away
    bits = ((torch.from_numpy(words).to(device)[:, :, None] >> shifts) & 1).to(torch.int8)
    scale, shift = torch.from_numpy(coefficients).to(device)
    return bits.flatten(1), scale, shift


def _estimates(rows: _Block, columns: _Block) -> torch.Tensor:
    (row_bits, row_scale, row_shift), (column_bits, column_scale, column_shift) = rows, columns
    common = torch._int_mm(row_bits, column_bits.T).double()  # (rows, columns), exact
    # One operation at a time, as a fused multiply-add would round otherwise than the CPU's kernels do.
    common *= row_scale[:, None] * column_scale[None, :]
    common -= row_shift[:, None] * column_shift[None, :]
    return common.float()


def _sortable(estimates: torch.Tensor, first_row: int) -> torch.Tensor:
    """Make int64 keys of estimates (columns, rows) that sort by value, then by earlier row; NaN below all."""
    bits = estimates.view(torch.int32)  # there is no -0.0: a difference of equal numbers is 0.0
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()
    row = torch.arange(first_row, first_row + estimates.shape[1], device=estimates.device)
    return torch.where(estimates.isnan(), _NOTHING, (ordered << 32) | (0xFFFFFFFF - row))


def _order(bits: np.ndarray) -> np.ndarray:
    return np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits).astype(np.int32)
