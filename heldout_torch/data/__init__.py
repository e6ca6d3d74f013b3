"""Data sets in published index order."""

from heldout_torch.data.dataset import Dataset, Split
from heldout_torch.data.digits import load_digits

__all__ = ["Dataset", "Split", "load_digits"]
