"""Subsets and orders are those of the published demo."""

from itertools import islice

import numpy as np
import pytest

from heldout_torch import HeldoutError
from heldout_torch.training.subsets import draw_subset, epoch_orders, read_subset


@pytest.mark.parametrize(("n", "ratio"), [(60000, 0.7), (1437, 0.7), (100, 0.1)])
def test_subsets_are_numpys(n, ratio):
    for run in (0, 1, 1999):
        expected = np.random.RandomState(run).choice(n, int(n * ratio), replace=False)
        assert np.array_equal(draw_subset(run, n, ratio), expected)


def test_orders_go_on_with_the_generator_that_drew_the_subset():
    random = np.random.RandomState(5)
    subset = random.choice(100, 70, replace=False)
    expected = [random.permutation(subset) for _ in range(3)]
    assert np.array_equal(list(islice(epoch_orders(5, 100, 0.7), 3)), expected)


def test_orders_of_a_given_subset_are_permutations_of_it():
    subset = np.array([3, 1, 4, 15, 9])
    orders = list(islice(epoch_orders(0, 100, 0.05, subset), 4))
    assert all(np.array_equal(np.sort(order), np.sort(subset)) for order in orders)
    assert len({tuple(order) for order in orders}) > 1


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([1.0, 2.0]), "row of integers"),
        (np.array([[1, 2]]), "row of integers"),
        (np.array([0, 10]), "outside 0 ... 9"),
        (np.array([-1, 2]), "outside 0 ..."),
        (np.array([1, 1]), "twice"),
        (np.arange(10), "10 of 10 examples"),
        (np.array([], np.int64), "0 of 10 examples"),
        (np.array([None]), "not a readable npy"),
    ],
)
def test_bad_subsets_are_one_line_errors(tmp_path, array, expected):
    np.save(tmp_path / "subset.npy", array)
    with pytest.raises(HeldoutError, match=expected) as error:
        read_subset(tmp_path / "subset.npy", 10, order="published")
    assert "\n" not in str(error.value)


def test_a_missing_subset_is_a_one_line_error(tmp_path):
    with pytest.raises(HeldoutError, match="cannot be read"):
        read_subset(tmp_path / "none.npy", 10, order="published")
