"""The training loop: a batch of runs, each with its own subset, order and seed, trained side by side."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from heldout_torch.data import Dataset, SplitName
from heldout_torch.data.dataset import Step
from heldout_torch.experiments import Experiment, Recipe
from heldout_torch.models import find_architecture
from heldout_torch.training.network import Network
from heldout_torch.training.stacked_mlp import StackedMLP
from heldout_torch.training.state import load_state, save_state
from heldout_torch.training.subsets import draw_subset, epoch_orders

SAVE_SECONDS = 180.0  # how often the state of a long training is saved
_EVALUATION_BATCH = 1000

# Told after each step: how many runs' worth of work it was, and at the end of an epoch its mean loss.
Watch = Callable[[float, float | None], None]


@dataclass(frozen=True)
class RunBatch:
    """Runs that are trained together, and everything that decides what comes out.

    Attributes:
        experiment: What the runs belong to.
        recipe: How they are trained.
        subset_ratio: Share of the training set that each sees.
        runs: Their numbers.
        subset: The published indices that all of them train on, int64; None for a random subset each.
    """

    experiment: Experiment
    recipe: Recipe
    subset_ratio: float
    runs: tuple[int, ...]
    subset: np.ndarray | None = None

    def subset_of(self, run: int) -> np.ndarray:
        """Give the published indices that a run trains on, int64."""
        if self.subset is not None:
            return self.subset
        return draw_subset(run, self.experiment.train_examples, self.subset_ratio)

    def orders(self, run: int) -> Iterator[np.ndarray]:
        """Give the order of each epoch of a run, without end."""
        return epoch_orders(run, self.experiment.train_examples, self.subset_ratio, self.subset)

    def digest(self) -> str:
        """Give 16 letters that name the batch: equal for equal work."""
        subset = None if self.subset is None else hashlib.sha256(self.subset.tobytes()).hexdigest()
        record = [
            self.experiment.name,
            self.experiment.to_record(),
            asdict(self.recipe),
            self.subset_ratio,
            self.runs,
            subset,
        ]
        return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Fitted:
    """A run after training.

    Attributes:
        run: Its number.
        state: State dict of its network, on the CPU.
        steps: Steps made.
        first_loss: Mean cross entropy of its first batch, before any step.
        last_loss: Mean cross entropy over its last epoch.
        correct_train: bool of shape (n,), by published index, over the whole training set.
        correct_test: bool of shape (m,), by published index.
    """

    run: int
    state: dict[str, Tensor]
    steps: int
    first_loss: float
    last_loss: float
    correct_train: np.ndarray
    correct_test: np.ndarray

    @property
    def diverged(self) -> bool:
        """Whether the loss, or a weight, is not finite, or the loss ended a tenth or more above where it began."""
        finite = all(bool(tensor.isfinite().all()) for tensor in self.state.values())
        return not finite or not self.last_loss < 1.1 * self.first_loss


class Stack(Protocol):
    """Networks of several runs, with what their optimizer remembers; see `StackedMLP` and `Network`."""

    def step(self, images: Tensor, labels: Tensor, rate: float) -> Tensor: ...  # noqa: D102
    def logits(self, images: Tensor) -> Tensor: ...  # noqa: D102
    def run_state(self, i: int) -> dict[str, Tensor]: ...  # noqa: D102
    def save(self) -> dict[str, Tensor]: ...  # noqa: D102
    def load(self, saved: dict[str, Tensor]) -> None: ...  # noqa: D102


def fit(batch: RunBatch, dataset: Dataset, device: str | torch.device, state_file: str, watch: Watch) -> list[Fitted]:
    """Train a batch of runs and evaluate them on the training and the test set.

    Args:
        batch: The runs; one only, unless the architecture is stackable.
        dataset: The experiment's.
        device: Where to train.
        state_file: Path or URL, where the state of a long training is saved every few minutes, and read from when the
            training was interrupted. Whoever writes the runs removes it.
        watch: Called after each step; what it raises ends the training.

    Returns:
        The runs in order.
    """
    recipe = batch.recipe
    stack = make_stack(batch, device)
    batches_of = dataset.training_batches(recipe.augmentation, device)
    size = len(batch.subset_of(batch.runs[0]))
    steps_per_epoch = math.ceil(size / recipe.batch_size)
    steps = recipe.epochs * steps_per_epoch
    first_loss, epoch_loss = torch.zeros(2, len(batch.runs), device=device)  # each (runs,)
    resumed = _resume(state_file, stack, first_loss, epoch_loss)

    if resumed:
        watch(len(batch.runs) * resumed / steps, None)
    saved_at = time.monotonic()
    batches = batches_of(batch.runs, _steps(batch, steps_per_epoch, resumed))
    with _matmul_precision(recipe.precision, device), closing(batches):
        for step, (images, labels) in enumerate(batches, resumed):
            epoch_step = step % steps_per_epoch
            if epoch_step == 0:
                epoch_loss.zero_()
            loss = stack.step(images, labels, recipe.rate(step, steps))
            epoch_loss.add_(loss, alpha=labels.shape[1] / size)
            if step == 0:
                first_loss.copy_(loss)
            watch(len(batch.runs) / steps, float(epoch_loss.mean()) if epoch_step == steps_per_epoch - 1 else None)
            if time.monotonic() - saved_at > SAVE_SECONDS:
                save_state(state_file, {**stack.save(), "first_loss": first_loss, "epoch_loss": epoch_loss}, step + 1)
                saved_at = time.monotonic()

    correct_train = _correct(stack, dataset, "train", device)  # (runs, n)
    correct_test = _correct(stack, dataset, "test", device)  # (runs, m)
    return [
        Fitted(
            run,
            stack.run_state(i),
            steps,
            first_loss[i].item(),
            epoch_loss[i].item(),
            correct_train[i],
            correct_test[i],
        )
        for i, run in enumerate(batch.runs)
    ]


def make_stack(batch: RunBatch, device: str | torch.device) -> Stack:
    """Make the untrained networks of a batch of runs."""
    experiment, recipe = batch.experiment, batch.recipe
    if find_architecture(experiment.architecture).stackable:
        return StackedMLP(
            experiment.architecture, experiment.config, batch.runs,
            recipe.batch_size, recipe.momentum, recipe.weight_decay, device,
        )  # fmt: skip
    (run,) = batch.runs
    bf16 = recipe.precision == "bf16"
    return Network(experiment.architecture, experiment.config, run, recipe.momentum, recipe.weight_decay, bf16, device)


def _steps(batch: RunBatch, steps_per_epoch: int, first: int) -> Iterator[Step]:
    """Give the steps of a training from the first that is to be made."""
    orders = [batch.orders(run) for run in batch.runs]
    for epoch in range(batch.recipe.epochs):
        order = torch.from_numpy(np.stack([next(order) for order in orders]))  # (runs, size)
        for step, index in enumerate(torch.split(order, batch.recipe.batch_size, dim=1), epoch * steps_per_epoch):
            if step >= first:
                yield step, index


def _resume(state_file: str, stack: Stack, first_loss: Tensor, epoch_loss: Tensor) -> int:
    """Load what an interrupted training left, if anything; gives the number of steps that it had made."""
    state = load_state(state_file)
    if state is None:
        return 0
    saved, step = state
    first_loss.copy_(saved.pop("first_loss"))
    epoch_loss.copy_(saved.pop("epoch_loss"))
    stack.load(saved)
    return step


def _correct(stack: Stack, dataset: Dataset, split: SplitName, device: str | torch.device) -> np.ndarray:
    parts = []
    for images in dataset.batches(split, _EVALUATION_BATCH, device):
        parts.append((stack.logits(images.images).argmax(2) == images.labels).cpu())  # (runs, b)
    return torch.cat(parts, dim=1).numpy()  # (runs, n)


@contextmanager
def _matmul_precision(precision: str, device: str | torch.device) -> Iterator[None]:
    """Allow TF32 while training on a GPU or forbid it; evaluation, and whatever else runs here, stays as it was."""
    if torch.device(device).type != "cuda":
        yield
        return
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "float32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
