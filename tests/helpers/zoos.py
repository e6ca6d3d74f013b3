"""Zoos for tests: exported from trees, and looked at byte by byte."""

from pathlib import Path

from heldout_torch.experiments import DEFINITION_FILE, Experiment
from heldout_torch.zoo.copy import Outcome, copy_runs
from heldout_torch.zoo.manifest import MANIFEST_FILE, Manifest
from heldout_torch.zoo.open import open_source, open_writable
from heldout_torch.zoo.selection import Selection


def export(source, zoo, overwrite=False, **options) -> list[Outcome]:
    """Copy the selected runs of a place into a zoo, as `heldout export` does."""
    selection = Selection(**options)
    place = open_source(source, selection)
    keys = selection.choose(place.keys(), place.location)
    return list(copy_runs(place, open_writable(zoo), keys, 2, overwrite))


def errors(outcomes) -> dict[int, str]:
    """Return what went wrong, by run."""
    return {outcome.key.run: outcome.error for outcome in outcomes if outcome.error}


def declare(experiment: Experiment, folder: Path) -> None:
    """Write the file that declares an experiment into its folder, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DEFINITION_FILE).write_bytes(experiment.to_bytes())


def manifest_of(zoo) -> Manifest:
    """Return the manifest that lies in a zoo."""
    return Manifest.from_bytes(zoo.read(MANIFEST_FILE), MANIFEST_FILE)


def files_below(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files below a folder but the manifest, which tells of inodes and times."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "manifest.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}
