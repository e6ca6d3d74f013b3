"""Which examples a run trains on, and in which order: a function of the run's number alone.

The published demo draws the subset as below, so masks of equal run numbers agree with it.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from heldout_torch.errors import HeldoutError


def draw_subset(run: int, examples: int, subset_ratio: float) -> np.ndarray:
    """Draw the subset of a run.

    Args:
        run: Number of the run, the seed.
        examples: Size n of the training set.
        subset_ratio: Share of it, strictly between 0 and 1.

    Returns:
        `RandomState(run).choice(n, int(n * subset_ratio), replace=False)`: published indices, int64.
    """
    return _draw(np.random.RandomState(run), examples, subset_ratio)


def epoch_orders(
    run: int, examples: int, subset_ratio: float, subset: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """Give the order of each epoch of a run, without end.

    Args:
        run: Number of the run, the seed.
        examples: Size of the training set.
        subset_ratio: Share of it.
        subset: Train on these indices instead of a random subset.

    Yields:
        A permutation of the subset, int64; permutations come from the generator that drew the subset.
    """
    random = np.random.RandomState(run)
    if subset is None:
        subset = _draw(random, examples, subset_ratio)
    while True:
        yield subset[random.permutation(len(subset))]


def read_subset(path: Path, examples: int) -> np.ndarray:
    """Read a subset of a user's own from a npy file; nothing in it is ever unpickled.

    Args:
        path: Holds different published indices.
        examples: Size of the training set.

    Returns:
        int64, in the order of the file.

    Raises:
        HeldoutError: If the file is no such row, or leaves nothing held out.
    """
    try:
        subset = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise HeldoutError(f"{path}: is no readable npy file ({' '.join(str(error).split())})") from None
    if not isinstance(subset, np.ndarray) or subset.ndim != 1 or subset.dtype.kind not in "iu":
        raise HeldoutError(f"{path}: expected a row of integers, published indices")
    if len(subset) and (subset.min() < 0 or subset.max() >= examples):
        raise HeldoutError(f"{path}: has indices outside 0 ... {examples - 1}, those of the training set")
    if len(np.unique(subset)) != len(subset):
        raise HeldoutError(f"{path}: names an example twice")
    if len(subset) in (0, examples):
        raise HeldoutError(f"{path}: names {len(subset)} examples of {examples}, expected some but not all")
    return subset.astype(np.int64)


def _draw(random: np.random.RandomState, examples: int, subset_ratio: float) -> np.ndarray:
    return random.choice(examples, size=int(examples * subset_ratio), replace=False).astype(np.int64, copy=False)
