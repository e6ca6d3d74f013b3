"""`aux_arrays.npz`: which examples a run trained on, and which it classifies correctly."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np

from heldout_torch.errors import ZooError, os_errors
from heldout_torch.experiments import Experiment
from heldout_torch.storage.files import write_atomically
from heldout_torch.storage.notebook import as_code
from heldout_torch.storage.npz import npz_bytes, read_npz

Part = Literal["train", "removed", "test"]
PARTS: tuple[Part, ...] = ("train", "removed", "test")  # of the examples: trained on, held out, and the test set
_TEST = ("correctness_test", "index_test")


@dataclass(frozen=True, eq=False, repr=False)
class AuxArrays:
    """The arrays of one `aux_arrays.npz`, named as in the file.

    Indices are published indices. The train and removed examples together are the whole training set.

    Attributes:
        correctness_train: 0/1 of shape (train,), whether the run classifies each example that it trained on correctly;
            a bool mask if it was read from a file.
        correctness_removed: The same for the held-out examples, shape (removed,).
        correctness_test: The same for the test set, shape (test,).
        index_train: Indices of shape (train,) that `correctness_train` is about.
        index_removed: Indices of shape (removed,) that `correctness_removed` is about.
        index_test: Indices of shape (test,) that `correctness_test` is about.
        subsample_idx: The indices that the run trained on, shape (train,): those of `index_train`, perhaps in another
            order.
    """

    correctness_train: np.ndarray
    correctness_removed: np.ndarray
    correctness_test: np.ndarray
    index_train: np.ndarray
    index_removed: np.ndarray
    index_test: np.ndarray
    subsample_idx: np.ndarray

    @classmethod
    def of(cls, subset: np.ndarray, correct_train: np.ndarray, correct_test: np.ndarray) -> Self:
        """Make the arrays of a run from what it trained on and what it classifies correctly.

        Args:
            subset: Published indices of shape (train,) that it trained on, or a mask, bool of shape (n,).
            correct_train: 0/1 of shape (n,), for the whole training set, by published index.
            correct_test: 0/1 of shape (m,), for the test set, by published index.

        Raises:
            ZooError: If a mask has another length.
        """
        if subset.dtype == bool:  # as `trained_on` is
            if subset.shape != (n := len(correct_train),):
                raise ZooError(f"the subset is a mask of shape {subset.shape}, but there are {n} training examples")
            subset = np.flatnonzero(subset)
        train, test = (np.arange(len(correct), dtype=subset.dtype) for correct in (correct_train, correct_test))
        removed = np.setdiff1d(train, subset, assume_unique=True)  # or it sorts
        return cls(correct_train[subset], correct_train[removed], correct_test, subset, removed, test, subset)

    @classmethod
    def read(cls, source: Path | bytes, name: str | None = None) -> Self:
        """Read and validate a file; nothing in it is ever unpickled.

        Other arrays in the file are not read. If the two arrays of the test set are missing, they are taken as empty.

        Args:
            source: The file, or its contents.
            name: What errors call it; the path by default.

        Raises:
            ZooError: If it is not an npz file, arrays are missing, or `validate` refuses them.
        """
        name = name or ("aux_arrays.npz" if isinstance(source, bytes) else str(source))
        needed = [field.name for field in fields(cls) if field.name not in _TEST]
        arrays = read_npz(source, name, needed, _TEST, error=ZooError)
        if len(arrays) == len(needed) + 1:
            raise ZooError(f"{name}: holds only one of {' and '.join(_TEST)}")
        aux = cls(**{field.name: arrays.get(field.name, np.zeros(0, np.int64)) for field in fields(cls)})
        aux.validate(name)
        # Numbers 0 and 1 would be taken for indices, not for a mask, wherever one chooses by them.
        masks = {name: values.astype(bool) for name, values in vars(aux).items() if name.startswith("correct")}
        return replace(aux, **masks)

    def to_bytes(self) -> bytes:
        """Return the contents of an npz file; the same arrays give the same bytes. Booleans are written as 0 and 1."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        numbers = {name: array.astype(np.uint8) if array.dtype == bool else array for name, array in arrays.items()}
        return npz_bytes(numbers, compress=True)

    def write(self, path: Path) -> None:
        """Validate and write the file atomically.

        Raises:
            ZooError: As `validate`, or if it cannot be written.
        """
        self.validate(str(path))
        with os_errors(ZooError, f"{path}: cannot be written"):
            write_atomically(path, self.to_bytes())

    def validate(self, name: str = "aux_arrays.npz") -> None:
        """Check that the arrays are consistent.

        Raises:
            ZooError: If lengths disagree, correctness is not 0/1, indices repeat, train and removed are not together
                0 ... n-1, or `subsample_idx` is another set than `index_train`.
        """
        for field in fields(self):
            array = getattr(self, field.name)
            if array.ndim != 1 or array.dtype.kind not in "biuf":
                raise ZooError(f"{name}: {field.name} is {array.dtype} {array.shape}, expected a row of numbers")
        for split in PARTS:
            correctness, index = getattr(self, f"correctness_{split}"), getattr(self, f"index_{split}")
            if len(correctness) != len(index):
                raise ZooError(f"{name}: correctness_{split} has {len(correctness)} values, index_{split} {len(index)}")
            if not ((correctness == 0) | (correctness == 1)).all():
                raise ZooError(f"{name}: correctness_{split} has values other than 0 and 1")
        ordered = {}
        for key in ("index_train", "index_removed", "index_test", "subsample_idx"):
            index = getattr(self, key)
            if index.dtype.kind not in "iu":
                raise ZooError(f"{name}: {key} is {index.dtype}, expected integers")
            if index.size and (index.min() < 0 or index.max() >= 2**31):
                raise ZooError(f"{name}: {key} has indices outside 0 ... 2^31-1")
            ordered[key] = np.sort(index)
            if (ordered[key][1:] == ordered[key][:-1]).any():
                raise ZooError(f"{name}: {key} names an example twice")
        whole = np.concatenate([self.index_train, self.index_removed]).astype(np.int64)
        if len(whole) and (whole.max() >= len(whole) or np.bincount(whole).max() > 1):
            raise ZooError(f"{name}: index_train and index_removed are not together 0 ... {len(whole) - 1}")
        if not np.array_equal(ordered["subsample_idx"], ordered["index_train"]):
            raise ZooError(f"{name}: subsample_idx and index_train name different examples")

    def __eq__(self, other: object) -> bool:
        """Return whether all arrays are equal."""
        if not isinstance(other, AuxArrays):
            return NotImplemented
        return all(np.array_equal(getattr(self, f.name), getattr(other, f.name)) for f in fields(self))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        parts = []
        for split in PARTS:
            correct = getattr(self, f"correctness_{split}")
            share = f", {correct.mean():.4f} correct" if len(correct) else ""
            parts.append(f"{split}: {len(correct)}{share}")
        return f"AuxArrays({'; '.join(parts)})"

    _repr_html_ = as_code

    @property
    def train_examples(self) -> int:
        """Size of the whole training set, n."""
        return len(self.index_train) + len(self.index_removed)

    @property
    def trained_on(self) -> np.ndarray:
        """Whether the run trained on each example, bool of shape (n,), by published index."""
        mask = np.zeros(self.train_examples, bool)
        mask[self.index_train] = True
        return mask  # (n,)

    @property
    def correct_train(self) -> np.ndarray:
        """Correctness of shape (n,), bool, by published index, over the whole training set (train and removed)."""
        correct = np.zeros(self.train_examples, bool)
        correct[self.index_train] = self.correctness_train
        correct[self.index_removed] = self.correctness_removed
        return correct  # (n,)

    @property
    def correct_test(self) -> np.ndarray:
        """Correctness of shape (m,), bool, by published index, over the test set.

        Raises:
            ZooError: If `index_test` is not 0 ... m-1 in some order.
        """
        m = len(self.index_test)
        if m and self.index_test.max() >= m:
            raise ZooError(f"index_test is not 0 ... {m - 1} in some order, so its examples cannot be put into a table")
        correct = np.zeros(m, bool)
        correct[self.index_test] = self.correctness_test
        return correct  # (m,)


def read_aux(source: Path | bytes, experiment: Experiment, name: str) -> AuxArrays:
    """Read `aux_arrays.npz` and check that it is about this experiment's data set.

    Raises:
        ZooError: As `AuxArrays.read`, or if the numbers of examples are another data set's.
    """
    aux = AuxArrays.read(source, name)
    train, test = aux.train_examples, len(aux.index_test)
    if train != experiment.train_examples or test not in (experiment.test_examples, 0):
        raise ZooError(
            f"{name}: is about {train} training and {test} test examples, {experiment.name} has "
            f"{experiment.train_examples} and {experiment.test_examples}; is it another experiment's?"
        )
    return aux
