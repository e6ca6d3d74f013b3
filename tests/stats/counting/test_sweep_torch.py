"""The PyTorch sweeps give the very numbers of the CPU's kernels; run on the CPU too, so that they are always tested."""

import numpy as np
import pytest

from heldout_torch.stats import RunTable
from heldout_torch.stats.counting import sweep_cpu, sweep_torch
from heldout_torch.stats.estimators import test_axis as side_of_tests
from heldout_torch.stats.estimators import train_axis as side_of_train
from tests.helpers.devices import on_devices
from tests.stats.reference import random_runs


@pytest.fixture(params=[(2, 5, 3), (63, 100, 70), (65, 257, 129), (200, 130, 300)], ids=str)
def sides(request, monkeypatch):
    monkeypatch.setattr(sweep_torch, "ROWS", 64)
    monkeypatch.setattr(sweep_torch, "COLUMNS", 96)
    table = RunTable.from_arrays(*random_runs(*request.param, seed=0), mix_ratios=True)
    return side_of_tests(table, None), side_of_train(table, None, "nan")


@on_devices
def test_matrix_is_the_same(sides, device):
    one, other = (np.empty((len(sides[0]), len(sides[1])), np.float32) for _ in range(2))
    sweep_cpu.fill(*sides, one)
    sweep_torch.fill(*sides, other, device)
    np.testing.assert_array_equal(one, other)


@on_devices
def test_selection_is_the_same(sides, device):
    threshold = np.float32(0.1)
    found = [sorted(zip(*map(np.concatenate, zip(*parts, strict=True)), strict=True)) for parts in (
        sweep_cpu.select([sides, sides], threshold), sweep_torch.select([sides, sides], threshold, device)
    )]  # fmt: skip
    assert found[0] == found[1]
    assert len(found[0]) > 1


@on_devices
@pytest.mark.parametrize("k", [1, 7])
@pytest.mark.parametrize("swap", [False, True])
def test_best_are_the_same(sides, device, k, swap):
    rows, columns = reversed(sides) if swap else sides
    for one, other in zip(
        sweep_cpu.keep_best(rows, columns, k), sweep_torch.keep_best(rows, columns, k, device), strict=True
    ):
        np.testing.assert_array_equal(one, other)
