"""Which examples were in the training set? Attack one run with the others as shadow models, by their margins.

python examples/membership_inference.py ZOO      # ZOO has runs of digits-mlp; lira.py is the full attack
"""

from sys import argv, exit

import numpy as np

import heldout_torch

zoo = argv[1] if len(argv) == 2 and argv[1][:1] != "-" else exit(print(__doc__) if "--help" in argv else __doc__)
digits = heldout_torch.load_dataset("digits")
try:
    target, *others = heldout_torch.load_runs("digits-mlp", 0.7, range(30), zoo=zoo)
except heldout_torch.HeldoutError as error:
    exit(f"error: {error}")
score, *shadows = (heldout_torch.evaluate(run, digits, "train").log_odds for run in (target, *others))
held_out = np.stack([~run.aux.trained_on for run in others])  # (shadow runs, examples)
outside = np.where(held_out, np.stack(shadows), np.nan)
evidence = (score - np.nanmean(outside, axis=0)) / np.nanstd(outside, axis=0).mean()
members, strangers = evidence[target.aux.trained_on], evidence[~target.aux.trained_on]
print(f"AUC of membership: {(members[:, None] > strangers).mean():.3f}")
