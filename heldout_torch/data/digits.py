"""Handwritten digits, 8x8 pixels: the data set of the bundled sample.

The file beside this one holds scikit-learn's `load_digits` (E. Alpaydin and C. Kaynak, "Optical Recognition of
Handwritten Digits", UCI Machine Learning Repository, 1998, CC BY 4.0): the first 1,437 images train, the other 360
test. Published index is scikit-learn's order, counted from 0 in each split.
"""

from importlib import resources

import numpy as np
import torch

from heldout_torch.data.dataset import ArrayDataset, Split

TRAIN_EXAMPLES = 1437


def load_digits() -> ArrayDataset:
    """Load the bundled digits: 1,437 + 360 images of shape (1, 8, 8), values 0 ... 16."""
    with resources.files("heldout_torch.data").joinpath("digits.npz").open("rb") as file, np.load(file) as arrays:
        splits = {
            name: Split(
                images=torch.from_numpy(arrays[f"{name}__image"])[:, None],  # (n, 1, 8, 8)
                labels=torch.from_numpy(arrays[f"{name}__label"].astype(np.int64)),
                index=torch.arange(len(arrays[f"{name}__label"])),
                original_index=torch.arange(len(arrays[f"{name}__label"])),
            )
            for name in ("train", "test")
        }
    return ArrayDataset("digits", splits["train"], splits["test"], num_classes=10, divide_by=16.0)
