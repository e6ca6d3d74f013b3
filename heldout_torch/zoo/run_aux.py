"""What statistics read of an experiment: the aux arrays of its runs, from a folder or from a zoo under a URL."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from heldout_torch.experiments import Experiment, read_declaration
from heldout_torch.storage.paths import is_remote, local_path
from heldout_torch.zoo.aux_arrays import AuxArrays
from heldout_torch.zoo.keys import RunFolder, RunKey, find_runs, run_path
from heldout_torch.zoo.manifest import Manifest
from heldout_torch.zoo.remote import fetch_aux, fetch_manifest, is_offline
from heldout_torch.zoo.run_folder import experiment_in, read_run_aux


def aux_readers(zoo: str | Path, experiment: str) -> dict[RunKey, Callable[[], AuxArrays]]:
    """Find the runs of an experiment.

    Args:
        zoo: Folder of a zoo or of an unpacked TensorFlow archive, or URL of a zoo.
        experiment: Such as `cifar10-inception`.

    Returns:
        By run, in order, a function that reads its aux arrays and checks them against the experiment. Those of a
        remote zoo are fetched into the cache and checked against the manifest; when offline, they are in the cache.

    Raises:
        ZooError: If the folder or the manifest cannot be read.
    """
    if is_remote(zoo):
        manifest = fetch_manifest(str(zoo), is_offline())
        keys = [key for key in sorted(manifest.runs) if key.experiment == experiment]
        return {key: partial(_fetch, str(zoo), key, manifest) for key in keys}
    return {run.key: partial(read_run_aux, zoo, run) for run in find_runs(local_path(zoo), experiment)}


def experiment_at(zoo: str | Path, name: str) -> Experiment:
    """Find what an experiment's name means in a folder or in a zoo under a URL.

    Raises:
        ZooError: If neither the package nor the zoo declares it.
    """
    if not is_remote(zoo):
        return experiment_in(local_path(zoo), name)
    declaration = fetch_manifest(str(zoo), is_offline()).declarations.get(name)
    return read_declaration(name, None if declaration is None else json.dumps(declaration).encode(), str(zoo))


def _fetch(zoo: str, key: RunKey, manifest: Manifest) -> AuxArrays:
    root = fetch_aux(zoo, key, manifest)
    return read_run_aux(root, RunFolder(key, run_path(root, key)))
