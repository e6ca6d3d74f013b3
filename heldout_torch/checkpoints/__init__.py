"""TensorFlow checkpoints without TensorFlow: the file format, and the names Sonnet gives to variables."""

from heldout_torch.checkpoints.bundle import Checkpoint
from heldout_torch.checkpoints.sonnet import from_sonnet

__all__ = ["Checkpoint", "from_sonnet"]
