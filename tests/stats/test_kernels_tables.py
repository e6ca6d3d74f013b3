"""Counting by tables gives what counting bits gives, on any processor, and the processor chooses between them.

Also of stats/counting/kernels.py, stats/counting/kernels_cpu.py, stats/counting/kernels_tables.py.
"""

import os
import subprocess
import sys

import numpy as np
import pytest

from heldout_torch.stats.counting import kernels_cpu, kernels_tables
from heldout_torch.stats.counting.sweep_cpu import choose_kernels

# rows, columns, runs: about the sizes of tiles, panels, tables, groups, rounds and words
SHAPES = [
    (rows, columns, runs)
    for rows, columns in ((1, 1), (3, 17), (4, 64), (5, 65), (9, 257), (70, 300))
    for runs in (1, 5, 6, 35, 36, 37, 63, 64, 65, 252, 253, 2000)
]


def problem(rows, columns, runs):
    """Words of rows and columns as kernels take them, scales and shifts with NaN; all bits set in some."""
    rng = np.random.default_rng(rows * columns * runs)
    words = -(-runs // 64)

    def bits(examples, filled):
        packed = np.zeros((filled, words * 64), bool)
        packed[:examples, :runs] = rng.random((examples, runs)) < rng.random((examples, 1)) * 1.2
        return np.packbits(packed, axis=1, bitorder="little").view(np.uint64)

    def coefficients(examples, filled, size):
        values = np.full(filled, np.nan)
        values[:examples] = rng.random(examples) * size
        return values

    height, width = -(-rows // kernels_cpu.TILE_ROWS) * kernels_cpu.TILE_ROWS, -(-columns // kernels_cpu.PANEL) * 16
    panels = bits(columns, width).reshape(-1, kernels_cpu.PANEL, words).transpose(0, 2, 1)
    scale, shift = 1 + coefficients(columns, width, 1), coefficients(columns, width, 1)
    scale[::7] = np.nan  # as of examples that were never held out
    row = 1 / runs + coefficients(rows, height, 1 / runs), coefficients(rows, height, 1)
    return np.ascontiguousarray(panels), bits(rows, height), *row, scale, shift


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_estimates_are_the_same_bit_for_bit(shape):
    arguments = problem(*shape)
    results = [np.empty(shape[:2], np.float32) for _ in range(2)]
    for kernels, out in zip((kernels_cpu, kernels_tables), results, strict=True):
        kernels.fill(*arguments, out)
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("room", [3, 30_000])
def test_the_same_estimates_are_selected(shape, room):
    arguments = problem(*shape)
    estimates = np.empty(shape[:2], np.float32)
    kernels_cpu.fill(*arguments, estimates)
    known = estimates[~np.isnan(estimates)]
    threshold = np.sort(known)[known.size // 2] if known.size else np.float32(0)  # equal to some
    found = []
    for kernels in (kernels_cpu, kernels_tables):
        row, column, value = np.zeros(room, np.int64), np.zeros(room, np.int64), np.zeros(room, np.float32)
        number = kernels.select(*arguments, threshold, row, column, value)
        found.append((number, sorted(zip(row[:number], column[:number], value[:number], strict=True))[:number]))
    assert found[0][0] == found[1][0] == (estimates >= threshold).sum()
    if room > found[0][0]:
        assert found[0][1] == found[1][1]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_same_best_are_kept(shape):
    panels, rows, *others = problem(*shape)
    others[0], others[1] = np.round(others[0] * 4) / 4 + 0.25, np.round(others[1] * 2)  # with equals
    kept = []
    for kernels in (kernels_cpu, kernels_tables):
        best = np.full((len(panels) * kernels_cpu.PANEL, 3), -np.inf, np.float32)
        best_row = np.full(best.shape, -1, np.int64)
        half = len(rows) // 8 * 4
        for part in (slice(0, half), slice(half, None)):
            kernels.keep_best(
                panels, rows[part], others[0][part], others[1][part], *others[2:], part.start, best, best_row
            )
        kept.append((best[: shape[1]], best_row[: shape[1]]))
    np.testing.assert_array_equal(kept[0][0], kept[1][0])
    np.testing.assert_array_equal(kept[0][1], kept[1][1])


@pytest.mark.parametrize(("trained", "correct"), [(484, 986), (363, 790), (720, 421)])
def test_an_estimate_that_equals_a_bound_below_zero_is_selected(trained, correct):
    """No run that trained is right, and the bound on their number is the small sum of two large numbers."""
    runs, height = 2000, kernels_cpu.TILE_ROWS
    held_out = runs - trained
    row, column = (np.pad(bits, (0, 48)) for bits in (np.arange(runs) >= runs - correct, np.arange(runs) < trained))
    row, column = (np.packbits(bits, bitorder="little").view(np.uint64) for bits in (row, column))
    panels = np.tile(column[None, :, None], kernels_cpu.PANEL)
    factor = np.full(kernels_cpu.PANEL, 1 / (trained * held_out))
    arguments = (
        np.ascontiguousarray(panels), np.tile(row, (height, 1)), np.ones(height), np.full(height, float(correct)),
        runs * factor, trained * factor,
    )  # fmt: skip
    estimates = np.empty((height, 1), np.float32)
    kernels_cpu.fill(*arguments, estimates)
    assert estimates[0, 0] == np.float32(-correct / held_out)
    found = np.empty(99, np.int64), np.empty(99, np.int64), np.empty(99, np.float32)
    assert kernels_tables.select(*arguments, estimates[0, 0], *found) == height * kernels_cpu.PANEL


@pytest.mark.parametrize(
    ("features", "rows", "words", "name"),
    [
        ("+avx2,+avx512vpopcntdq", 2048, 32, "kernels_cpu"),
        ("+avx2,-avx512vpopcntdq", 2048, 32, "kernels_tables"),
        ("+sse4.2,-avx2", 2048, 32, "kernels_cpu"),
        ("+avx2", 100, 32, "kernels_cpu"),
        ("+avx2", 2048, 1024, "kernels_cpu"),
    ],
)
def test_the_processor_and_the_size_choose(features, rows, words, name, monkeypatch):
    monkeypatch.setattr("numba.config.CPU_FEATURES", features)
    assert choose_kernels(rows, words).fill.__module__.endswith(name)


@pytest.mark.slow
def test_influences_pairs_and_tops_are_those_of_the_formula_without_avx512(tmp_path):
    """The tests of estimates and pairs, in a process that compiles for a processor with AVX2 only."""
    names = ["tests/stats/test_pairs.py", "tests/stats/test_estimators.py"]
    environment = {
        **os.environ, "NUMBA_CPU_NAME": "znver3", "NUMBA_CPU_FEATURES": "+avx2,+popcnt,+bmi,+bmi2,+fma",
        "NUMBA_CACHE_DIR": str(tmp_path),
    }  # fmt: skip
    command = [sys.executable, "-m", "pytest", "-q", *names]
    process = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout
