"""Signs of life on stderr for work that takes a while."""

from heldout_torch.storage.progress import told_if_slow
from heldout_torch.storage.progress import tracked as progress

__all__ = ["progress", "told_if_slow"]
