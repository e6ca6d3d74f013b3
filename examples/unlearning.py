"""How does a model behave that never saw some examples? Look at runs that held them out.

python examples/unlearning.py ZOO      # ZOO has runs of digits-mlp: half choose the examples, half show the effect
"""

from sys import argv, exit

import numpy as np

from heldout_torch import HeldoutError
from heldout_torch.stats import RunTable, memorization

zoo = argv[1] if len(argv) == 2 and argv[1][:1] != "-" else exit(print(__doc__) if "--help" in argv else __doc__)
try:
    table = RunTable.from_zoo(zoo, "digits-mlp", 0.7)
    half = table.runs // 2
    forget = np.argsort(-np.nan_to_num(memorization(table.select_runs(slice(half)))))[:20]
    others = table.select_runs(slice(half, None))
except HeldoutError as error:
    exit(f"error: {error}")
saw, right = others.mask(train=forget), others.correct("train", examples=forget)  # (runs, 20)
print(f"right on what is to be forgotten: {right[saw].mean():.2f} having seen it, {right[~saw].mean():.2f} without")
