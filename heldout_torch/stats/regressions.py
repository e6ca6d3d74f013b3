"""Datamodels: linear regressions of the margins of runs on the masks of their training subsets.

Source: A. Ilyas et al., "Datamodels: Predicting Predictions from Training Data" (2022), who fit by LASSO. Ridge
regression is solved here in its dual form (C. Saunders et al., 1998), in which the masks enter by how many examples
each two runs share: one matrix of (runs, runs), decomposed once, serves all test examples and all penalties.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from heldout_torch.devices import find_device, float64_device
from heldout_torch.errors import DataError, counted
from heldout_torch.lazy import lazy_module
from heldout_torch.optional import require
from heldout_torch.stats.arguments import as_choice, as_output, shortened
from heldout_torch.stats.outputs import OutputTable
from heldout_torch.stats.selection import Selection, selected
from heldout_torch.stats.shown import short_repr
from heldout_torch.stats.tables import check_outputs
from heldout_torch.storage.counts import as_count
from heldout_torch.storage.progress import tracked

if TYPE_CHECKING:
    import torch
else:
    torch = lazy_module("torch")

_TRAIN, _TARGETS = 8192, 2048  # training examples, and test examples, of a block
_RELATIVE_STRENGTHS = np.logspace(-2, 3, 16)


@dataclass(frozen=True, eq=False, repr=False)
class Datamodels:
    """Linear models of the margins of test examples: intercept + sum of the weights of the examples trained on.

    Attributes:
        weights: float32 of shape (test, n), an attribution as `lds` takes it.
        intercepts: float64 of shape (test,).
        strengths: Of the penalty, chosen by cross-validation, float64 of shape (test,).
        r2: Cross-validated share of the variance over runs that is predicted, float64 of shape (test,). At most 1;
            negative where the mean predicts better; NaN where the margin is constant.
        correlation: Pearson's correlation between margins and those predictions, float64 of shape (test,); NaN where
            either is constant. Both are slightly optimistic, because the penalty was chosen on the same runs.
    """

    weights: np.ndarray
    intercepts: np.ndarray
    strengths: np.ndarray
    r2: np.ndarray
    correlation: np.ndarray

    __repr__ = short_repr


def datamodels(
    table: OutputTable,
    targets: Selection = None,
    penalty: Literal["ridge", "lasso"] = "ridge",
    *,
    strengths: Sequence[float] | None = None,
    folds: int = 5,
    out: np.ndarray | None = None,
    device: "str | torch.device" = "cpu",
) -> Datamodels:
    """Fit a datamodel to each test example.

    Args:
        table: At least two runs a fold.
        targets: Test examples: published indices, a slice or a mask; all by default.
        penalty: `ridge` penalizes squares of weights; `lasso` their absolute values, for few test examples (seconds to
            minutes each at 50,000 training examples; needs scikit-learn).
        strengths: Penalties to choose from, in the units of scikit-learn's `alpha`; by default a wide range that goes
            by the size of the problem.
        folds: Number of parts in which runs are held back: run r is in part r modulo `folds`.
        out: Where to write weights, float32 of shape (test, n), C-contiguous; may be a memory map.
        device: Where ridge regressions are computed.

    Raises:
        DataError: If there are too few runs or folds, all runs trained on the same examples, a penalty is not above 0,
            `penalty` is neither of the two, or `out` does not fit.
    """
    check_outputs(table)
    index = selected(targets, table.test_examples, "targets")
    folds = as_count(folds, "folds")
    if folds < 2 or table.runs < 2 * folds:
        raise DataError(
            f"{counted(table.runs, 'run')} in {counted(folds, 'fold')}: expected two folds or more, and two runs in "
            "each; take more runs, or fewer folds"
        )
    strengths = None if strengths is None else _as_strengths(strengths)
    first = table.mask([0])
    if all(np.array_equal(first, table.mask([run])) for run in range(table.runs)):
        raise DataError(f"all {counted(table.runs, 'run')} trained on the same examples, so no datamodel can be fitted")
    out = as_output(out, (len(index), table.train_examples))
    if as_choice(penalty, ("ridge", "lasso"), "penalty") == "ridge":
        return _ridge(table, index, strengths, folds, out, float64_device(find_device(device)))
    return _lasso(table, index, strengths, folds, out)


def _as_strengths(strengths: Sequence[float]) -> list[float]:
    try:
        found = [float(strength) for strength in strengths]
    except (TypeError, ValueError):
        found = []
    if not found or not all(0 < strength < np.inf for strength in found):
        raise DataError(f"strengths are {shortened(strengths)}, expected a list of one or more numbers above 0")
    return found


def _ridge(
    table: OutputTable, index: np.ndarray, strengths: Sequence[float] | None, folds: int, out: np.ndarray,
    device: "torch.device",
) -> Datamodels:  # fmt: skip
    import torch

    from heldout_torch.float32 import float32_only

    common = torch.zeros((table.runs, table.runs), dtype=torch.float64, device=device)
    with float32_only():
        for _, masks in _mask_blocks(table, device):
            common += masks @ masks.T  # numbers of shared examples, exact
    whole = _Dual(common, common)
    scale = float(whole.values.sum()) / table.runs
    some = [scale * relative for relative in _RELATIVE_STRENGTHS] if strengths is None else list(strengths)
    choices = torch.tensor(some, dtype=torch.float64, device=device)
    fold = torch.arange(table.runs, device=device) % folds
    parts = [(fold != number, fold == number) for number in range(folds)]
    duals = [_Dual(common[fit][:, fit], common[held][:, fit]) for fit, held in parts]
    dual_weights = torch.empty((len(index), table.runs), dtype=torch.float32, device=device)
    results = np.empty((4, len(index)))  # intercepts, strengths, r2, correlation
    for start in tracked(range(0, len(index), _TARGETS), "datamodels", "block"):
        block = slice(start, start + _TARGETS)
        margins = torch.from_numpy(table.margins("test", index[block]).astype(np.float64)).to(device)  # (runs, targets)
        predicted = torch.empty((len(choices), *margins.shape), dtype=torch.float32, device=device)
        for (fit, held), dual in zip(parts, duals, strict=True):
            turned, level = dual.turn(margins[fit])
            for number, choice in enumerate(choices):
                predicted[number, held] = (dual.predict(turned, choice) + level - margins.mean(0)).float()
        centred = margins - margins.mean(0)
        errors = torch.stack([(one - centred).square().sum(0) for one in predicted])  # (choices, targets)
        best = errors.argmin(0)  # (targets,)
        turned, level = whole.turn(margins)
        weights = whole.solve(turned, choices[best])  # (runs, targets)
        dual_weights[block] = weights.T.float()
        chosen = predicted.gather(0, best.expand(1, table.runs, -1))[0].double()  # (runs, targets)
        results[:, block] = torch.stack(
            [level - whole.offset @ weights, choices[best], *_agreement(chosen, centred)]
        ).cpu().numpy()  # fmt: skip
    with float32_only():
        for columns, masks in _mask_blocks(table, device):
            for start in range(0, len(index), _TARGETS):
                block = slice(start, start + _TARGETS)
                out[block, columns] = (dual_weights[block] @ masks).cpu().numpy()
    return Datamodels(out, *results)


class _Dual:
    """Ridge regressions on masks in dual form, from the numbers of examples that runs share.

    Subtracting means of rows and columns from those numbers gives inner products of masks less the mean mask of the
    runs fitted, so that intercepts come out unpenalized. With their eigenvectors V and eigenvalues e the dual weights
    at penalty a are V (V' y / (e + a)). Eigenvectors of eigenvalue 0, which there are where runs outnumber examples,
    are left out: no mask has a part along them, but at a small penalty their rounding errors would be all that is left.
    """

    def __init__(self, fitted: "torch.Tensor", others: "torch.Tensor") -> None:
        """Decompose the matrix of the runs fitted (t, t); `others` is that of runs to predict with them (h, t)."""
        import torch

        mean = fitted.mean(0)  # (t,)
        values, vectors = torch.linalg.eigh(fitted - mean - mean[:, None] + mean.mean())  # (t,) ascending, (t, t)
        rounding = float(fitted.max()) * len(values) * torch.finfo(values.dtype).eps
        self.values, self.vectors = values[values > rounding], vectors[:, values > rounding]
        self.offset = mean  # inner products of the mean mask with the masks
        self.products = (others - others.mean(1, keepdim=True) - mean + mean.mean()) @ self.vectors  # (h, t)

    def turn(self, margins: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
        """Return V' y of centred margins (t, targets), and their means (targets,)."""
        level = margins.mean(0)
        return self.vectors.T @ (margins - level), level

    def solve(self, turned: "torch.Tensor", strength: "torch.Tensor") -> "torch.Tensor":
        """Return dual weights (t, targets) at a penalty, or one for each target."""
        return self.vectors @ (turned / (self.values[:, None] + strength))

    def predict(self, turned: "torch.Tensor", strength: "torch.Tensor") -> "torch.Tensor":
        """Predict the other runs' margins less their level, (h, targets), at a penalty."""
        return self.products @ (turned / (self.values[:, None] + strength))


def _lasso(
    table: OutputTable, index: np.ndarray, strengths: Sequence[float] | None, folds: int, out: np.ndarray
) -> Datamodels:
    linear = require("sklearn.linear_model", "LASSO", "or take penalty='ridge'")
    cross_val_predict = require("sklearn.model_selection", "LASSO").cross_val_predict
    import torch

    masks = np.asfortranarray(table.mask(), np.float32)  # (runs, n)
    fold = np.arange(table.runs) % folds
    parts = [(np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in range(folds)]
    results = np.empty((4, len(index)))
    for row in tracked(range(len(index)), "datamodels", "test example", len(index)):
        margins = table.margins("test", index[[row]])[:, 0].astype(np.float64)
        level = margins.mean()  # float32, which the solver takes like the masks, has no digits to spare for it
        unit = np.ldexp(1.0, np.frexp(np.abs(margins - level).max())[1])  # nor for squares of large numbers
        margins = ((margins - level) / unit).astype(np.float32)
        options = {} if strengths is None else {"alphas": np.sort(strengths)[::-1] / unit}
        fitted = linear.LassoCV(cv=parts, max_iter=10_000, **options).fit(masks, margins)
        predicted = cross_val_predict(linear.Lasso(fitted.alpha_, max_iter=10_000), masks, margins, cv=parts)
        out[row] = fitted.coef_ * unit
        pair = (torch.from_numpy(values.astype(np.float64))[:, None] for values in (predicted, margins))
        agreement = [float(value) for value in _agreement(*pair)]
        results[:, row] = fitted.intercept_ * unit + level, fitted.alpha_ * unit, *agreement
    return Datamodels(out, *results)


def _mask_blocks(table: OutputTable, device: "torch.device") -> "Iterator[tuple[slice, torch.Tensor]]":
    import torch

    for start in range(0, table.train_examples, _TRAIN):
        columns = slice(start, start + _TRAIN)
        yield columns, torch.from_numpy(table.mask(None, columns)).to(device).float()  # (runs, columns)


def _agreement(predicted: "torch.Tensor", found: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
    """Return the share of variance predicted, and Pearson's correlation, of columns (runs, targets)."""
    import torch

    errors = (predicted - found).square().sum(0)
    predicted, found = predicted - predicted.mean(0), found - found.mean(0)
    squares = found.square().sum(0)
    squares = torch.where(squares > 0, squares, torch.nan)
    return 1 - errors / squares, (predicted * found).sum(0) / (predicted.square().sum(0) * squares).sqrt()
