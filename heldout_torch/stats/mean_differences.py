"""Estimates on outputs: the mean margin of the runs that trained on an example, minus that of the others.

With c[r, j] the margin of run r on test example j less its mean over all runs, and S[j, i] the sum of c over the runs
that trained on i, the influence is S / in - (sum of c - S) / out = S (1 / in + 1 / out) - (sum of c) / out: one product
of margins and masks, done block by block in the same memory. Standard errors take runs for independent draws, as in
`stats.uncertainty`.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np

from heldout_torch.devices import find_device, float64_device
from heldout_torch.lazy import lazy_module
from heldout_torch.stats.outputs import OutputTable
from heldout_torch.stats.selection import Selection, selected, selected_pairs
from heldout_torch.stats.tables import check_several
from heldout_torch.storage.progress import tracked

if TYPE_CHECKING:
    import torch
else:
    torch = lazy_module("torch")

Precision = Literal["float32", "float64"]

_TRAIN, _TEST = 4096, 1024  # examples of a block: 2,000 runs take 33 MB of masks, the estimates 17 MB
_PAIRS, _PARTS = 2**14, 32  # single pairs at once; parts of a result that are joined at once

# Positions of a block's test and training examples in the selections, estimates (test, train), errors or None. The next
# block overwrites the estimates: new memory for each, between results that are kept, would never be given back.
_Block = tuple[slice, slice, "torch.Tensor", "torch.Tensor | None"]


def memorization(table: OutputTable) -> np.ndarray:
    """As `estimators.memorization`, in units of the margin."""
    return _memorization(table)[0]


def memorization_error(table: OutputTable) -> np.ndarray:
    """As `uncertainty.memorization_error`."""
    return _memorization(table)[1]


def fill(table: OutputTable, train: np.ndarray, test: np.ndarray, out: np.ndarray, device: "str | torch.device",
         dtype: Precision) -> None:  # fmt: skip
    """Write the influences of training on test examples to `out`, float32 of shape (test, train)."""
    for rows, columns, estimates, _ in _blocks(table, train, test, device, dtype, errors=False):
        out[rows, columns] = estimates.float().cpu().numpy()


def influence_error(table: OutputTable, train: Selection, test: Selection) -> np.ndarray:
    """As `uncertainty.influence_error`."""
    columns, rows = selected(train, table.train_examples, "train"), selected(test, table.test_examples, "test")
    out = np.empty((len(rows), len(columns)), np.float32)
    for row, column, _, errors in _blocks(table, columns, rows, "cpu", "float64", errors=True):
        assert errors is not None
        out[row, column] = errors.numpy()
    return out  # (test, train)


def pair_error(table: OutputTable, train_index: np.ndarray, test_index: np.ndarray) -> np.ndarray:
    """As `uncertainty.pair_error`."""
    train_index, test_index = selected_pairs(train_index, test_index, table)
    errors = np.empty(len(train_index), np.float32)
    order = np.lexsort((train_index, test_index))  # a block of neighbouring test examples is read but once
    for start in range(0, len(order), _PAIRS):
        chosen = order[start : start + _PAIRS]
        (train, i), (test, j) = (np.unique(index[chosen], return_inverse=True) for index in (train_index, test_index))
        margins = table.margins("test", test).astype(np.float64)
        masks = table.mask(None, train)
        for part in np.array_split(np.arange(len(chosen)), -(-len(chosen) // 512)):
            errors[chosen[part]] = _two_means(margins[:, j[part]], masks[:, i[part]])[1]
    return errors  # (pairs,)


def select(
    table: OutputTable,
    problems: Iterable[tuple[np.ndarray, np.ndarray]],
    threshold: float,
    device: "str | torch.device",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `counting.kernels.select`, over pairs of (test, training) examples to compare."""
    found = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))]
    for test, train in problems:
        for rows, columns, estimates, _ in _blocks(table, train, test, device, "float32", errors=False):
            row, column = (estimates >= float(np.float32(threshold))).nonzero(as_tuple=True)
            value = estimates[row, column].cpu().numpy()
            found.append((test[rows][row.cpu().numpy()], train[columns][column.cpu().numpy()], value))
            if len(found) > _PARTS:  # each keeps memory that was freed around it from being given back
                found = [_joined(found)]
    return _joined(found)


