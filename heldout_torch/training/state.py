"""The state of a long training, saved in the zoo so that an interrupted one goes on, on whatever machine.

The file's name says which training it is of, and its header of which runs. One that is damaged, or does not fit its
name, is never gone on from.
"""

import json
from collections.abc import Mapping, Sequence

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from heldout_torch.errors import ZooError, warn
from heldout_torch.storage.listing import list_files
from heldout_torch.storage.urls import read_range, write_file
from heldout_torch.training.run_batch import RunBatch
from heldout_torch.zoo.keys import as_runs

_STEP, _RUNS = "step", "runs"
_PREFIX = ".training-"
_LARGEST_HEADER = 1 << 20  # bytes; a state names a few hundred tensors


def state_file(batch: RunBatch, zoo: str, data: str) -> str:
    """Return the path or URL of the state of a batch of runs.

    Args:
        batch: The runs.
        zoo: Location of the zoo where they go.
        data: Digest of their data set.
    """
    return f"{_folder(batch, zoo)}/{_PREFIX}{batch.digest(data)}.safetensors"


def saved_states(work: RunBatch, zoo: str) -> dict[str, tuple[int, ...]]:
    """Return the states that lie where those of a work do, by path or URL, and of which runs they say that they are.

    Raises:
        ZooError: If the zoo cannot be listed.
    """
    folder = _folder(work, zoo)
    return {f"{folder}/{name}": _runs(f"{folder}/{name}") for name in list_files(folder) if name.startswith(_PREFIX)}


def save_state(location: str, tensors: Mapping[str, Tensor], step: int, runs: Sequence[int]) -> None:
    """Save a state, whole or not at all.

    Args:
        location: Path or URL of the file.
        tensors: What the networks and their optimizer remember; none is called `step`.
        step: How many steps were made.
        runs: Of which runs.

    Raises:
        ZooError: If it cannot be written.
    """
    saved = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    header = {_RUNS: json.dumps(list(runs))}
    write_file(location, save({**saved, _STEP: torch.tensor(step, device="cpu")}, header))


def load_state(location: str, like: Mapping[str, Tensor], steps: int) -> tuple[dict[str, Tensor], int] | None:
    """Load what `save_state` saved.

    Args:
        location: Path or URL of the file.
        like: What was saved, by shape and dtype.
        steps: All steps of the training.

    Returns:
        The tensors, on the CPU and finite, and the steps made, 1 ... `steps`. None if there is no file; or, with a
        warning, if it holds something else: training begins anew, and writes over it.

    Raises:
        ZooError: If the file cannot be read.
    """
    size = sum(tensor.numel() * tensor.element_size() for tensor in like.values()) + _LARGEST_HEADER
    try:
        data = read_range(location, 0, size + 1, whole_size=size)
    except FileNotFoundError:
        return None
    try:
        if len(data) > size:
            raise ValueError("larger than it can be")
        tensors = load(data)
        step = tensors.pop(_STEP, torch.tensor([], device="cpu"))
        _check(tensors, step, like, steps)
    except (SafetensorError, ValueError) as error:
        warn(f"{location}: is not a state of this training ({error}); training starts from the beginning", stacklevel=2)
        return None
    return tensors, int(step)


def _folder(work: RunBatch, zoo: str) -> str:
    return f"{zoo}/{work.experiment.name}/{work.subset_ratio!r}"


def _runs(location: str) -> tuple[int, ...]:
    """Return of which runs a state is, as its header says; none if it does not say."""
    try:
        data = read_range(location, 0, 8 + _LARGEST_HEADER)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return tuple(as_runs(list(json.loads(header["__metadata__"][_RUNS]))))
    except (FileNotFoundError, ValueError, LookupError, TypeError, RecursionError, ZooError):
        return ()


def _check(tensors: dict[str, Tensor], step: Tensor, like: Mapping[str, Tensor], steps: int) -> None:
    if step.dtype != torch.int64 or step.shape != () or not 0 < int(step) <= steps:
        raise ValueError(f"its step is {step.tolist()}, expected 1 ... {steps}")
    if different := sorted(tensors.keys() ^ like.keys()):
        raise ValueError(f"tensor {different[0]!r} is missing or unknown")
    for name, tensor in tensors.items():
        expected = like[name]
        if (tensor.dtype, tensor.shape) != (expected.dtype, expected.shape):
            raise ValueError(
                f"{name} is {tensor.dtype} {tuple(tensor.shape)}, expected {expected.dtype} {tuple(expected.shape)}"
            )
        if not tensor.isfinite().all():
            raise ValueError(f"{name} holds what is not a finite number")
