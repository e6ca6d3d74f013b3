"""Data sets by name: those of this package, and those that users register."""

import inspect
import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from heldout_torch.data.dataset import Dataset, is_dataset
from heldout_torch.data.digits import load_digits
from heldout_torch.data.imagenet import ImageNet
from heldout_torch.data.npz import load_npz
from heldout_torch.data.originals import load_cifar, load_mnist
from heldout_torch.errors import DataError, nearest
from heldout_torch.storage.paths import Location, local_path

Loader = Callable[..., Dataset]


def register_dataset(name: str, load: Loader) -> None:
    """Register a data set of your own under a name, so that runs of it can be trained, evaluated and reported.

    If the module that registered a name registers it again, as when a cell of a notebook is run twice, the data set is
    replaced.

    Args:
        name: Such as `my-images`; an experiment names it as its `dataset`.
        load: Returns the data set, such as an `ArrayDataset` of that name, given its path (`None` if the user named
            none). It may also take these options of `load_dataset` as keyword arguments: `download`,
            `verify_checksums`, `allow_missing`.

    Raises:
        DataError: If the name belongs to a data set of this package, or of another module, or `load` cannot be called.
    """
    if not callable(load):
        raise DataError(f"data set {name!r}: {reprlib.repr(load)} loads nothing, expected a function of a path")
    known = _find(name)
    if known is not None and LOADERS[known].__module__ != load.__module__:
        raise DataError(f"data set {name!r} is registered by {LOADERS[known].__module__} already; take another name")
    LOADERS[known or name] = load


def list_datasets() -> list[str]:
    """Return the names of data sets that `load_dataset` can load without an npz file."""
    return sorted(LOADERS)


def load_dataset(
    name: str,
    path: Location | None = None,
    *,
    download: bool = False,
    verify_checksums: bool = True,
    allow_missing: bool = False,
) -> Dataset:
    """Load a data set by name.

    Args:
        name: `cifar10`, `cifar100`, `mnist`, `digits`, `imagenet` (`CIFAR-10` and the like are understood), or a name
            given to `register_dataset`; any name for an npz file.
        path: Folder of the data set's own files (CIFAR and MNIST as torchvision lays them out, ImageNet as `ImageNet`
            says), or an npz file as in `load_npz`. May be left out for the bundled digits.
        download: Fetch CIFAR or MNIST into the folder if they are not there.
        verify_checksums: Refuse CIFAR or MNIST files that are not the published ones. False accepts other data in their
            format.
        allow_missing: Load ImageNet even if files are missing, and leave their examples out.

    Raises:
        DataError: If the data set is unknown, files are missing, damaged or of another data set, labels are not
            classes, or the data set does not take an option.
    """
    known = _find(name)
    place = None if path is None else local_path(path)
    if place is not None and place.suffix.lower() == ".npz" and (known is None or known in _BUILT_IN):
        return load_npz(place, known or name)
    if known is None:
        raise DataError(
            f"data set {name!r} is not known, expected one of {', '.join(list_datasets())}, or any name and the path "
            f"of an npz file that holds it, or one of your own once its module is imported{nearest(name, LOADERS)}"
        )
    options = {"download": download, "verify_checksums": verify_checksums, "allow_missing": allow_missing}
    taken = inspect.signature(LOADERS[known]).parameters
    if unfit := [key for key, value in options.items() if value != _DEFAULTS[key] and key not in taken]:
        raise DataError(f"{known}: {unfit[0]}={options[unfit[0]]} is not an option of this data set")
    dataset = LOADERS[known](place, **{key: value for key, value in options.items() if key in taken})
    if not is_dataset(dataset):
        raise DataError(
            f"data set {known!r}: its loader returned {reprlib.repr(dataset)}, expected such as an ArrayDataset"
        )
    if dataset.name != known:
        raise DataError(f"data set {known!r}: its loader returned a data set named {dataset.name!r}")
    return dataset


def _find(name: str) -> str | None:
    if not isinstance(name, str):
        raise DataError(f"{reprlib.repr(name)} is not a name of a data set, expected such as 'cifar10'")
    plain = {_plain(known): known for known in LOADERS}
    return name if name in LOADERS else plain.get(_plain(name))


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()


def _needed(name: str, path: Path | None) -> Path:
    if path is None:
        raise DataError(f"{name}: give the path of its folder, or of an npz file that holds it")
    return path


def _cifar10(path: Path | None, download: bool, verify_checksums: bool) -> Dataset:
    return load_cifar("cifar10", _needed("cifar10", path), download, verify_checksums)


def _cifar100(path: Path | None, download: bool, verify_checksums: bool) -> Dataset:
    return load_cifar("cifar100", _needed("cifar100", path), download, verify_checksums)


def _mnist(path: Path | None, download: bool, verify_checksums: bool) -> Dataset:
    return load_mnist(_needed("mnist", path), download, verify_checksums)


def _digits(path: Path | None) -> Dataset:
    if path is not None:
        raise DataError(f"{path}: the digits are part of the package; give no path, or an npz file")
    return load_digits()


def _imagenet(path: Path | None, allow_missing: bool) -> Dataset:
    return ImageNet(_needed("imagenet", path), allow_missing=allow_missing)


_DEFAULTS: dict[str, Any] = {"download": False, "verify_checksums": True, "allow_missing": False}
LOADERS: dict[str, Loader] = {
    "cifar10": _cifar10,
    "cifar100": _cifar100,
    "digits": _digits,
    "imagenet": _imagenet,
    "mnist": _mnist,
}
_BUILT_IN = frozenset(LOADERS)
