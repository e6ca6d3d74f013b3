"""Figures of statistics: histograms, curves and agreement, as in the papers.

Each function returns a new Matplotlib figure and changes no global state.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from heldout_torch.errors import DataError, nearest
from heldout_torch.lazy import lazy_module
from heldout_torch.optional import require
from heldout_torch.stats import (
    PUBLISHED_BINS,
    ConsistencyScores,
    InfluencePairs,
    Scores,
    accuracy_by_ratio,
    histogram,
    score_agreement,
)
from heldout_torch.stats.arguments import as_numbers, as_row_of_numbers
from heldout_torch.stats.score_files import values_of

if TYPE_CHECKING:
    from matplotlib import figure as mpl
    from matplotlib.axes import Axes
else:
    mpl = lazy_module("matplotlib.figure")

INK, GRID, BLUE, RED = "#20242a", "#d5d9de", "#3d74b0", "#c5543a"
_BANDS = ("#7d4fa0", "#4a6fb5", "#2d939c", "#5d9f4c", "#c08a1e")  # low scores to high, apart also in gray

_STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "savefig.dpi": 200,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def plot_memorization_histogram(
    memorization: np.ndarray | Scores, standard_error: np.ndarray | None = None, figure: str = "cifar100-memorization"
) -> "mpl.Figure":
    """Plot a histogram of memorization over training examples, on a logarithmic scale.

    Args:
        memorization: Float of shape (n,), -1 ... 1, or `Scores`; NaN is left out.
        standard_error: Of the same shape; its largest value is then written into the figure.
        figure: Name in `heldout_torch.stats.PUBLISHED_BINS` of the bins to use; by default 18 bins over 0 ... 1, where
            negative values count as 0.

    Raises:
        DataError: As `heldout_torch.stats.histogram`, or if there is no such figure.
        HeldoutError: If Matplotlib is not installed; so do the other functions.
    """
    return _histogram(memorization, figure, standard_error, "memorization", "training examples")


def plot_influence_histogram(
    influence: np.ndarray | InfluencePairs,
    standard_error: np.ndarray | None = None,
    figure: str = "cifar100-influence",
) -> "mpl.Figure":
    """Plot a histogram of the influence of selected pairs, on a logarithmic scale.

    Args:
        influence: Float of shape (pairs,), -1 ... 1, or the pairs.
        standard_error: Of the same shape; its largest value is then written into the figure.
        figure: As in `plot_memorization_histogram`; by default 17 bins over 0.15 ... 1.
    """
    values = influence.influence if isinstance(influence, InfluencePairs) else influence
    return _histogram(values, figure, standard_error, "influence", "pairs")


def plot_consistency_by_ratio(consistency: ConsistencyScores) -> "mpl.Figure":
    """Show the accuracy on held-out examples against the subset ratio, for five bands of consistency scores.

    Source: Jiang et al. (2021).

    Args:
        consistency: Of at least two ratios.

    Raises:
        DataError: If there is only one ratio.
    """
    edges, accuracy = accuracy_by_ratio(consistency, len(_BANDS))
    if len(consistency.ratios) < 2:
        raise DataError(f"scores of {len(consistency.ratios)} subset ratio, expected at least two ratios")
    figure, axes = _new_figure()
    for b in reversed(range(len(_BANDS))):
        if np.isnan(accuracy[b]).all():
            continue
        name = f"C-score {edges[b]:.1f} to {edges[b + 1]:.1f}"
        axes.plot(consistency.ratios, accuracy[b], marker="o", markersize=3.5, color=_BANDS[b], label=name)
    axes.set(xlabel="subset ratio", ylabel="accuracy when held out", ylim=(-0.03, 1.03))
    axes.legend(frameon=False, fontsize=7.5, loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.2)
    return figure


def plot_removal_curve(removed: Sequence[int], memorized: np.ndarray, random: np.ndarray) -> "mpl.Figure":
    """Plot the test accuracy without the most memorized examples, and without random ones.

    Args:
        removed: How many examples were left out, of length k.
        memorized: Test accuracies 0 ... 1 of runs without the most memorized examples, float of shape (k, runs).
        random: The same without as many random examples; the number of runs may differ.

    Raises:
        DataError: If shapes disagree.
    """
    removed = as_row_of_numbers(removed, "removed").tolist()
    figure, axes = _new_figure()
    for accuracy, color, name in ((memorized, RED, "most memorized"), (random, BLUE, "random")):
        accuracy = as_numbers(accuracy, name).astype(np.float64)
        if accuracy.ndim != 2 or len(accuracy) != len(removed) or not accuracy.shape[1]:
            raise DataError(f"{name}: accuracies of shape {accuracy.shape}, expected ({len(removed)}, runs)")
        mean, deviation = accuracy.mean(axis=1), accuracy.std(axis=1)
        axes.plot(removed, 100 * mean, marker="o", markersize=3.5, color=color, label=name)
        axes.fill_between(removed, 100 * (mean - deviation), 100 * (mean + deviation), color=color, alpha=0.2, lw=0)
    axes.set(xlabel="examples left out of training", ylabel="test accuracy (%)")
    axes.legend(frameon=False, title="left out, mean ± s.d.", fontsize=8, title_fontsize=8)
    return figure


def plot_agreement(
    one: np.ndarray | Scores, other: np.ndarray | Scores, names: tuple[str, str] = ("one", "other")
) -> "mpl.Figure":
    """Plot estimates from two sets of runs against each other, such as of two architectures or two halves.

    Args:
        one: Float of shape (n,), or `Scores`.
        other: The same examples; those that are NaN in either are left out.
        names: What the axes are called.

    Raises:
        DataError: As `heldout_torch.stats.score_agreement`.
    """
    agreement = score_agreement(one, other)
    one, other = np.ravel(values_of(one)), np.ravel(values_of(other))
    figure, axes = _new_figure(3.6, 3.4)
    low = float(min(0.0, np.nanmin(one), np.nanmin(other)))
    axes.plot([low, 1], [low, 1], color=GRID, lw=1)
    axes.plot(one, other, ".", color=BLUE, alpha=0.5, markersize=3, markeredgewidth=0, rasterized=len(one) > 5000)
    title = f"rank correlation {agreement.rank_correlation:.2f}, mean difference {agreement.mean_difference:.3f}"
    axes.set(xlabel=literal(names[0]), ylabel=literal(names[1]), aspect="equal")
    axes.set_title(title, fontsize=8)
    return figure


def _new_figure(width: float = 4.6, height: float = 2.6) -> "tuple[mpl.Figure, Axes]":
    """Make an empty figure in the package's style, in inches."""
    matplotlib, figures = require("matplotlib", "a figure"), require("matplotlib.figure", "a figure")
    with matplotlib.rc_context(_STYLE):  # read when axes are made; legends read theirs later
        figure = figures.Figure(figsize=(width, height), layout="constrained")
        return figure, figure.add_subplot()


