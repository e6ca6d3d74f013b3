"""A run by name: from a zoo, or straight from an unpacked TensorFlow tree."""

import os
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path

import torch
from torch import nn

from heldout_torch.archives.convert import convert_parts, convert_run
from heldout_torch.errors import HeldoutError, ZooError
from heldout_torch.experiments import known_experiments, read_declaration
from heldout_torch.models import restore_model
from heldout_torch.storage.paths import is_remote, place
from heldout_torch.storage.progress import Bar
from heldout_torch.storage.urls import is_archive
from heldout_torch.zoo.aux_arrays import AuxArrays
from heldout_torch.zoo.keys import AUX_FILE, RunFolder, RunKey, find_runs, make_key, run_path
from heldout_torch.zoo.metadata import RunMetadata
from heldout_torch.zoo.run_folder import experiment_folder, experiment_in, read_model

ZOO_VARIABLE = "HELDOUT_TORCH_ZOO"
DEFAULT_REMOTE_ZOO = ""  # empty until somebody publishes one


@dataclass(frozen=True)
class Run:
    """One trained run.

    Attributes:
        model: The network in eval mode, on the device asked for.
        metadata: The run's record.
        folder: Where it was read from; in an archive, no folder of the disk.
        aux_bytes: Contents of the run's `aux_arrays.npz` where it came out of an archive, else None.
    """

    model: nn.Module
    metadata: RunMetadata
    folder: Path
    aux_bytes: bytes | None = field(default=None, repr=False)

    @cached_property
    def aux(self) -> AuxArrays:
        """Which examples the run trained on and classifies correctly; read when first asked for.

        Raises:
            ZooError: If the file is missing or not valid.
        """
        path = self.folder / AUX_FILE
        return AuxArrays.read(path if self.aux_bytes is None else self.aux_bytes, str(path))


def sample_zoo() -> Path:
    """Give the folder of the bundled sample, a TensorFlow tree of a few `digits-mlp-tf` runs."""
    return Path(str(resources.files("heldout_torch"))) / "sample"


def load_run(
    experiment: str,
    subset_ratio: float,
    run: int,
    zoo: str | Path | None = None,
    device: str | torch.device = "cpu",
    offline: bool = False,
) -> Run:
    """Load a trained run.

    Args:
        experiment: Such as `cifar10-inception`.
        subset_ratio: Share of the training set that the run saw, such as 0.7.
        run: Number of the run.
        zoo: Folder of a zoo or of an unpacked TensorFlow archive; URL of a zoo (`https://…`, `s3://…`, …), of which
            this run is fetched into a cache; or path or URL of an archive (`….tar.gz`) with its seek index beside it.
            By default the environment variable `HELDOUT_TORCH_ZOO`, else the bundled sample.
        device: Where the model goes.
        offline: Take a remote zoo's run only from the cache, as does the environment variable `HELDOUT_TORCH_OFFLINE`.

    Raises:
        ZooError: If the run is not there or cannot be fetched, or its files are damaged.
        CheckpointError: If a TensorFlow checkpoint is damaged or of another network.
    """
    key = make_key(experiment, subset_ratio, run)
    where = _place(zoo)
    if is_archive(where):
        return _load_from_archive(where, key, device)
    if is_remote(where):
        from heldout_torch.zoo.remote import fetch_run

        with Bar(f"fetch run {key}", "B", delay=0.5) as bar:
            root = fetch_run(where, key, offline, bar.add)
    else:
        root = _root(where)
    found = _find(root, key)
    if found is None:
        raise ZooError(_missing(root, key))
    if found.in_zoo:
        state, metadata = read_model(found)
    else:
        state, metadata = convert_run(found.path, experiment_in(root, key.experiment), key)
    return Run(model_from_state(state, metadata, str(found.path)).to(device), metadata, found.path)


def list_runs(zoo: str | Path | None = None) -> list[RunKey]:
    """List the runs of a zoo, TensorFlow tree or indexed archive, in order of experiment, ratio, run.

    Args:
        zoo: As in `load_run`.

    Raises:
        ZooError: If the folder, manifest or seek index cannot be read.
    """
    where = _place(zoo)
    if is_archive(where):
        from heldout_torch.archives.seek_index import read_index

        return read_index(where).keys
    if is_remote(where):
        from heldout_torch.zoo.remote import fetch_manifest, is_offline

        return sorted(fetch_manifest(where, is_offline()).runs)
    return [run.key for run in find_runs(_root(where))]


def model_from_state(state: dict[str, torch.Tensor], metadata: RunMetadata, name: str) -> nn.Module:
    """Build a run's network around its tensors, in eval mode.

    Raises:
        ZooError: If they do not fit each other.
    """
    try:
        return restore_model(metadata.architecture, metadata.config, state)
    except HeldoutError as error:
        raise ZooError(f"{name}: {error}") from None


def _place(zoo: str | Path | None) -> str:
    return str(place(zoo or os.environ.get(ZOO_VARIABLE) or sample_zoo()))


def _root(where: str) -> Path:
    root = Path(where)
    if not root.is_dir():
        raise ZooError(f"{root}: there is no such folder, expected a zoo or an unpacked TensorFlow archive")
    return root


def _find(root: Path, key: RunKey) -> RunFolder | None:
    folder = experiment_folder(root, key.experiment)
    direct = RunFolder(key, folder / repr(key.subset_ratio) / str(key.run))
    if direct.path.is_dir():
        return direct
    # Only a source may spell the ratio in another way, and only then is a search through all runs needed.
    return next((run for run in find_runs(root, key.experiment) if run.key == key), None)


def _load_from_archive(archive: str, key: RunKey, device: str | torch.device) -> Run:
    from heldout_torch.archives.packed import read_files
    from heldout_torch.archives.seek_index import read_index

    index = read_index(archive)
    if key not in index:
        raise ZooError(f"run {key} is not in {archive}; heldout_torch.list_runs({archive!r}) lists what is there")
    experiment, folder = read_declaration(key.experiment, None), run_path(Path(archive), key)
    parts = read_files(archive, index, key, experiment)
    state, metadata = convert_parts(parts, folder, experiment, key)
    model = model_from_state(state, metadata, str(folder)).to(device)
    return Run(model, metadata, folder, parts.get(AUX_FILE, b""))


def _missing(root: Path, key: RunKey) -> str:
    experiment = known_experiments().get(key.experiment)
    line = f"run {key} is not in {root}"
    if experiment is None or experiment.archive is None:
        return f"{line}; heldout_torch.list_runs({str(root)!r}) lists what is there"
    return (
        f"{line}; get {experiment.archive.url} and run: heldout export {key.experiment}.tar.gz --zoo ZOO "
        f"--subset-ratio {key.subset_ratio!r} --runs {key.run}, then pass zoo='ZOO' or set {ZOO_VARIABLE}"
    )
