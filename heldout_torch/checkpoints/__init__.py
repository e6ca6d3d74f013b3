"""Read TensorFlow checkpoints without TensorFlow: the file format, and Sonnet's names of variables."""

from heldout_torch.checkpoints.bundle import Checkpoint
from heldout_torch.checkpoints.sonnet import from_sonnet

__all__ = ["Checkpoint", "from_sonnet"]
