"""`heldout_torch.data.order` gives the order in which tensorflow-datasets writes and reads."""

from pathlib import Path

import numpy as np
import pytest

from heldout_torch import DataError
from heldout_torch.data import original_order, tfds_order
from tests.reference import run_reference


def check_builder(builder: str, train: int, test: int, folder: Path) -> None:
    run_reference("tfds_order", builder, train, test, folder / builder, folder / f"{builder}.npz")
    with np.load(folder / f"{builder}.npz") as order:
        for split, n in (("train", train), ("test", test)):
            assert order[split].shape == (n,)
            assert np.array_equal(tfds_order(split, n), order[split])


@pytest.mark.parametrize("builder", ["cifar10", "cifar100", "mnist"])
def test_order_is_that_of_the_builder_on_a_few_examples(builder, tmp_path):
    check_builder(builder, 1000, 300, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("builder", "train"), [("cifar10", 50_000), ("cifar100", 50_000), ("mnist", 60_000)])
def test_order_is_that_of_the_builder_at_full_size(builder, train, tmp_path):
    check_builder(builder, train, 10_000, tmp_path)


def test_published_beginning_of_the_cifar_training_set():
    assert tfds_order("train", 50_000)[:8].tolist() == [16399, 1680, 47917, 17307, 27051, 48736, 26263, 1456]


def test_original_order_is_the_inverse():
    order, inverse = tfds_order("test", 777), original_order("test", 777)
    assert np.array_equal(order[inverse], np.arange(777))
    assert np.array_equal(inverse[order], np.arange(777))
    assert not np.array_equal(order, inverse)


def test_splits_have_orders_of_their_own():
    assert not np.array_equal(tfds_order("train", 500), tfds_order("test", 500))


def test_a_caller_cannot_spoil_the_order_of_the_next():
    with pytest.raises(ValueError, match="read-only"):
        tfds_order("train", 10)[0] = 3


@pytest.mark.parametrize("split", ["trian", "Train", "validation", "", None])
def test_there_is_no_order_of_another_split(split):
    """A hash of any name would be one, and wrong."""
    for order in (tfds_order, original_order):
        with pytest.raises(DataError, match="expected 'train' or 'test'"):
            order(split, 10)


@pytest.mark.parametrize("n", [0, -1, "50000", 10.0, None])
def test_there_is_no_order_of_no_examples(n):
    for order in (tfds_order, original_order):
        with pytest.raises(DataError, match=r"expected a number from 1"):
            order("train", n)
    assert tfds_order("train", np.int64(10)).tolist() == tfds_order("train", 10).tolist()
