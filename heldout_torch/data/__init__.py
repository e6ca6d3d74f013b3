"""Data sets in published index order."""

from typing import TYPE_CHECKING

from heldout_torch.lazy import lazy_names

if TYPE_CHECKING:
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

__getattr__, __dir__ = lazy_names(
    "heldout_torch.data",
    {
        "heldout_torch.data.arrays": ("ArrayDataset", "Split", "as_stored"),
        "heldout_torch.data.checks": ("SplitName",),
        "heldout_torch.data.dataset": ("Batch", "Dataset", "Examples"),
        "heldout_torch.data.digits": ("load_digits",),
        "heldout_torch.data.imagenet": ("ImageNet",),
        "heldout_torch.data.labels": ("read_labels",),
        "heldout_torch.data.npz": ("load_npz",),
        "heldout_torch.data.order": ("original_index", "original_order", "tfds_order"),
        "heldout_torch.data.registry": ("list_datasets", "load_dataset", "register_dataset"),
        "heldout_torch.data.torchvision_sets": ("AnyDataset", "as_dataset"),
        "heldout_torch.data.transforms": ("imagenet_transform", "load_imagenet_image", "unit_range"),
    },
)
