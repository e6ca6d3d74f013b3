"""`python -m heldout_torch.cli`, the same as `heldout`."""

import sys

from heldout_torch.cli import main

sys.exit(main())
