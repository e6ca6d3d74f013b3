"""Train new held-out runs: random subsets, and many runs at once.

Example::

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
