"""Which examples a run trains on, and in which order; both depend only on the run's number.

Subsets are drawn as in the published demo, so masks of equal run numbers agree.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from heldout_torch.errors import HeldoutError
from heldout_torch.stats import load_published_indices
from heldout_torch.stats.orders import Order


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
    """Return the order of each epoch of a run, without end.

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


def read_subset(
    path: Path,
    examples: int,
    original_index: np.ndarray | None = None,
    order: Order | None = None,
    dataset: str | None = None,
) -> np.ndarray:
    """Read a subset of a user's own, as published indices.

    Args:
        path: As in `heldout_torch.stats.load_published_indices`: an npz file such as `heldout stats keep` writes it,
            or a bare npy array.
        examples: Size of the training set.
        original_index: As there, for files that count as the data set's own files do.
        order: As there; a bare array needs it.
        dataset: As there.

    Returns:
        int64, in the order of the file.

    Raises:
        HeldoutError: As there, or if the subset leaves nothing held out, or is empty.
    """
    subset = load_published_indices(path, examples, original_index, order, dataset)
    if len(subset) in (0, examples):
        raise HeldoutError(f"{path}: names {len(subset)} of {examples} examples, expected some but not all")
    return subset


def _draw(random: np.random.RandomState, examples: int, subset_ratio: float) -> np.ndarray:
    return random.choice(examples, size=int(examples * subset_ratio), replace=False).astype(np.int64, copy=False)
