"""The folders of runs below a local folder: `<experiment>/<subset_ratio>/<run>/`, in a zoo and a TensorFlow tree."""

import os
from collections.abc import Iterator
from pathlib import Path

from heldout_torch.errors import ZooError, os_errors
from heldout_torch.experiments import is_experiment_name
from heldout_torch.zoo.keys import RunKey, parse_ratio, parse_run


def experiment_folders(root: Path) -> dict[str, Path]:
    """Return the experiments under a folder, which may also be an experiment's own.

    Args:
        root: Holds experiment folders, or ratio folders.

    Returns:
        Folders by experiment name, sorted.

    Raises:
        ZooError: If the folder cannot be read.
    """
    with os_errors(ZooError, "is not a readable folder", root):
        if any(parse_ratio(name) is not None for name in _folders(root)):
            return {os.path.basename(os.path.abspath(root)): root}
        return {
            name: root / name
            for name in _folders(root)
            if is_experiment_name(name) and any(parse_ratio(ratio) is not None for ratio in _folders(root / name))
        }


def run_folders(experiment: str, folder: Path) -> Iterator[tuple[RunKey, Path]]:
    """Yield the runs below an experiment's folder, ratio by ratio, and the folder of each, however it is spelled.

    Raises:
        ZooError: If a folder cannot be read.
    """
    with os_errors(ZooError, "is not a readable folder", folder):
        for ratio_name in _folders(folder):
            if (ratio := parse_ratio(ratio_name)) is None:
                continue
            for run_name in _folders(folder / ratio_name):
                if (run := parse_run(run_name)) is not None:
                    yield RunKey(experiment, ratio, run), folder / ratio_name / run_name


def _folders(path: Path) -> list[str]:
    with os.scandir(path) as entries:
        return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
