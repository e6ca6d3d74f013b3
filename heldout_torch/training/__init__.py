"""New held-out runs: subsets, and the training of many runs at once.

Such as::

    digits = known_experiments()["digits-mlp"]
    work = RunBatch(digits, digits.recipe, 0.7, tuple(range(400)))
    for trained in train_runs(work, load_dataset("digits"), Path("zoo")):
        ...
"""

from heldout_torch.experiments import Recipe, read_recipe
from heldout_torch.training.run_batch import RunBatch
from heldout_torch.training.runs import train_runs
from heldout_torch.training.worker import Trained

__all__ = ["Recipe", "RunBatch", "Trained", "read_recipe", "train_runs"]
