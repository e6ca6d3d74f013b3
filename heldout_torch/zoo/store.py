"""A zoo that is being filled: a folder, or a URL that fsspec can write, such as a bucket.

What lies in it, and where, is the same for both: the files of a run have the same bytes in a folder and under a URL.
A run counts as there when its model is, which is why the model comes last.
"""

import json
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from heldout_torch.errors import ZooError
from heldout_torch.experiments import (
    DEFINITION_FILE,
    Experiment,
    declared_in,
    known_experiments,
    read_declaration,
)
from heldout_torch.storage.listing import list_files
from heldout_torch.storage.paths import place
from heldout_torch.storage.urls import open_filesystem, read_file, read_range, write_file
from heldout_torch.zoo.aux_arrays import AuxArrays
from heldout_torch.zoo.export import write_run
from heldout_torch.zoo.keys import AUX_FILE, MODEL_FILE, RunFolder, RunKey, run_path
from heldout_torch.zoo.manifest import FileRecord, RunRecord
from heldout_torch.zoo.metadata import RunMetadata
from heldout_torch.zoo.remote import OFFLINE_VARIABLE, is_offline
from heldout_torch.zoo.run_folder import read_metadata

_FIRST = 2**16  # bytes of a model file that are asked for at first; most headers are shorter
_MAX_HEADER = 2**24
_NUMBER = "0|[1-9][0-9]*"


def open_zoo(zoo: str | Path) -> str | Path:
    """Check, as far as that goes without writing, that runs can be put into a zoo.

    Args:
        zoo: Folder, which need not exist, or URL.

    Returns:
        The folder as a path, or the URL without a slash at its end.

    Raises:
        ZooError: If it is a web server's, the network is switched off, or the package of its protocol is missing.
    """
    zoo = place(zoo)
    if isinstance(zoo, Path):
        return zoo
    if is_offline():
        raise ZooError(f"{zoo}: cannot be written, {OFFLINE_VARIABLE} forbids the use of the network")
    if zoo.startswith(("http://", "https://")):
        raise ZooError(f"{zoo}: cannot be written, a web server only serves; name a folder, or a bucket (s3://, gs://)")
    open_filesystem(zoo)
    return zoo


def present_runs(zoo: str | Path, experiment: str, subset_ratio: float) -> set[int]:
    """Tell which runs of an experiment and subset ratio are in a zoo.

    Raises:
        ZooError: If a remote zoo cannot be listed.
    """
    if isinstance(zoo, Path):
        folder = run_path(zoo, RunKey(experiment, subset_ratio, 0)).parent
        return {int(path.name) for path in folder.glob("[0-9]*") if re.fullmatch(_NUMBER, path.name) and path.is_dir()}
    files = list_files(f"{zoo}/{experiment}/{subset_ratio!r}")
    return {int(found[1]) for path in files if (found := re.fullmatch(f"({_NUMBER})/{re.escape(MODEL_FILE)}", path))}


def put_run(zoo: str | Path, state: dict[str, torch.Tensor], metadata: RunMetadata, aux: AuxArrays) -> RunRecord | None:
    """Put a run into a zoo; a reader sees it whole or not at all.

    Args:
        zoo: As `open_zoo` gave it.
        state: The network's tensors, contiguous.
        metadata: The run's record, which also names the run.
        aux: Its aux arrays, valid.

    Returns:
        What the manifest of a remote zoo is to say of the run; None for a folder, where a run that is there stays.

    Raises:
        OSError: If the folder cannot be written.
        ZooError: If the remote zoo cannot.
    """
    if isinstance(zoo, Path):
        write_run(run_path(zoo, metadata.key), state, metadata, aux.to_bytes())
        return None
    data = {AUX_FILE: aux.to_bytes(), MODEL_FILE: save(state, metadata.to_header())}
    for name, contents in data.items():  # the model last
        write_file(f"{zoo}/{metadata.key}/{name}", contents)
    return RunRecord.of({name: FileRecord.of(contents) for name, contents in data.items()}, aux, metadata.epoch)


def get_metadata(zoo: str | Path, key: RunKey) -> RunMetadata:
    """Read the record of a run that is in a zoo, without its tensors.

    Raises:
        ZooError: If the model file cannot be read, is damaged, or another run's.
    """
    if isinstance(zoo, Path):
        return read_metadata(RunFolder(key, run_path(zoo, key)))
    location = f"{zoo}/{key}/{MODEL_FILE}"
    try:
        data = read_range(location, 0, _FIRST)
        size = 8 + int.from_bytes(data[:8], "little")
        if len(data) < size <= _MAX_HEADER:
            data += read_range(location, len(data), size)
    except FileNotFoundError:
        raise ZooError(f"{location}: there is no such file") from None
    return _parse_header(data, key, location)


def get_aux(zoo: str | Path, key: RunKey) -> AuxArrays:
    """Read the aux arrays of a run that is in a zoo.

    Raises:
        ZooError: If they cannot be read, or are not valid.
    """
    location = f"{zoo}/{key}/{AUX_FILE}"
    try:
        return AuxArrays.read(read_file(location), location)
    except FileNotFoundError:
        raise ZooError(f"{location}: there is no such file") from None


def check_model(data: bytes, key: RunKey, name: str) -> RunMetadata:
    """Check that bytes are a run's whole model file, and give the run's record.

    Raises:
        ZooError: If they are damaged, or another run's.
    """
    try:
        load(data)
    except SafetensorError as error:
        raise ZooError(f"{name}: is no readable safetensors file ({' '.join(str(error).split())})") from None
    return _parse_header(data, key, name)


def write_experiment(zoo: str | Path, experiment: Experiment) -> None:
    """Declare an experiment in a zoo, unless the package knows it.

    Raises:
        ZooError: If the zoo cannot be written.
    """
    if experiment.name not in known_experiments():
        write_file(f"{zoo}/{experiment.name}/{DEFINITION_FILE}", experiment.to_bytes())


def read_experiment(zoo: str | Path, name: str) -> Experiment:
    """Find what an experiment's name means in a zoo.

    Raises:
        ZooError: If neither the package nor the zoo declares it.
    """
    if isinstance(zoo, Path):
        return declared_in(name, zoo / name)
    if name in known_experiments():
        return known_experiments()[name]
    location = f"{zoo}/{name}/{DEFINITION_FILE}"
    try:
        return read_declaration(name, read_file(location), location)
    except FileNotFoundError:
        return read_declaration(name, None)


def _parse_header(data: bytes, key: RunKey, name: str) -> RunMetadata:
    size = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + size])["__metadata__"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ZooError(f"{name}: is no readable safetensors file ({type(error).__name__} in its header)") from None
    metadata = RunMetadata.from_header(header, name)
    if metadata.key != key:
        raise ZooError(f"{name}: says that it is {metadata.key}, but lies in the folder of {key}")
    return metadata
