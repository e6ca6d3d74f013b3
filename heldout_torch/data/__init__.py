"""Data sets in published index order."""

from heldout_torch.data.arrays import ArrayDataset, Split, as_stored
from heldout_torch.data.checks import SplitName
from heldout_torch.data.dataset import Batch, Dataset, Examples
from heldout_torch.data.digits import load_digits
from heldout_torch.data.imagenet import ImageNet
from heldout_torch.data.labels import read_labels
from heldout_torch.data.npz import load_npz
from heldout_torch.data.order import original_index, original_order, tfds_order
from heldout_torch.data.registry import list_datasets, load_dataset, register_dataset
from heldout_torch.data.torchvision_sets import AnyDataset, as_dataset
from heldout_torch.data.transforms import imagenet_transform, load_imagenet_image, unit_range

__all__ = [
    "AnyDataset",
    "ArrayDataset",
    "Batch",
    "Dataset",
    "Examples",
    "ImageNet",
    "Split",
    "SplitName",
    "as_dataset",
    "as_stored",
    "imagenet_transform",
    "list_datasets",
    "load_dataset",
    "load_digits",
    "load_imagenet_image",
    "load_npz",
    "original_index",
    "original_order",
    "read_labels",
    "register_dataset",
    "tfds_order",
    "unit_range",
]
