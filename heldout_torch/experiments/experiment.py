"""What an experiment is, and which ones are known.

The known experiments are declared in `experiments.json` beside this file. An experiment of a user's own is declared by
an `experiment.json` in its folder, with the same fields.
"""

import functools
import json
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Self

from heldout_torch.errors import ZooError
from heldout_torch.storage.files import write_atomically

DEFINITION_FILE = "experiment.json"


@dataclass(frozen=True)
class Experiment:
    """A data set and an architecture, on which runs are trained.

    Attributes:
        name: Such as `cifar10-inception`; also the folder's name.
        dataset: Such as `cifar10`.
        architecture: A name of `heldout_torch.models.list_models()`.
        config: Options of the architecture.
        train_examples: Size of the whole training set, of which a run sees a subset.
        test_examples: Size of the test set.
        preprocessing: What happens to an image before the network: `divide_by`, and for ImageNet more.
        archive_url: Where the published TensorFlow archive lies, if there is one.
        archive_md5: MD5 of that archive.
    """

    name: str
    dataset: str
    architecture: str
    config: dict[str, Any]
    train_examples: int
    test_examples: int
    preprocessing: dict[str, Any] = field(default_factory=dict)
    archive_url: str | None = None
    archive_md5: str | None = None

    @classmethod
    def from_json(cls, name: str, record: Any, where: str) -> Self:
        """Read a declaration.

        Args:
            name: The experiment's name, which is not part of the record.
            record: The parsed JSON.
            where: What errors call the file.

        Raises:
            ZooError: If fields are missing, unknown or of another type.
        """
        types: dict[str, Any] = {
            "dataset": str, "architecture": str, "config": dict, "train_examples": int, "test_examples": int,
            "preprocessing": dict, "archive_url": (str, type(None)), "archive_md5": (str, type(None)),
        }  # fmt: skip
        if not isinstance(record, dict):
            raise ZooError(f"{where}: expected a JSON object that declares {name}")
        required = {"dataset", "architecture", "config", "train_examples", "test_examples"}
        if missing := required - record.keys():
            raise ZooError(f"{where}: the declaration of {name} lacks {', '.join(sorted(missing))}")
        for key, value in record.items():
            if key not in types:
                raise ZooError(f"{where}: field {key!r} of {name} is not known, expected {', '.join(types)}")
            if not isinstance(value, types[key]) or isinstance(value, bool):
                raise ZooError(f"{where}: field {key!r} of {name} is {value!r}, which is of the wrong type")
        return cls(name=name, **record)

    def to_bytes(self) -> bytes:
        """Give the contents of the `experiment.json` that declares the experiment."""
        record = {key: value for key, value in asdict(self).items() if key != "name"}
        return (json.dumps(record, indent=2, sort_keys=True) + "\n").encode()

    def write(self, folder: Path) -> None:
        """Declare the experiment in `folder/experiment.json`, for names that the package does not know."""
        write_atomically(folder / DEFINITION_FILE, self.to_bytes())


@functools.cache
def known_experiments() -> dict[str, Experiment]:
    """Give the experiments that the package itself declares, by name."""
    text = resources.files("heldout_torch.experiments").joinpath("experiments.json").read_text()
    return {name: Experiment.from_json(name, record, "experiments.json") for name, record in json.loads(text).items()}


def find_experiment(name: str, *folders: Path) -> Experiment:
    """Find what a name means.

    Args:
        name: Name of the experiment.
        *folders: Folders of this experiment that may hold an `experiment.json`; the first that does counts.

    Raises:
        ZooError: If nothing declares the experiment, or a file declares a known one otherwise.
    """
    declared = next((path for folder in folders if (path := folder / DEFINITION_FILE).is_file()), None)
    if declared is None:
        return read_declaration(name, None)
    try:
        data = declared.read_bytes()
    except OSError as error:
        raise ZooError(f"{declared}: cannot be read as JSON ({error})") from None
    return read_declaration(name, data, str(declared))


def read_declaration(name: str, data: bytes | None, where: str = DEFINITION_FILE) -> Experiment:
    """Find what a name means, given what a zoo says about it.

    Args:
        name: Name of the experiment.
        data: Contents of the `experiment.json` in the experiment's folder; None if there is none.
        where: What errors call that file.

    Raises:
        ZooError: As `find_experiment`.
    """
    known = known_experiments().get(name)
    if data is None:
        if known is None:
            raise ZooError(
                f"experiment {name!r} is not known: expected one of {', '.join(known_experiments())}, "
                f"or an {DEFINITION_FILE} in its folder that declares it"
            )
        return known
    try:
        record = json.loads(data)
    except ValueError as error:
        raise ZooError(f"{where}: cannot be read as JSON ({error})") from None
    experiment = Experiment.from_json(name, record, where)
    if known is not None and experiment != known:
        raise ZooError(f"{where}: {name} is declared by the package, a file cannot declare it otherwise")
    return experiment
