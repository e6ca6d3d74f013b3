"""Register your own data set and network, train runs on random subsets, and compute their accuracy.

python examples/own_experiment.py ZOO      # docs/extend.md does the same on the command line
"""

from sys import argv, exit

import torch

from heldout_torch.data import ArrayDataset, as_stored, register_dataset
from heldout_torch.experiments import Experiment, Recipe
from heldout_torch.models import register_architecture
from heldout_torch.stats import RunTable
from heldout_torch.training import RunBatch, train_runs

zoo = argv[1] if len(argv) == 2 and argv[1][:1] != "-" else exit(print(__doc__) if "--help" in argv else __doc__)
images = (torch.randint(0, 256, (300, 1, 4, 4)) // (1 + (labels := torch.arange(300) % 2)[:, None, None, None])).byte()
data = ArrayDataset("bands", as_stored(images[:200], labels[:200]), as_stored(images[200:], labels[200:]), 2, 255.0)
register_dataset("bands", lambda path: data)
register_architecture("tiny", lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2)))
own = Experiment("bands-tiny", "bands", "tiny", {}, 200, 100, {"divide_by": 255.0})
assert not any(run.error for run in train_runs(RunBatch(own, Recipe(20, 20, 0.1), 0.5, (0, 1, 2)), data, zoo))
print(f"test accuracy: {RunTable.from_zoo(zoo, 'bands-tiny', 0.5).correct('test').mean():.3f}")
