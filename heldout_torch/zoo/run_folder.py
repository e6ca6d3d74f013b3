"""Reads what lies in the folder of a run of a zoo."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from heldout_torch.archives.convert import read_aux
from heldout_torch.errors import ZooError
from heldout_torch.experiments import Experiment, declared_in
from heldout_torch.zoo.aux_arrays import AuxArrays
from heldout_torch.zoo.keys import AUX_FILE, MODEL_FILE, RunFolder, experiment_folders
from heldout_torch.zoo.metadata import RunMetadata


def experiment_folder(root: Path, experiment: str) -> Path:
    """Give the folder of an experiment below a root, or the root itself where it is the experiment's own."""
    folder = root / experiment
    return folder if folder.is_dir() else experiment_folders(root).get(experiment, folder)


def experiment_in(root: Path, name: str) -> Experiment:
    """Find what an experiment's name means in a zoo or TensorFlow tree.

    Raises:
        ZooError: If neither the package nor a file in the experiment's folder declares it.
    """
    return declared_in(name, experiment_folder(root, name))


def read_run_aux(root: str | Path, run: RunFolder) -> AuxArrays:
    """Read the aux arrays of a run that `find_runs` gave, checked against its experiment.

    Raises:
        ZooError: If the file is missing, not valid, or about another data set.
    """
    path = run.path / AUX_FILE
    return read_aux(path, experiment_in(Path(root), run.key.experiment), str(path))


def read_metadata(run: RunFolder) -> RunMetadata:
    """Read the record of a run in a zoo, without its tensors.

    Raises:
        ZooError: If the file is damaged, or another run's.
    """
    with _open_model(run) as (_, metadata):
        return metadata


def read_model(run: RunFolder) -> tuple[dict[str, torch.Tensor], RunMetadata]:
    """Read the tensors and the record of a run in a zoo.

    Raises:
        ZooError: If the file is damaged, or another run's.
    """
    with _open_model(run) as (file, metadata):
        return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118 (it is no mapping)


@contextmanager
def _open_model(run: RunFolder) -> Iterator[tuple[Any, RunMetadata]]:
    path = run.path / MODEL_FILE
    try:
        with safe_open(path, framework="pt") as file:
            metadata = RunMetadata.from_header(file.metadata(), str(path))
            if metadata.key != run.key:
                raise ZooError(f"{path}: says that it is {metadata.key}, but lies in the folder of {run.key}")
            yield file, metadata
    except (SafetensorError, OSError) as error:
        raise ZooError(f"{path}: is no readable safetensors file ({' '.join(str(error).split())})") from None