def _histogram(
    values: np.ndarray | Scores, published: str, error: np.ndarray | None, name: str, what: str
) -> "mpl.Figure":
    if published not in PUBLISHED_BINS:
        raise DataError(
            f"{published!r} is not a published figure, expected one of {', '.join(PUBLISHED_BINS)}"
            f"{nearest(published, PUBLISHED_BINS)}"
        )
    counted = histogram(values, **PUBLISHED_BINS[published])
    error = None if error is None else as_numbers(error, "standard_error")
    figure, axes = _new_figure()
    axes.bar(counted.edges[:-1], counted.counts, np.diff(counted.edges), align="edge", color=BLUE, linewidth=0)
    axes.set_yscale("symlog", linthresh=1)
    axes.yaxis.set_major_formatter(lambda count, _: f"{count:,.0f}")
    axes.set(
        xlabel=name,
        ylabel=f"number of {what}",
        xlim=(min(0, counted.edges[0]), 1),
        ylim=(0, max(10.0, 1.5 * counted.counts.max())),
    )
    axes.grid(False, axis="x")
    if error is not None and np.isfinite(error).any():
        axes.set_title(f"standard error at most {np.nanmax(error):.3f}", fontsize=8, loc="right")
    left_out = [(counted.missing, "without an estimate"), (counted.outside, "outside the bins")]
    if notes := [f"{number:,} {why}" for number, why in left_out if number]:
        axes.set_title(", ".join(notes), fontsize=8, loc="left")
    return figure


def literal(text: str) -> str:
    """Return a text as Matplotlib shows it; what lies between two $ it would typeset as mathematics."""
    return text.replace("$", r"\$")
