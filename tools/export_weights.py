"""Export TensorFlow runs to a zoo: the same command as `heldout export`, from a checkout."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from heldout_torch.cli import main

if __name__ == "__main__":
    sys.exit(main(["export", *sys.argv[1:]]))
