"""Find experiments: the package's own (TOML files next to this one), users' files, and declarations in zoos."""

import functools
import json
from collections.abc import Collection
from importlib import resources
from pathlib import Path

from heldout_torch.errors import HeldoutError, Named, ZooError, nearest
from heldout_torch.experiments.experiment import DEFINITION_FILE, Experiment, is_experiment_name
from heldout_torch.experiments.recipe import Recipe
from heldout_torch.experiments.toml_files import MAX_BYTES, parse_toml, read_toml
from heldout_torch.storage.files import open_plain
from heldout_torch.storage.paths import local_path

_SUFFIX = ".toml"


@functools.cache
def known_experiments() -> dict[str, Experiment]:
    """Return the experiments that the package itself declares, by name; another name is a ZooError."""
    known = {}
    for file in sorted(resources.files("heldout_torch.experiments").iterdir(), key=lambda file: file.name):
        if is_experiment_file(file.name):
            name = file.name.removesuffix(_SUFFIX)
            known[name] = Experiment.from_toml(name, parse_toml(file.read_bytes(), file.name), file.name)
    return Named("an experiment of the package", ZooError, known)


def is_experiment_file(name_or_path: str | Path) -> bool:
    """Return whether a user means a file of an experiment: the name or path ends in `.toml`."""
    return str(name_or_path).rstrip("/'\" \n").lower().endswith(_SUFFIX)


def find_experiment(name_or_path: str | Path) -> Experiment:
    """Return the experiment of a name or file that a user gives.

    Use it only for names that a user types or passes. For names from a zoo or an archive, use `read_declaration`, which
    opens no file.

    Args:
        name_or_path: A name of `known_experiments()`, or the path of a TOML file like those of this package, called
            as the experiment: `my-experiment.toml`.

    Raises:
        HeldoutError: If the name is not known, or the file cannot be read or is not a declaration.
    """
    if not is_experiment_file(name_or_path):
        if not is_experiment_name(text := str(name_or_path)) and local_path(text).exists():
            raise HeldoutError(
                f"{text}: is not an experiment's file, expected a name ending in {_SUFFIX}, or an experiment"
            )
        return read_declaration(str(name_or_path), None)
    path = local_path(name_or_path)
    experiment = Experiment.from_toml(path.name[: -len(_SUFFIX)], read_toml(path), str(path))
    check_known(experiment, str(path))
    return experiment


def declared_in(name: str, folder: Path) -> Experiment:
    """Return the experiment of a name in a zoo or TensorFlow tree.

    Args:
        name: Name of the experiment.
        folder: The experiment's, which may hold an `experiment.json`, and need not exist.

    Raises:
        ZooError: As `read_declaration`, or if the file cannot be read.
    """
    path = folder / DEFINITION_FILE
    try:
        with open(path, "rb", opener=open_plain) as file:
            return read_declaration(name, file.read(MAX_BYTES + 1), str(path))
    except (FileNotFoundError, NotADirectoryError):
        if (known := known_experiments().get(name)) is not None:  # what else the zoo declares need not be looked for
            return known
        beside = {path.parent.name for path in folder.parent.glob(f"*/{DEFINITION_FILE}")}
        return read_declaration(name, None, others=beside)
    except OSError as error:
        raise ZooError(f"{path}: cannot be read ({error.strerror})") from None


def read_declaration(
    name: str, data: bytes | None, where: str = DEFINITION_FILE, others: Collection[str] = ()
) -> Experiment:
    """Return the experiment of a name, given the declaration in a zoo.

    Args:
        name: Name of the experiment.
        data: Contents of the `experiment.json` in the experiment's folder; None if there is none.
        where: What errors call that file.
        others: Names that the zoo declares; one of them may have been meant.

    Raises:
        ZooError: If nothing declares the experiment, the contents are not a declaration, or they change an experiment
            of the package.
    """
    if data is None:
        known = known_experiments()
        if name not in known:
            raise ZooError(
                f"experiment {name!r} is not known: expected one of {', '.join([*known, *sorted(others)])}, or one "
                f"that a file declares: {name}{_SUFFIX}, or {DEFINITION_FILE} in its folder of a zoo"
                f"{nearest(name, {*known, *others})}"
            )
        return known[name]
    if len(data) > MAX_BYTES:
        raise ZooError(f"{where}: is longer than {MAX_BYTES // 1024} kB, the largest size of a declaration")
    try:
        record = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ZooError(f"{where}: cannot be read as JSON ({error})") from None
    experiment = Experiment.from_json(name, record, where)
    check_known(experiment, where)
    return known_experiments().get(name, experiment)  # which says more than a zoo does


def recipe_of(experiment: Experiment) -> Recipe:
    """Return the recipe by which runs of an experiment are trained.

    Raises:
        HeldoutError: If none is known.
    """
    if experiment.recipe is None:
        name = experiment.name
        why = "" if name in known_experiments() else "a zoo does not say how runs are trained; "
        raise HeldoutError(
            f"no recipe is known for {name}: {why}name the experiment's own file, such as {name}.toml, which has a "
            "[recipe], or give one (--recipe FILE.toml)"
        )
    return experiment.recipe


def check_known(experiment: Experiment, where: str = "") -> None:
    """Check that an experiment which has the name of one of the package is that one.

    Args:
        experiment: The experiment.
        where: What errors begin with, if it comes from a file.

    Raises:
        ZooError: If it is another; the line says in what.
    """
    known = known_experiments().get(experiment.name)
    if known is not None and (difference := known.difference(experiment)):
        start = f"{where}: " if where else ""
        line = f"{experiment.name} is an experiment of the package, whose {difference}; choose another name"
        raise ZooError(start + line)
