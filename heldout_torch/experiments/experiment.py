"""Experiments: a data set and an architecture, for which runs are trained."""

import json
import math
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from heldout_torch.errors import ZooError, nearest
from heldout_torch.experiments.recipe import Recipe

DEFINITION_FILE = "experiment.json"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_FILES = ("manifest.json", "readme.md")  # of a zoo, where the folders of experiments are; disks may ignore capitals
_MAX_EXAMPLES = 2**31 - 1  # aux arrays count in int32
_MAX_DEPTH = 8
_DIFFERENCES = 3  # that are named
_TYPES: dict[str, Any] = {
    "dataset": str, "architecture": str, "config": dict, "train_examples": int, "test_examples": int,
    "preprocessing": dict,
}  # fmt: skip


@dataclass(frozen=True)
class Archive:
    """A published TensorFlow archive.

    Attributes:
        url: Where it lies.
        md5: MD5 of its compressed bytes; None if it is not known.
        size_gb: Its compressed size in units of 10^9 bytes, rounded; None if it is not known.
    """

    url: str
    md5: str | None = None
    size_gb: float | None = None

    @classmethod
    def from_record(cls, record: Any, where: str) -> Self:
        """Read an `[archive]` table.

        Raises:
            ZooError: If a field is missing, unknown or of another type.
        """
        types: dict[str, Any] = {"url": str, "md5": str, "size_gb": (int, float)}
        if not isinstance(record, dict) or "url" not in record:
            raise ZooError(f"{where}: [archive] must be a table with url and, if known, md5 and size_gb")
        for key, value in record.items():
            if key not in types or not isinstance(value, types[key]) or isinstance(value, bool):
                raise ZooError(f"{where}: field {reprlib.repr(key)} of [archive] is unknown or of the wrong type")
        return cls(**record)


@dataclass(frozen=True)
class Experiment:
    """A data set and an architecture, for which runs are trained.

    Two experiments are equal if their runs can be compared. The archive and the recipe are not compared.

    Attributes:
        name: Such as `cifar10-inception`; also the name of its folder in a zoo.
        dataset: Such as `cifar10`.
        architecture: A name of `heldout_torch.models.list_models()`.
        config: Options of the architecture.
        train_examples: Size of the whole training set, of which a run sees a subset.
        test_examples: Size of the test set.
        preprocessing: How images are preprocessed for the network: `divide_by`, and more for ImageNet.
        archive: The published TensorFlow archive, if there is one. It is not stored in zoos.
        recipe: How runs are trained, if that is known. It is not stored in zoos.
    """

    name: str
    dataset: str
    architecture: str
    config: dict[str, Any] = field(hash=False)
    train_examples: int
    test_examples: int
    preprocessing: dict[str, Any] = field(default_factory=dict, hash=False)
    archive: Archive | None = field(default=None, compare=False)
    recipe: Recipe | None = field(default=None, compare=False)

    @classmethod
    def from_json(cls, name: str, record: Any, where: str) -> Self:
        """Read a declaration as a zoo keeps it.

        Args:
            name: The experiment's name, which is not part of the record.
            record: The parsed JSON.
            where: What errors call the file.

        Raises:
            ZooError: If fields are missing, unknown or of another type.
        """
        if isinstance(record, dict):
            # Older zoos also hold an archive's address and MD5, which nothing takes from there.
            record = {key: value for key, value in record.items() if key not in ("archive_url", "archive_md5")}
        return cls(name, **_checked(name, record, where))

    @classmethod
    def from_toml(cls, name: str, record: Mapping[str, Any], where: str) -> Self:
        """Read a declaration from a person's TOML file: as in a zoo, and tables `[archive]` and `[recipe]`.

        Args:
            name: The experiment's name, which is not part of the record.
            record: The parsed TOML.
            where: What errors call the file.

        Raises:
            HeldoutError: As `from_json`, or if the archive or the recipe is bad.
        """
        check_name(name, where)
        declared = {key: value for key, value in record.items() if key not in ("archive", "recipe")}
        archive, recipe = record.get("archive"), record.get("recipe")
        return cls(
            name,
            **_checked(name, declared, where),
            archive=None if archive is None else Archive.from_record(archive, where),
            recipe=None if recipe is None else Recipe.from_record(recipe, where),
        )

    def to_record(self) -> dict[str, Any]:
        """Return the declaration as a zoo keeps it; the name is not part of it."""
        return {key: getattr(self, key) for key in _TYPES}

    def to_bytes(self) -> bytes:
        """Return the contents of the `experiment.json` that declares the experiment."""
        return (json.dumps(self.to_record(), indent=2, sort_keys=True) + "\n").encode()

    def difference(self, other: "Experiment") -> str:
        """Return the fields in which another experiment differs, ignoring the names; an empty string if there are none.

        >>> one, other = (Experiment("e", "digits", "mlp", {"widths": [width]}, 9, 1) for width in (64, 128))
        >>> one.difference(other)
        'config.widths is [64], not [128]'
        """
        ours, theirs = (_flat(json.loads(json.dumps(experiment.to_record()))) for experiment in (self, other))
        return differences(ours, theirs)


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """Return the first fields in which two records differ; an empty string if there are none.

    >>> differences({"epochs": 12, "momentum": 0.9}, {"epochs": 20, "momentum": 0.9})
    'epochs is 12, not 20'
    """
    lacking = object()
    fields = [field for field in {**ours, **theirs} if ours.get(field, lacking) != theirs.get(field, lacking)]
    shown = (f"{field} is {_shown(ours, field)}, not {_shown(theirs, field)}" for field in fields[:_DIFFERENCES])
    return ", ".join(shown)


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record with the fields of its tables beside the others, as `table.field`."""
    flat: dict[str, Any] = {}
    for key, value in record.items():
        flat |= {f"{key}.{name}": part for name, part in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def _shown(record: Mapping[str, Any], field: str) -> str:
    return reprlib.repr(record[field]) if field in record else "absent"


def is_experiment_name(name: Any) -> bool:
    """Return whether a name can be an experiment's, and so a folder's in a zoo: letters, digits, '-', '_' and '.'."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None and name.lower() not in _FILES


