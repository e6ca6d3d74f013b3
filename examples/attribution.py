"""How good is an attribution? Compute its linear datamodeling score on runs that it was not made from.

python examples/attribution.py ZOO      # ZOO has runs of digits-mlp; half of them make a ridge datamodel
"""

from sys import argv, exit

import numpy as np

import heldout_torch
from heldout_torch.stats import OutputTable, datamodels, lds

zoo = argv[1] if len(argv) == 2 and argv[1][:1] != "-" else exit(print(__doc__) if "--help" in argv else __doc__)
try:
    digits, runs = heldout_torch.load_dataset("digits"), list(heldout_torch.load_runs("digits-mlp", 0.7, zoo=zoo))
    margins = np.stack([heldout_torch.evaluate(run, digits, "test").log_odds for run in runs])  # (runs, test)
    table = OutputTable.from_arrays(np.stack([run.aux.trained_on for run in runs]), margins)
    half = table.runs // 2
    scores = datamodels(table.select_runs(slice(half))).weights  # (test, train); use your own scores instead
    found = lds(scores, table.select_runs(slice(half, None)))
except heldout_torch.HeldoutError as error:
    exit(f"error: {error}")
print(f"linear datamodeling score: {found.mean:.3f}, 95 % from {found.interval[0]:.3f} to {found.interval[1]:.3f}")
