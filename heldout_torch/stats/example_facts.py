"""What is known about the examples of a data set without their images: order, labels and file names.

The order of CIFAR and MNIST is a function of split and number, that of ImageNet is its published index. Labels are in
published files of scores and influence, in ImageNet's index, and in npz data sets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from heldout_torch.data.checks import SplitName, check_labels, check_split
from heldout_torch.data.imagenet_index import read_imagenet_index
from heldout_torch.data.labels import read_labels
from heldout_torch.data.npz import row_order
from heldout_torch.data.order import original_index as order_by_name
from heldout_torch.errors import DataError, counted
from heldout_torch.lazy import lazy_module
from heldout_torch.stats.arguments import as_kind, hold_arrays
from heldout_torch.stats.orders import Order
from heldout_torch.storage.npz import read_names, read_npz
from heldout_torch.storage.paths import Location, local_path

if TYPE_CHECKING:
    from heldout_torch import data
else:
    data = lazy_module("heldout_torch.data")

_LABELS: dict[str, set[str]] = {"train": {"labels", "tr_labels", "train__label"}, "test": {"tt_labels", "test__label"}}
_WITH_LABELS = {*_LABELS["train"], *_LABELS["test"], "tr_filenames"}
_KNOWN = ("original_index", "labels", "filenames")  # of each example, where it is known


@dataclass(frozen=True, eq=False)
class ExampleFacts:
    """The examples of one split; arrays are by published index.

    Attributes:
        size: Their number, n.
        original_index: Position in the data set's own files, int64 of shape (n,); None if it is not known.
        labels: int64 of shape (n,); None if they are not known.
        filenames: Text of shape (n,), for ImageNet; None if there are none, or they are not known.

    Raises:
        DataError: If an array is not of that shape.
    """

    size: int
    original_index: np.ndarray | None = None
    labels: np.ndarray | None = None
    filenames: np.ndarray | None = None

    def __post_init__(self) -> None:
        hold_arrays(self, _KNOWN)
        for name in _KNOWN:
            values = getattr(self, name)
            if values is not None and np.shape(values) != (self.size,):
                raise DataError(f"{name} has shape {np.shape(values)}, expected ({self.size},), one for each example")

    def __repr__(self) -> str:
        known = [name for name in _KNOWN if getattr(self, name) is not None]
        return f"ExampleFacts({self.size}; {', '.join(known) or 'nothing else'} known)"

    @property
    def order(self) -> Order:
        """How files about these examples count, `original` if the order of the data set's own files is known."""
        return "published" if self.original_index is None else "original"

    def needed_labels(self, why: str) -> np.ndarray:
        """Return the labels.

        Raises:
            DataError: If they are not known; `why` says what needs them.
        """
        if self.labels is None:
            raise DataError(
                f"{why}: give the data set, or files that have the labels, such as published "
                "scores, class-wise influence or imagenet_index.npz"
            )
        return self.labels

    def columns(self, published: np.ndarray, prefix: str = "") -> dict[str, np.ndarray]:
        """Return what is known of some examples, a column each.

        Args:
            published: Published indices, int64 of shape (k,).
            prefix: What the columns' names begin with.
        """
        known = {"original_index": self.original_index, "filename": self.filenames, "label": self.labels}
        columns = {name: values[published] for name, values in known.items() if values is not None}
        return {f"{prefix}{name}": values for name, values in {"published_index": published, **columns}.items()}


def facts_of(dataset: "data.AnyDataset", split: SplitName) -> ExampleFacts:
    """Return what a data set says of the examples of a split.

    Raises:
        DataError: If it is not a data set, or there is no such split.
    """
    from heldout_torch.data import as_dataset  # imports torch, which what is known by name alone does not need

    dataset = as_dataset(dataset, [split])
    labels, names = dataset.labels(split).numpy(), dataset.file_names(split)
    order = dataset.original_index(split).numpy()
    return ExampleFacts(len(labels), order, labels, None if names is None else np.array(names))


def original_index(dataset: "data.AnyDataset", split: SplitName) -> np.ndarray:
    """Return the position in the data set's original files of each published index, int64 of shape (n,).

    Raises:
        DataError: If it is not a data set, or there is no such split.
    """
    from heldout_torch.data import as_dataset

    return as_dataset(dataset, [split]).original_index(split).numpy()


def as_facts(value: Any) -> ExampleFacts:
    """Return what is known of examples, after checking its class.

    Raises:
        DataError: If it is something else, such as a data set.
    """
    if not isinstance(value, ExampleFacts):
        raise DataError(
            f"examples: given {type(value).__name__}, expected ExampleFacts, such as facts_of(dataset, 'train')"
        )
    return value


def find_facts(
    dataset: str, split: SplitName, size: int, files: Sequence[Location] = (), classes: int | None = None
) -> ExampleFacts:
    """Return what is known of a split by the name of its data set, and by files that hold labels.

    Args:
        dataset: Such as `cifar10`.
        split: `train` or `test`.
        size: Number of its examples.
        files: As in `heldout_torch.data.read_labels`; the first that has labels of the split counts, and need not be
            there for both. ImageNet's index also gives file names, an npz data set its order.
        classes: Number of labels, which those of files are compared with; not known by default.

    Raises:
        DataError: If the split is unknown, or a file is missing, damaged, about another number of examples, has no
            labels, or labels that are not classes.
    """
    split, dataset = check_split(split), as_kind(dataset, str, "dataset")
    order, labels, filenames = order_by_name(dataset, split, size), None, None
    for path in map(local_path, files):
        names = set(read_names(path))
        if not names & _WITH_LABELS:
            raise DataError(f"{path}: has no labels, expected one of {', '.join(sorted(_WITH_LABELS))} in it")
        if "tr_filenames" in names:
            filenames = np.array(read_imagenet_index(path)[split].names)
            _check(len(filenames), size, path, split)
        if order is None and f"{split}__index" in names:
            index = read_npz(path, wanted=[f"{split}__index"])[f"{split}__index"]
            _check(index.size, size, path, split)
            order = row_order(index, size, f"{path}: {split}__index")
        elif order is None and f"{split}__label" in names:
            order = np.arange(size)  # such a file counts as it is stored, where it says nothing else
        if labels is None and names & _LABELS[split]:
            labels = read_labels(path, dataset, split)
            _check(len(labels), size, path, split)
            check_labels(labels, labels.max(initial=0) + 1 if classes is None else classes, f"{path}: {split}")
    return ExampleFacts(size, order, labels, filenames)


def _check(found: int, size: int, path: Any, split: str) -> None:
    if found != size:
        raise DataError(f"{path}: is about {counted(found, 'example')} of the {split} set, the runs are about {size}")
