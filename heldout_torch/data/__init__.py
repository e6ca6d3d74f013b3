"""Data sets in published index order."""

from heldout_torch.data.dataset import ArrayDataset, Batch, Dataset, Split
from heldout_torch.data.digits import load_digits

__all__ = ["ArrayDataset", "Batch", "Dataset", "Split", "load_digits"]
