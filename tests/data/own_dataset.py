"""A data set of a user's own, as a module outside the package registers it: stripes, in two directions."""

import torch

from heldout_torch.data import ArrayDataset, as_stored, register_dataset

TRAIN, TEST = 120, 40


def load(path):
    def split(n, seed):
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(n) % 2
        stripe = (torch.arange(6) % 2 * 200).to(torch.uint8)
        rows, columns = stripe[None].repeat(6, 1), stripe[:, None].repeat(1, 6)
        noise = torch.randint(0, 56, (n, 1, 6, 6), generator=generator, dtype=torch.uint8)
        return as_stored(torch.where(labels[:, None, None] == 0, rows, columns)[:, None] + noise, labels)

    return ArrayDataset("stripes", split(TRAIN, 0), split(TEST, 1), num_classes=2, divide_by=255.0)


register_dataset("stripes", load)
