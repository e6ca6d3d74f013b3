"""Data sets in published index order."""

from heldout_torch.data.dataset import ArrayDataset, Batch, Dataset, Split
from heldout_torch.data.digits import load_digits
from heldout_torch.data.order import original_order, tfds_order

__all__ = ["ArrayDataset", "Batch", "Dataset", "Split", "load_digits", "original_order", "tfds_order"]
