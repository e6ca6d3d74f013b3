"""Which labels are wrong? Change a tenth of them, train held-out runs, and rank examples by memorization.

python examples/label_noise.py ZOO      # adds the runs to the zoo, as digits-noisy
"""

from dataclasses import replace
from sys import argv, exit

import torch

from heldout_torch import HeldoutError, experiments, load_dataset, training
from heldout_torch.stats import RunTable, memorization, mislabel_auc

zoo = argv[1] if len(argv) == 2 and argv[1][:1] != "-" else exit(print(__doc__) if "--help" in argv else __doc__)
digits, experiment = load_dataset("digits"), replace(experiments.known_experiments()["digits-mlp"], name="digits-noisy")
shift = (torch.rand(1437, generator=torch.Generator().manual_seed(0)) < 0.1) * (1 + torch.arange(1437) % 9)
noisy = replace(digits, train=replace(digits.train, labels=(digits.train.labels + shift) % 10))
try:
    list(training.train_runs(training.RunBatch(experiment, experiment.recipe, 0.7, (*range(20),)), noisy, zoo))
    scores = memorization(RunTable.from_zoo(zoo, "digits-noisy", 0.7))
except HeldoutError as error:
    exit(f"error: {error}")
print(f"AUC of memorization for wrong labels: {mislabel_auc(scores, (shift > 0).numpy()):.3f}")
