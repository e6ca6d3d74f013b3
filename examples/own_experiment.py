"""Register your own data set and network, train runs on random subsets, and compute their accuracy.

python examples/own_experiment.py ZOO      # docs/extend.md does the same on the command line
"""

from sys import argv, exit

import torch

from heldout_torch import HeldoutError, data, experiments, register_architecture, stats, training

zoo = argv[1] if len(argv) == 2 and argv[1][:1] != "-" else exit(print(__doc__) if "--help" in argv else __doc__)
images = (torch.randint(0, 256, (300, 1, 4, 4)) // (1 + (labels := torch.arange(300) % 2)[:, None, None, None])).byte()
train, test = data.as_stored(images[:200], labels[:200]), data.as_stored(images[200:], labels[200:])
bands = data.ArrayDataset("bands", train, test, num_classes=2, divide_by=255.0)
data.register_dataset("bands", lambda path: bands)
register_architecture("tiny", lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2)))
own = experiments.Experiment("bands-tiny", "bands", "tiny", {}, 200, 100, {"divide_by": 255.0})
try:
    list(training.train_runs(training.RunBatch(own, training.Recipe(20, 20, 0.1), 0.5, (0, 1, 2)), bands, zoo))
    print(f"test accuracy: {stats.RunTable.from_zoo(zoo, 'bands-tiny', 0.5).correct('test').mean():.3f}")
except HeldoutError as error:
    exit(f"error: {error}")
