"""Figures look as the stored ones do, and say so when they cannot be drawn.

Also of report/picture_figures.py.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

from heldout_torch.data import load_digits
from heldout_torch.errors import DataError, HeldoutError
from heldout_torch.report import (
    plot_agreement,
    plot_consistency_by_ratio,
    plot_examples,
    plot_influence_histogram,
    plot_memorization_histogram,
    plot_pairs,
    plot_removal_curve,
)
from heldout_torch.stats import ConsistencyScores, InfluencePairs, Scores, accuracy_by_ratio, histogram

BASELINE = Path(__file__).parent / "baseline"


def memorization():
    values = np.random.RandomState(0).beta(0.3, 2, 5000).astype(np.float32)
    values[:7] = np.nan
    return values


def scores():
    rng = np.random.RandomState(1)
    ratios = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
    per_ratio = np.clip(rng.rand(300) + 0.4 * (ratios[:, None] - 0.5), 0, 1).astype(np.float32)
    return ConsistencyScores(per_ratio.mean(axis=0), np.full(300, 5), ratios, per_ratio, np.full(300, 0.1, np.float32))


def some_pairs():
    error = np.array([0.05, 0.04, np.nan, 0.02], np.float32)
    values = np.array([0.9, 0.7, 0.6, 0.2], np.float32)
    return InfluencePairs(np.array([5, 5, 40, 40]), np.array([9, 8, 7, 6]), values, values, error)


def draw_examples():
    images = [image.numpy() * 15 for image in load_digits().train.images[:9]]
    return plot_examples([*images[:4], None, *images[5:]], [f"$0.{place}$ of $1$" for place in range(9)], columns=5)


def draw_agreement():
    one = memorization()
    other = one + np.random.RandomState(2).normal(0, 0.05, len(one)).astype(np.float32)
    return plot_agreement(one, np.clip(other, -1, 1), ("$ResNet$50", "$Inception$"))


def draw_removal():
    rng = np.random.RandomState(3)
    fall = np.array([0.0, 0.01, 0.03, 0.06])
    return plot_removal_curve(
        [0, 100, 200, 400], 0.95 - fall[:, None] + 0.01 * rng.rand(4, 10), 0.95 + 0.01 * rng.rand(4, 8)
    )


FIGURES = {
    "memorization": lambda: plot_memorization_histogram(memorization(), np.full(5000, 0.03)),
    "influence": lambda: plot_influence_histogram(np.array([0.15, 0.2, 0.22, 0.6, 0.9])),
    "consistency": lambda: plot_consistency_by_ratio(scores()),
    "agreement": draw_agreement,
    "removal": draw_removal,
    "examples": draw_examples,
    "pairs": lambda: plot_pairs(some_pairs(), load_digits(), columns=3),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_looks_as_the_stored_one(name, tmp_path):
    from matplotlib.testing.compare import compare_images

    drawn = tmp_path / f"{name}.png"
    FIGURES[name]().savefig(drawn, dpi=80)
    difference = compare_images(str(BASELINE / f"{name}.png"), str(drawn), tol=2.0)
    assert difference is None, f"{difference}\nIf the change is meant, copy {drawn} to {BASELINE}."


@pytest.mark.parametrize(("ending", "start"), [("svg", b"<?xml"), ("pdf", b"%PDF"), ("png", b"\x89PNG")])
def test_figures_are_saved_in_the_formats_of_papers(ending, start, tmp_path):
    FIGURES["influence"]().savefig(tmp_path / f"figure.{ending}")
    assert (tmp_path / f"figure.{ending}").read_bytes().startswith(start)


def test_the_histogram_shows_the_counts_of_the_statistics():
    bars = plot_memorization_histogram(memorization()).axes[0].patches
    counted = histogram(memorization())
    assert [bar.get_height() for bar in bars] == counted.counts.tolist()
    assert sum(bar.get_height() for bar in bars) == 5000 - 7
    assert np.allclose([bar.get_x() for bar in bars], counted.edges[:-1])


def test_a_histogram_takes_the_bins_of_another_published_figure():
    bars = plot_influence_histogram(np.array([0.2, 0.3, 0.8]), figure="imagenet-influence").axes[0].patches
    assert (len(bars), bars[0].get_x()) == (18, 0.2)
    assert np.isclose(bars[-1].get_x() + bars[-1].get_width(), 0.8)
    with pytest.raises(DataError, match=r"'imagenet' is not a published figure, .*; did you mean 'imagenet-"):
        plot_memorization_histogram(memorization(), figure="imagenet")


def test_pairs_of_fewer_training_examples_are_drawn_if_asked_for():
    images = [axes for axes in plot_pairs(some_pairs(), load_digits(), rows=1, columns=2).axes if axes.images]
    assert [axes.get_title().split("\n")[0] for axes in images] == ["train 5", "test 9", "test 8"]


def test_the_curves_show_the_accuracies_of_the_statistics():
    lines = plot_consistency_by_ratio(scores()).axes[0].lines
    _, accuracy = accuracy_by_ratio(scores())
    assert np.allclose([line.get_ydata() for line in reversed(lines)], accuracy[~np.isnan(accuracy).all(axis=1)])


def test_figures_change_no_global_state():
    import matplotlib

    before = dict(matplotlib.rcParams)
    FIGURES["agreement"]()
    assert dict(matplotlib.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_what_cannot_be_drawn_is_an_error():
    none = InfluencePairs(*(np.empty(0, kind) for kind in (int, int, np.float32, np.float32, np.float32)))
    with pytest.raises(DataError, match="no pairs to show"):
        plot_pairs(none, load_digits())
    with pytest.raises(DataError, match="nothing to show"):
        plot_examples([], [])
    with pytest.raises(DataError, match=r"expected \(3, runs\)"):
        plot_removal_curve([0, 1, 2], np.ones((2, 5)), np.ones((3, 5)))
    one = scores()
    with pytest.raises(DataError, match="at least two ratios"):
        plot_consistency_by_ratio(
            ConsistencyScores(one.scores, one.ratios_counted, one.ratios[:1], one.per_ratio[:1], one.standard_error)
        )
    with pytest.raises(DataError, match="given dict, expected ConsistencyScores"):
        plot_consistency_by_ratio({0.7: one})


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plot_pairs(np.zeros(3), load_digits()), "given ndarray, expected InfluencePairs"),
        (lambda: plot_pairs(some_pairs(), load_digits(), rows=0), "rows is 0, expected a number from 1"),
        (
            lambda: plot_removal_curve(3, np.ones((1, 5)), np.ones((1, 5))),
            "removed are int64 .*, expected a row of numbers",
        ),
        (lambda: plot_removal_curve([1], [["much"]], np.ones((1, 5))), "most memorized are <U4 .*, expected numbers"),
        (
            lambda: plot_memorization_histogram(memorization(), ["little"]),
            "standard_error are <U6 .*, expected numbers",
        ),
        (
            lambda: plot_examples([np.zeros((8, 8), np.uint8)], ["gray"]),
            r"image 0 has shape \(8, 8\), expected \(1 or 3, ",
        ),
        (lambda: plot_examples([np.zeros((1, 8, 8), np.uint8)], ["gray"], 2.5), r"columns is 2\.5, expected a number"),
    ],
)
def test_what_is_of_another_kind_is_refused_in_one_line(draw, message):
    with pytest.raises(DataError, match=message):
        draw()


def test_examples_are_drawn_as_a_split_gives_them():
    digits = load_digits()
    images = [digits.split("train")[i][0] for i in range(3)]  # tensors of floats, 0 ... 1
    drawn = [axes.images[0].get_array() for axes in plot_examples(images, ["digit"] * 3).axes]
    np.testing.assert_array_equal(drawn, [digits.picture("train", i)[0] for i in range(3)])
    with pytest.raises(DataError, match=r"image 1 has floats outside 0 \.\.\. 1"):
        plot_examples([images[0], 255 * images[1].numpy()], ["digit"] * 2)


def test_a_histogram_takes_pairs_as_they_are():
    pairs = some_pairs()
    one, other = plot_influence_histogram(pairs), plot_influence_histogram(pairs.influence)
    heights = [[bar.get_height() for bar in plot.axes[0].patches] for plot in (one, other)]
    assert heights[0] == heights[1]


def test_scores_agree_as_their_values_do():
    one, other = np.linspace(0, 1, 9), np.linspace(1, 0.5, 9)
    plots = [
        plot_agreement(one, other),
        plot_agreement(Scores(one), Scores(other)),
        plot_agreement(list(one), list(other)),
    ]
    for plot in plots:
        np.testing.assert_array_equal(plot.axes[0].lines[1].get_xydata(), np.stack([one, other], axis=1))


def test_a_missing_matplotlib_is_asked_for_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(HeldoutError, match="a figure needs matplotlib, which is not installed: pip install jinja2"):
        plot_memorization_histogram(memorization())
