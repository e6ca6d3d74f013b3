"""One batch of runs: trained, evaluated, and filed in a zoo."""

import math
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from heldout_torch.data import Dataset, SplitName
from heldout_torch.data.checks import SPLITS
from heldout_torch.errors import HeldoutError, UnwritableError, counted
from heldout_torch.evaluation.devices import device_errors, turn_on
from heldout_torch.evaluation.memory import Told, in_portions
from heldout_torch.models import expected_tensors
from heldout_torch.storage.threads import map_ahead
from heldout_torch.storage.urls import remove_file
from heldout_torch.training.loop import Fitted, Watch, fit
from heldout_torch.training.run_batch import RunBatch
from heldout_torch.training.state import state_file
from heldout_torch.zoo import AuxArrays, RunKey, RunMetadata
from heldout_torch.zoo.base import WritableZoo
from heldout_torch.zoo.copy import Outcome

_BYTES_OF_EXAMPLE = 24  # of aux arrays: two indices and a correctness, and what is around them


@dataclass(frozen=True)
class Trained(Outcome):
    """The outcome of training one run.

    Attributes:
        key: The run.
        error: Why it is not in the zoo; None if it is there.
        skipped: Whether it was in the zoo already.
        loss: Mean cross entropy over its last epoch; None if it was not trained in this call.
    """

    key: RunKey
    loss: float | None = None


def train_batch(
    batch: RunBatch, dataset: Dataset, zoo: WritableZoo, device: str | torch.device, watch: Watch
) -> list[Trained]:
    """Train a batch of runs, and put those that did not diverge into a zoo.

    A run that came there while it was trained, by another trainer or by this batch before its worker died, stays. If
    the device has too little memory, half of the runs are trained together, and then the others; so are later batches.

    Args:
        batch: The runs.
        dataset: The experiment's.
        zoo: Where they go, inside its `with` block.
        device: Where to train and evaluate.
        watch: As in `fit`; evaluation has its share.

    Returns:
        What became of the runs, in order.

    Raises:
        DeviceError: If the device fails, or has too little memory for one run.
        ZooError: If the zoo cannot be written.
    """
    runs, recipe, told, trained = batch.runs, batch.recipe, Told(watch), list[Trained]()

    def next_runs(size: int) -> list[Trained]:
        told.done = len(trained)
        part = replace(batch, runs=runs[len(trained) :][:size])
        return _train_together(part, dataset, zoo, device, told.add)

    needs = f"; one run of {batch.experiment.name} with batch_size {recipe.batch_size} needs more"
    with device_errors(device, f"{needs}: free the device, use another, or lower batch_size in the recipe"):
        while len(trained) < len(runs):
            left = len(runs) - len(trained)
            trained += in_portions(next_runs, left, torch.device(device), batch.experiment.name, recipe.batch_size)
    return trained


def _train_together(
    batch: RunBatch, dataset: Dataset, zoo: WritableZoo, device: str | torch.device, watch: Watch
) -> list[Trained]:
    name, ratio = batch.experiment.name, batch.subset_ratio
    data = dataset.digest()
    saved = state_file(batch, zoo.location, data)
    guess = math.log(max(2, dataset.num_classes))
    allowed = 1.1 + 2 / math.sqrt(len(batch.subset_of(batch.runs[0])))
    # On a GPU the files of one batch are written while the next is trained.
    with ExitStack() as held, turn_on(device):
        held.enter_context(zoo.space(_size(batch, dataset)))
        fitted = fit(batch, dataset, device, saved, watch)
        states, losses = [fitted.stack.run_state(i) for i in range(len(batch.runs))], fitted.last_losses
        errors = [_divergence(fitted, i, state, guess, allowed) for i, state in enumerate(states)]
        good = [i for i, error in enumerate(errors) if error is None]
        if good:
            correct = [_correct(fitted, dataset, split, watch) for split in SPLITS]  # each (runs, n or m)
        else:
            watch(len(batch.runs) * fitted.evaluation_share, None)
        steps = fitted.steps
        del fitted  # and so what lies on the device
    keys = [RunKey(name, ratio, run) for run in batch.runs]

    def put(i: int) -> UnwritableError | None:
        metadata = RunMetadata.of(
            batch.experiment, keys[i], batch.recipe.epochs, steps, recipe=batch.recipe.to_record(), data_sha256=data
        )
        try:
            subset = batch.subset_of(batch.runs[i]).astype(np.int32)
            zoo.put(metadata, states[i], AuxArrays.of(subset, *(rows[i].astype(np.uint8) for rows in correct)))
        except UnwritableError as error:  # the others may still find a place
            return error
        return None

    if failed := [error for error in map_ahead(put, good, zoo.threads) if error is not None]:
        raise failed[0]
    remove_file(saved)
    return [Trained(key, error, loss=loss) for key, loss, error in zip(keys, losses, errors, strict=True)]


def _size(batch: RunBatch, dataset: Dataset) -> int:
    """Return about how many bytes the files of the runs take."""
    shapes = expected_tensors(batch.experiment.architecture, batch.experiment.config).values()
    examples = sum(len(dataset.labels(split)) for split in SPLITS)
    return len(batch.runs) * (4 * sum(math.prod(shape) for shape, _ in shapes) + _BYTES_OF_EXAMPLE * examples + 20_000)


def _divergence(fitted: Fitted, i: int, state: dict[str, Tensor], guess: float, allowed: float) -> str | None:
    """Say why a run is not written: its loss or a weight is not a finite number, or it is worse than no knowledge.

    A loss that does not fall is none: on labels that are noise there is nothing to learn. What knows nothing pays the
    first loss, or that of a guess among the classes. The mean of n losses, which are spread about as widely as they
    are large, is uncertain by 1 / sqrt(n) of it, and steps on noise cost some: `allowed` is 1.1 + 2 / sqrt(n).
    """
    first, last = fitted.first_losses[i], fitted.last_losses[i]
    finite = all(bool(tensor.isfinite().all()) for tensor in state.values())
    if finite and last < allowed * max(first, guess):
        return None
    return f"the loss diverged: {first:.3g} at first, {last:.3g} at last; not written"


def _correct(fitted: Fitted, dataset: Dataset, split: SplitName, watch: Watch) -> np.ndarray:
    """Evaluate the runs on one split: bool of shape (runs, n), by published index."""
    examples = sum(len(dataset.labels(name)) for name in SPLITS)
    share = len(fitted.last_losses) * fitted.evaluation_share / examples
    correct = fitted.stack.correct(dataset, split, lambda count: watch(share * count, None))
    if correct.shape[1] != len(dataset.labels(split)):
        raise HeldoutError(
            f"{dataset.name}: only {counted(correct.shape[1], 'image')} of {split} are there, expected "
            f"{len(dataset.labels(split))}; new runs need all of them"
        )
    return correct
