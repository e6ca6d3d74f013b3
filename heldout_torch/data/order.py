"""The order of tensorflow-datasets, which the published indices of CIFAR and MNIST follow.

tensorflow-datasets sorts the examples of a split by a salted hash of the number under which its builder yields them.
For these data sets the number is the position in the original files, and the salt is the name of the split.
"""

import hashlib
from functools import cache

import numpy as np

from heldout_torch.data.checks import check_split
from heldout_torch.storage.counts import as_count

_HASHED = ("cifar10", "cifar100", "mnist")  # data sets that count in tensorflow-datasets' order
_AS_STORED = ("imagenet", "digits")  # that count as their files do


def tfds_order(split: str, n: int) -> np.ndarray:
    """Return the original index of each published index: `tfds_order(split, n)[published]` is `original`.

    Only for CIFAR and MNIST, whose published indices count in the order of tensorflow-datasets, and for the size of
    their splits; another size gives the order of a split of that size. For any other data set use `original_index`, or
    the method of that name of a loaded data set. A published index goes in, a position in the original files
    (torchvision's) comes out. `original_order` is the inverse; `original_index` returns this array, too, given the name
    of such a data set.

    Source: tensorflow-datasets' shuffler, which sorts by `md5(split name + number)`; the same for `cifar10:3.0.2`,
    `cifar100:3.0.2` and `mnist:3.0.1`.

    Args:
        split: Name of the split in tensorflow-datasets, `train` or `test`.
        n: Number of examples in the split.

    Returns:
        int64 of shape (n,), read-only: `images_in_original_order[tfds_order(split, n)]` is in published order.

    Raises:
        DataError: If the split is neither, or n is not a number from 1.
    """
    return _tfds_order(check_split(split), as_count(n, "n"))


def original_order(split: str, n: int) -> np.ndarray:
    """Return the published index of each original index: `original_order(split, n)[original]` is `published`.

    The inverse of `tfds_order`. A position in the original files of CIFAR or MNIST goes in, a published index comes
    out.

    Args:
        split: Name of the split in tensorflow-datasets, `train` or `test`.
        n: Number of examples in the split.

    Returns:
        int64 of shape (n,), read-only: `scores_in_published_order[original_order(split, n)]` is in original order.
    """
    return _original_order(check_split(split), len(tfds_order(split, n)))


def original_index(dataset: str, split: str, n: int) -> np.ndarray | None:
    """Return the original index of each published index of a data set, known from its name alone.

    A published index goes in, a position in the data set's own files comes out: for CIFAR and MNIST this is
    `tfds_order(split, n)`. No file is read: statistics can be written in original order without images.

    Args:
        dataset: Name of the data set, such as `cifar10`.
        split: `train` or `test`.
        n: Number of examples in the split.

    Returns:
        int64 of shape (n,), read-only; 0 ... n-1 if both orders are equal (ImageNet, digits). None for a user's own
        data set: its order is known only after loading it (`heldout_torch.data.load_dataset`).

    Raises:
        DataError: As `tfds_order`.
    """
    split, n = check_split(split), as_count(n, "n", least=0)
    if dataset in _HASHED:
        return tfds_order(split, n)
    return _fixed(np.arange(n)) if dataset in _AS_STORED else None


@cache
def _tfds_order(split: str, n: int) -> np.ndarray:
    digests = [hashlib.md5(f"{split}{number}".encode(), usedforsecurity=False).digest() for number in range(n)]
    return _fixed(np.array(sorted(range(n), key=digests.__getitem__), np.int64))  # (n,)


@cache
def _original_order(split: str, n: int) -> np.ndarray:
    return _fixed(np.argsort(_tfds_order(split, n)))  # (n,)


def _fixed(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False  # every caller gets the same array
    return array