def _joined(found: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    test_index, train_index, value = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return test_index, train_index, value


def keep_best(
    table: OutputTable, k: int, per: Literal["test", "train"], device: "str | torch.device"
) -> tuple[np.ndarray, np.ndarray]:
    """As `counting.kernels.keep_best`, of each test or each training example."""
    import torch

    train, test = np.arange(table.train_examples), np.arange(table.test_examples)
    length = len(test if per == "test" else train)
    device = float64_device(find_device(device))
    best = torch.full((length, k), -torch.inf, dtype=torch.float32, device=device)
    index = torch.full((length, k), -1, device=device)
    for rows, columns, block, _ in _blocks(table, train, test, device, "float32", errors=False):
        mine, others, estimates = (rows, columns, block) if per == "test" else (columns, rows, block.T)
        values = torch.cat([best[mine], estimates.nan_to_num(nan=-torch.inf)], dim=1)
        names = torch.arange(others.start, others.start + estimates.shape[1], device=device).expand(estimates.shape)
        names = torch.cat([index[mine], names], dim=1)  # ascending among equal values, as blocks come in order
        least = values.topk(k, dim=1).values[:, -1:]
        above, equal = values > least, values == least
        kept = above | (equal & (equal.cumsum(1) <= k - above.sum(1, keepdim=True)))  # k of each row
        values, names = values[kept].view(-1, k), names[kept].view(-1, k)
        best[mine], order = values.sort(dim=1, descending=True, stable=True)
        index[mine] = names.gather(1, order)
    missing = best.isinf()
    return index.masked_fill(missing, -1).cpu().numpy(), best.masked_fill(missing, torch.nan).cpu().numpy()


def _memorization(table: OutputTable) -> tuple[np.ndarray, np.ndarray]:
    check_several(table)
    estimates, errors = (np.empty(table.train_examples, np.float32) for _ in range(2))
    for start in tracked(range(0, table.train_examples, _TRAIN), "memorization", "block"):
        part = slice(start, start + _TRAIN)
        margins = table.margins("train", part).astype(np.float64)
        estimates[part], errors[part] = _two_means(margins, table.mask(None, part))
    return estimates, errors


def _two_means(margins: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Estimate differences of means between runs in and out of a mask, and their standard errors.

    Args:
        margins: float64 of shape (runs, k).
        masks: bool of the same shape.
    """
    means, variances = [], []
    for chosen in (masks, ~masks):
        runs = _none_is_nan(chosen.sum(0))  # (k,)
        mean = np.where(chosen, margins, 0).sum(0) / runs
        squares = (np.where(chosen, margins - mean, 0) ** 2).sum(0)
        means.append(mean)
        variances.append(squares / _none_is_nan(runs - 1) / runs)
    return means[0] - means[1], np.sqrt(variances[0] + variances[1])


def _blocks(
    table: OutputTable,
    train: np.ndarray,
    test: np.ndarray,
    device: "str | torch.device",
    dtype: Precision,
    errors: bool,
) -> Iterator[_Block]:
    import torch

    from heldout_torch.float32 import float32_only

    check_several(table)
    device, kind = float64_device(find_device(device)), getattr(torch, dtype)
    memory = torch.empty(min(len(test), _TEST) * min(len(train), _TRAIN), dtype=kind, device=device)
    for c in tracked(range(0, len(train), _TRAIN), "influence", "block"):
        masks = table.mask(None, train[c : c + _TRAIN])  # (runs, columns)
        inside = masks.sum(0)
        runs = torch.from_numpy(np.stack([_none_is_nan(inside), _none_is_nan(len(masks) - inside)])).to(device, kind)
        bits = torch.from_numpy(masks).to(device).to(kind)
        scale = runs.reciprocal().sum(0)  # (columns,)
        for r in range(0, len(test), _TEST):
            margins = table.margins("test", test[r : r + _TEST]).astype(np.float64)
            centred = torch.from_numpy((margins - margins.mean(0)).T.copy()).to(device, kind)  # (rows, runs)
            total = centred.sum(1, keepdim=True)  # (rows, 1), 0 but for rounding
            sums = memory[: len(centred) * len(scale)].view(len(centred), len(scale))
            with float32_only():
                torch.matmul(centred, bits, out=sums)  # (rows, columns)
            deviation = None
            if errors:
                means = sums / runs[0], (total - sums) / runs[1]
                squares = centred.square() @ bits
                of_group = squares, centred.square().sum(1, keepdim=True) - squares
                variance = [
                    (square / count - mean.square()).clamp(min=0) / torch.where(count > 1, count - 1, torch.nan)
                    for square, count, mean in zip(of_group, runs, means, strict=True)
                ]
                deviation = (variance[0] + variance[1]).sqrt()
            estimates = sums.mul_(scale).sub_(total / runs[1])
            yield slice(r, r + _TEST), slice(c, c + _TRAIN), estimates, deviation


def _none_is_nan(counts: np.ndarray) -> np.ndarray:
    return np.where(counts > 0, counts, np.nan)
