"""A specification of what to train: runs, and everything except the data set that determines the result."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np

from heldout_torch.data.checks import as_subset
from heldout_torch.errors import HeldoutError, counted
from heldout_torch.experiments import Experiment, Recipe
from heldout_torch.stats.arguments import as_array
from heldout_torch.training.subsets import draw_subset, epoch_orders
from heldout_torch.zoo.keys import RunNumbers, as_ratio, as_runs


@dataclass(frozen=True, eq=False, repr=False)
class RunBatch:
    """Runs that are trained together, and everything except the data set that determines the result.

    Attributes:
        experiment: The experiment of the runs.
        recipe: How the runs are trained.
        subset_ratio: Share of the training set that each sees, also of a given subset.
        runs: Numbers of the runs, given as `heldout_torch.load_runs` takes them.
        subset: Published indices that all runs train on, int64; None for a random subset for each run.

    Raises:
        HeldoutError: If the experiment or the recipe is something else, such as its name, or the subset is not one.
        ZooError: If the subset ratio is not between 0 and 1, or a run is not a number from 0 to 2^32 - 1.
    """

    experiment: Experiment
    recipe: Recipe
    subset_ratio: float
    runs: tuple[int, ...]
    subset: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Check what is given, and convert numbers of other types, such as NumPy's."""
        for name, kind, how in (("experiment", Experiment, "find_experiment"), ("recipe", Recipe, "read_recipe")):
            if not isinstance(given := getattr(self, name), kind):
                found = type(given).__name__
                raise HeldoutError(f"{name}: given {found}, expected {kind.__name__}, as {how} returns one")
        object.__setattr__(self, "subset_ratio", as_ratio(self.subset_ratio))
        object.__setattr__(self, "runs", tuple(as_runs(self.runs)))
        if self.subset is not None:
            subset = as_subset(as_array(self.subset, "subset"), self.experiment.train_examples)
            object.__setattr__(self, "subset", subset)

    def __repr__(self) -> str:
        return (
            f"RunBatch({self.experiment.name}/{self.subset_ratio!r}, runs {RunNumbers.of(self.runs)}, {self.recipe}"
            + (")" if self.subset is None else f", on a subset of {counted(len(self.subset), 'example')})")
        )

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
