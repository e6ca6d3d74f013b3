"""Data sets in published index order."""

from pathlib import Path

from heldout_torch.data.dataset import ArrayDataset, Batch, Dataset, Split, SplitName
from heldout_torch.data.digits import load_digits
from heldout_torch.data.labels import read_labels
from heldout_torch.data.npz import load_npz
from heldout_torch.data.order import original_index, original_order, tfds_order
from heldout_torch.data.transforms import imagenet_transform, load_imagenet_image, unit_range
from heldout_torch.errors import DataError

__all__ = [
    "ArrayDataset",
    "Batch",
    "Dataset",
    "Split",
    "SplitName",
    "imagenet_transform",
    "load_dataset",
    "load_digits",
    "load_imagenet_image",
    "load_npz",
    "original_index",
    "original_order",
    "read_labels",
    "tfds_order",
    "unit_range",
]


def load_dataset(
    name: str, path: str | Path | None = None, download: bool = False, verify_checksums: bool = True
) -> Dataset:
    """Load a data set by name.

    Args:
        name: `cifar10`, `cifar100`, `mnist`, `digits` or `imagenet`; any name for an npz file.
        path: Folder of the data set's own files (CIFAR and MNIST as torchvision lays them out, ImageNet as in
            `heldout_torch.data.imagenet`), or an npz file as in `load_npz`. May be left out for the bundled digits.
        download: Fetch CIFAR or MNIST into the folder if they are not there.
        verify_checksums: Refuse CIFAR or MNIST files other than the published ones. False admits other data in
            their format.

    Raises:
        DataError: If the data set is unknown, files are missing, damaged or of another data set, or labels are no
            classes.
    """
    if path is not None and Path(path).suffix == ".npz":
        return load_npz(Path(path), name)
    if name == "digits" and path is None:
        return load_digits()
    if name not in ("cifar10", "cifar100", "mnist", "imagenet"):
        raise DataError(f"data set {name!r} is not known here: give the path of an npz file that holds it")
    if path is None:
        raise DataError(f"{name}: give the path of its folder")
    if name == "imagenet":
        from heldout_torch.data.imagenet import ImageNet

        return ImageNet(Path(path))
    from heldout_torch.data.originals import load_cifar, load_mnist

    if name == "mnist":
        return load_mnist(Path(path), download, verify_checksums)
    return load_cifar(name, Path(path), download, verify_checksums)
