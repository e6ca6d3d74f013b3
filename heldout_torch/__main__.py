"""`python -m heldout_torch`, the same as `heldout`."""

import sys

from heldout_torch.cli import main

if __name__ == "__main__":
    sys.exit(main())
