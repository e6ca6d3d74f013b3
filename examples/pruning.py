"""Which half of the training set is enough? Train on the most and on the least memorized half, and compare.

python examples/pruning.py ZOO      # ZOO has runs of digits-mlp; the new runs are added to it
"""

from sys import argv, exit

import numpy as np

from heldout_torch import list_runs, load_run
from heldout_torch.cli import main as heldout

zoo = argv[1] if len(argv) == 2 and argv[1][:1] != "-" else exit(print(__doc__) if "--help" in argv else __doc__)
accuracy = {}
which = ["--experiment", "digits-mlp", "--subset-ratio", "0.7"]
for end in ("highest", "lowest"):
    keep = ["--by", "memorization", "--fraction", "0.5", f"--{end}", "--out", f"{end}.npz"]
    heldout(["stats", "keep", zoo, *which, *keep, "--quiet"]) and exit(1)
    train = ["--subset", f"{end}.npz", "--name", f"digits-{end}", "--runs", "0-4", "--zoo", zoo, "--quiet"]
    heldout(["train", "digits-mlp", *train]) and exit(1)
    runs = [load_run(key, zoo=zoo) for key in list_runs(zoo, f"digits-{end}")]
    accuracy[end] = np.mean([run.aux.correctness_test.mean() for run in runs])
print(f"test accuracy of the most memorized half less the least: {accuracy['highest'] - accuracy['lowest']:+.3f}")