def check_name(name: str, where: str = "") -> None:
    """Check that a name can be an experiment's.

    Args:
        name: The name.
        where: What errors begin with, if it comes from a file.

    Raises:
        ZooError: If it cannot.
    """
    if not is_experiment_name(name):
        expected = "letters, digits, '-', '_' and '.'"
        if isinstance(name, str) and name.lower() in _FILES:
            expected = "another one than that of a zoo's file"
        line = f"{reprlib.repr(name)} is not a name for an experiment, expected {expected}"
        raise ZooError(f"{where}: {line}" if where else line)


def _checked(name: str, record: Any, where: str) -> dict[str, Any]:
    """Return a record whose fields are those of a declaration, or raise ZooError."""
    if not isinstance(record, dict):
        raise ZooError(f"{where}: expected fields that declare {name}: {', '.join(_TYPES)}")
    if missing := _TYPES.keys() - record.keys() - {"preprocessing"}:
        raise ZooError(f"{where}: the declaration of {name} lacks {', '.join(sorted(missing))}")
    expected = ", ".join(_TYPES)
    for key, value in record.items():
        if key not in _TYPES:
            raise ZooError(
                f"{where}: field {reprlib.repr(key)} of {name} is not known, expected {expected}{nearest(key, _TYPES)}"
            )
        if not isinstance(value, _TYPES[key]) or isinstance(value, bool):
            raise ZooError(f"{where}: field {key!r} of {name} is {reprlib.repr(value)}, which is of the wrong type")
        if not _is_plain(value, _MAX_DEPTH):
            raise ZooError(
                f"{where}: field {key!r} of {name} is nested too deeply, or has values that JSON does not have"
            )
    for key, least in (("train_examples", 1), ("test_examples", 0)):
        if not least <= record[key] <= _MAX_EXAMPLES:
            raise ZooError(f"{where}: field {key!r} of {name} is out of {least} ... {_MAX_EXAMPLES}")
    return record


def _is_plain(value: Any, depth: int) -> bool:
    """Whether a value is made of JSON's types alone, its numbers finite, nested at most so deeply."""
    if isinstance(value, dict):
        return depth > 0 and all(isinstance(key, str) and _is_plain(part, depth - 1) for key, part in value.items())
    if isinstance(value, list):
        return depth > 0 and all(_is_plain(part, depth - 1) for part in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, (str, int))
