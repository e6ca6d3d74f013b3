"""One batch of runs: trained, and filed in a zoo."""

from dataclasses import asdict, dataclass

import numpy as np
import torch

from heldout_torch.data import Dataset
from heldout_torch.storage.threads import map_ahead
from heldout_torch.training.fit import Fitted, RunBatch, Watch, fit
from heldout_torch.training.state import remove_state
from heldout_torch.zoo import AuxArrays, RunKey, RunMetadata
from heldout_torch.zoo.base import WritableZoo


@dataclass(frozen=True)
class Trained:
    """What became of one run.

    Attributes:
        key: The run.
        loss: Mean cross entropy over its last epoch; None if it was not trained now.
        error: Why it is not in the zoo; None if it is.
        skipped: Whether it was in the zoo before.
    """

    key: RunKey
    loss: float | None = None
    error: str | None = None
    skipped: bool = False


def train_batch(
    batch: RunBatch, dataset: Dataset, zoo: WritableZoo, device: str | torch.device, watch: Watch
) -> list[Trained]:
    """Train a batch of runs and put those that did not diverge into a zoo.

    A run that came there while it was trained, by another trainer or by this batch before its worker died, stays.

    Args:
        batch: The runs.
        dataset: The experiment's.
        zoo: Where they go, inside its `with` block.
        device: Where to train.
        watch: As in `fit`.

    Raises:
        ZooError: If the zoo cannot be written.
    """
    name, ratio = batch.experiment.name, batch.subset_ratio
    state_file = f"{zoo.location}/{name}/{ratio!r}/.training-{batch.digest()}.safetensors"
    fitted = fit(batch, dataset, device, state_file, watch)
    trained = list(map_ahead(lambda one: _put(batch, one, zoo), fitted, zoo.threads))
    remove_state(state_file)
    return trained


def _put(batch: RunBatch, fitted: Fitted, zoo: WritableZoo) -> Trained:
    key = RunKey(batch.experiment.name, batch.subset_ratio, fitted.run)
    if fitted.diverged:
        line = f"the loss diverged: {fitted.first_loss:.3g} at first, {fitted.last_loss:.3g} at last; not written"
        return Trained(key, fitted.last_loss, line)
    metadata = RunMetadata.of(batch.experiment, key, batch.recipe.epochs, fitted.steps, recipe=asdict(batch.recipe))
    subset = batch.subset_of(fitted.run)
    removed = np.setdiff1d(np.arange(batch.experiment.train_examples), subset)
    aux = AuxArrays(
        correctness_train=fitted.correct_train[subset].astype(np.uint8),
        correctness_removed=fitted.correct_train[removed].astype(np.uint8),
        correctness_test=fitted.correct_test.astype(np.uint8),
        index_train=subset.astype(np.int32),
        index_removed=removed.astype(np.int32),
        index_test=np.arange(len(fitted.correct_test), dtype=np.int32),
        subsample_idx=subset.astype(np.int32),
    )
    zoo.put(metadata, fitted.state, aux)
    return Trained(key, fitted.last_loss)
