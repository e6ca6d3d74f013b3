"""Handwritten digits, 8x8 pixels: the data set of the bundled sample.

The file beside this one holds scikit-learn's `load_digits` (E. Alpaydin and C. Kaynak, "Optical Recognition of
Handwritten Digits", UCI Machine Learning Repository, 1998, CC BY 4.0): the first 1,437 images train, the other 360
test. Published index is scikit-learn's order, counted from 0 in each split.
"""

from importlib import resources
from pathlib import Path

from heldout_torch.data.arrays import ArrayDataset
from heldout_torch.data.npz import load_npz


def load_digits() -> ArrayDataset:
    """Load the bundled digits: 1,437 + 360 images of shape (1, 8, 8), values 0 ... 16."""
    return load_npz(Path(str(resources.files("heldout_torch.data"))) / "digits.npz", "digits")
