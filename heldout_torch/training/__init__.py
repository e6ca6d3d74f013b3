"""New held-out runs: recipes, subsets, and the training of many runs at once.

work = RunBatch(known_experiments()["digits-mlp"], find_recipe("digits-mlp"), 0.7, tuple(range(400)))
for trained in train_runs(work, load_dataset("digits"), Path("zoo")):
    ...
"""

from heldout_torch.training.batch import Trained
from heldout_torch.training.fit import RunBatch
from heldout_torch.training.recipes import Recipe, find_recipe, known_recipes, read_recipe
from heldout_torch.training.runs import train_runs

__all__ = ["Recipe", "RunBatch", "Trained", "find_recipe", "known_recipes", "read_recipe", "train_runs"]
