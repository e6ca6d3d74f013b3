"""One batch of runs: trained, and filed in a zoo."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from heldout_torch.data import Dataset
from heldout_torch.training.fit import Fitted, RunBatch, Watch, fit
from heldout_torch.zoo import AuxArrays, RunKey, RunMetadata
from heldout_torch.zoo.export import write_run
from heldout_torch.zoo.layout import run_path


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
    batch: RunBatch, dataset: Dataset, zoo: Path, device: str | torch.device, watch: Watch
) -> list[Trained]:
    """Train a batch of runs and put those that did not diverge into a zoo.

    Raises:
        OSError: If the zoo cannot be written.
    """
    folder = run_path(zoo, RunKey(batch.experiment.name, batch.subset_ratio, 0)).parent
    state_file = folder / f".training-{batch.digest()}.safetensors"
    trained = [_write(batch, fitted, zoo) for fitted in fit(batch, dataset, device, state_file, watch)]
    state_file.unlink(missing_ok=True)
    return trained


def _write(batch: RunBatch, fitted: Fitted, zoo: Path) -> Trained:
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
    write_run(run_path(zoo, key), fitted.state, metadata, aux.to_bytes())
    return Trained(key, fitted.last_loss)
