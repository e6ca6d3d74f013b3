"""A specification of what to train: runs, and everything except the data set that determines the result."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np

from heldout_torch.experiments import Experiment, Recipe
from heldout_torch.training.subsets import draw_subset, epoch_orders


@dataclass(frozen=True, eq=False)
class RunBatch:
    """Runs that are trained together, and everything except the data set that determines the result.

    Attributes:
        experiment: The experiment of the runs.
        recipe: How the runs are trained.
        subset_ratio: Share of the training set that each sees.
        runs: Numbers of the runs.
        subset: Published indices that all runs train on, int64; None for a random subset for each run.
    """

    experiment: Experiment
    recipe: Recipe
    subset_ratio: float
    runs: tuple[int, ...]
    subset: np.ndarray | None = None

    def subset_of(self, run: int) -> np.ndarray:
        """Return the published indices that a run trains on, int64."""
        if self.subset is not None:
            return self.subset
        return draw_subset(run, self.experiment.train_examples, self.subset_ratio)

    def orders(self, run: int) -> Iterator[np.ndarray]:
        """Return the order of each epoch of a run, without end."""
        return epoch_orders(run, self.experiment.train_examples, self.subset_ratio, self.subset)

    def digest(self, data: str) -> str:
        """Return 16 letters that name the batch: equal for equal work.

        Args:
            data: What `Dataset.digest` returns of the data set.
        """
        subset = None if self.subset is None else hashlib.sha256(self.subset.tobytes()).hexdigest()
        record = [
            self.experiment.name,
            self.experiment.to_record(),
            asdict(self.recipe),
            self.subset_ratio,
            self.runs,
            subset,
            data,
        ]
        return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]
