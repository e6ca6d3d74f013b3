"""Read and convert one run of a TensorFlow tree; nothing is written."""

import fnmatch
import functools
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from heldout_torch.archives.arrivals import shard_names
from heldout_torch.archives.limits import run_limit
from heldout_torch.checkpoints import Checkpoint, from_sonnet
from heldout_torch.checkpoints.bundle import Shard, shard_paths
from heldout_torch.checkpoints.sonnet import SUFFIX, unknown_variables
from heldout_torch.errors import CheckpointError, os_errors
from heldout_torch.experiments import Experiment
from heldout_torch.models import expected_tensors
from heldout_torch.storage.files import read_bounded
from heldout_torch.zoo.keys import CHECKPOINTS, RunKey
from heldout_torch.zoo.metadata import RunMetadata


def convert_run(
    folder: Path, experiment: Experiment, key: RunKey, ignore: Sequence[str]
) -> tuple[dict[str, torch.Tensor], RunMetadata]:
    """Read the one checkpoint of a run directory.

    Args:
        folder: Holds `checkpoints/ckpt-<epoch>.{index,data-*}`.
        experiment: What the run belongs to.
        key: The run.
        ignore: As in `from_sonnet`.

    Returns:
        State dict of the experiment's network, and the run's record.

    Raises:
        CheckpointError: If the directory does not hold exactly one checkpoint, or it is damaged or of another network.
        ZooError: If its files are larger than a run of the experiment can be.
    """
    index, paths, _ = checkpoint_files(folder)
    contents, left = list[bytes](), run_limit(experiment)
    for path in (index, *paths):
        with os_errors(CheckpointError, f"{path}: cannot be read"):
            contents.append(read_bounded(path, left))
        left -= len(contents[-1])
    return _convert(contents[0], contents[1:], str(index.with_suffix("")), experiment, key, ignore)


def convert_parts(
    parts: dict[str, bytes], folder: Path, experiment: Experiment, key: RunKey, ignore: Sequence[str]
) -> tuple[dict[str, torch.Tensor], RunMetadata]:
    """Convert a run's files held in memory, as `convert_run` does those of a directory.

    Args:
        parts: Contents by file name, in place of the directory.
        folder: What errors call the run's folder.
        experiment: As in `convert_run`, as all that follows.
        key: The run.
        ignore: Patterns of variables to leave out.
    """
    prefix = _prefix(folder, parts)
    if not (names := shard_names(parts, prefix.name)):
        raise CheckpointError(f"{prefix}: data files are missing, or there are files of several checkpoints")
    shards = [parts[name] for name in names]
    return _convert(parts[f"{prefix.name}.index"], shards, str(prefix), experiment, key, ignore)


def _convert(
    index: bytes, shards: Sequence[bytes], name: str, experiment: Experiment, key: RunKey, ignore: Sequence[str]
) -> tuple[dict[str, torch.Tensor], RunMetadata]:
    """Convert a checkpoint's index and shards, in order; `name` is for errors, and has the epoch if no variable has."""
    checkpoint = Checkpoint(index, list[Shard](shards), name)
    try:
        state = from_sonnet(checkpoint, experiment.architecture, ignore)
        _check_state(state, experiment)
    except CheckpointError as error:
        message = str(error)
        raise CheckpointError(message if message.startswith(name) else f"{name}: {message}") from None
    digest = hashlib.sha256(index)
    for shard in shards:
        digest.update(shard)
    epoch = _scalar(checkpoint, "epoch")
    if epoch is None:
        epoch = epoch_of([f"{name}.index"])
    unknown = unknown_variables(checkpoint, experiment.architecture) if ignore else []
    metadata = RunMetadata.of(
        experiment,
        key,
        epoch,
        _scalar(checkpoint, "global_step"),
        digest.hexdigest(),
        ignored=[pattern for pattern in ignore if fnmatch.filter(unknown, pattern)] or None,
    )
    return state, metadata


def _check_state(state: dict[str, torch.Tensor], experiment: Experiment) -> None:
    """Check that a state dict fills every tensor of an experiment's network, in shape and dtype.

    Raises:
        CheckpointError: If it does not; the line names the first differences.
    """
    expected = _expected_tensors(experiment.architecture, json.dumps(experiment.config))
    found = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in state.items()}
    if found == expected:
        return
    wrong = [
        f"{name} is {_described(found.get(name))}, expected {_described(expected.get(name))}"
        for name in sorted(found.keys() | expected.keys())
        if found.get(name) != expected.get(name)
    ]
    more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    raise CheckpointError(f"does not fit {experiment.architecture} of {experiment.name}: {'; '.join(wrong[:3])}{more}")


def checkpoint_files(folder: Path) -> tuple[Path, list[Path], int | None]:
    """Return the index and the shards of a run directory's one checkpoint, and the epoch in its name.

    Raises:
        CheckpointError: If there is not exactly one checkpoint.
    """
    prefix = _prefix(folder, (path.name for path in (folder / CHECKPOINTS).glob("*.index")))
    index = Path(f"{prefix}.index")
    return index, shard_paths(prefix), epoch_of([index.name])


def epoch_of(names: Iterable[str]) -> int | None:
    """Return the epoch in the name of a checkpoint's index, `ckpt-<epoch>.index`; None if there is none."""
    found = [match for name in names if (match := re.search(r"-(\d+)\.index$", name))]
    return int(found[0][1]) if found else None


def _prefix(folder: Path, names: Iterable[str]) -> Path:
    """Return the path without endings of the one checkpoint among a run's files."""
    # macOS keeps a `._ckpt-30.index` beside each file, which is not a checkpoint's.
    indices = sorted(name for name in names if name.endswith(".index") and not name.startswith("."))
    if len(indices) != 1:
        found = ", ".join(indices) or "none"
        raise CheckpointError(f"{folder / CHECKPOINTS}: expected one checkpoint (ckpt-<epoch>.index), found {found}")
    return folder / CHECKPOINTS / indices[0].removesuffix(".index")


def _scalar(checkpoint: Checkpoint, name: str) -> int | None:
    key = name + SUFFIX
    if key not in checkpoint or not np.issubdtype(checkpoint[key].dtype, np.integer) or checkpoint[key].size != 1:
        return None
    return int(checkpoint[key].reshape(())[()])


@functools.cache
def _expected_tensors(architecture: str, config: str) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    return expected_tensors(architecture, json.loads(config))  # building the module costs more than converting a run


def _described(tensor: tuple[tuple[int, ...], torch.dtype] | None) -> str:
    return "missing" if tensor is None else f"{str(tensor[1]).removeprefix('torch.')} {list(tensor[0])}"
