"""The training loop: a batch of runs, each with its own subset, order and seed, trained side by side."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from heldout_torch.data import Dataset, SplitName
from heldout_torch.data.dataset import Step
from heldout_torch.float32 import float32_only, products_in
from heldout_torch.models import find_architecture
from heldout_torch.training.network import Network
from heldout_torch.training.run_batch import RunBatch
from heldout_torch.training.stacked_mlp import StackedMLP
from heldout_torch.training.state import load_state, save_state

SAVE_SECONDS = 180.0  # how often the state of a long training is saved
LOST_SECONDS = 2.0  # of training, that are not worth a state when it is interrupted
_PASSES = 3  # what a step costs, in passes of evaluation: forward, and back for activations and for weights

# Told as work is done: how many runs' worth of work it was, and at the end of an epoch its mean loss.
Watch = Callable[[float, float | None], None]


class Stack(Protocol):
    """Networks of several runs, with what their optimizer remembers; see `StackedMLP` and `Network`."""

    def step(self, images: Tensor, labels: Tensor, rate: float) -> Tensor: ...  # noqa: D102
    def correct(self, dataset: Dataset, split: SplitName, progress: Callable[[int], object]) -> np.ndarray: ...  # noqa: D102
    def run_state(self, i: int) -> dict[str, Tensor]: ...  # noqa: D102
    def tensors(self) -> dict[str, Tensor]: ...  # noqa: D102
    def load(self, saved: dict[str, Tensor], steps: int) -> None: ...  # noqa: D102


@dataclass(frozen=True, eq=False)
class Fitted:
    """A batch of runs after training.

    Attributes:
        stack: Their networks.
        steps: Steps made.
        first_losses: Mean cross entropy of each run's first batch, before any step.
        last_losses: Mean cross entropy of each run over its last epoch.
        evaluation_share: What part of a run's work its evaluation is, the rest being its training.
    """

    stack: Stack
    steps: int
    first_losses: list[float]
    last_losses: list[float]
    evaluation_share: float


def fit(batch: RunBatch, dataset: Dataset, device: str | torch.device, state_file: str, watch: Watch) -> Fitted:
    """Train a batch of runs; where the loss of all is not a number any more, only to the end of that epoch.

    Args:
        batch: The runs; one only, unless the architecture is stackable.
        dataset: The experiment's.
        device: Where to train.
        state_file: Path or URL, where the state of a long training is saved every few minutes, and read from when the
            training was interrupted. Whoever writes the runs removes it.
        watch: Called after each step; what it raises ends the training, whose state is saved if that took seconds.
    """
    recipe, runs = batch.recipe, len(batch.runs)
    stack = make_stack(batch, device)
    batches_of = dataset.training_batches(recipe.augmentation, device)
    size = len(batch.subset_of(batch.runs[0]))
    steps_per_epoch = math.ceil(size / recipe.batch_size)
    steps = recipe.epochs * steps_per_epoch
    evaluation_share = _evaluation_share(batch, size)
    step_share = (1 - evaluation_share) * runs / steps
    losses = torch.zeros(2, runs, dtype=torch.float32, device=device)
    first_loss, epoch_loss = losses  # each (runs,)
    resumed = _resume(state_file, stack, losses, steps)

    if resumed:
        watch(step_share * resumed, None)
    saved_at = time.monotonic()
    batches = batches_of(batch.runs, _steps(batch, steps_per_epoch, resumed))
    with _products(recipe.precision, device), closing(batches):
        for step, (images, labels) in enumerate(batches, resumed):
            epoch_step = step % steps_per_epoch
            if epoch_step == 0:
                epoch_loss.zero_()
            loss = stack.step(images, labels, recipe.rate(step, steps))
            epoch_loss.add_(loss, alpha=labels.shape[1] / size)
            if step == 0:
                first_loss.copy_(loss)
            ends = epoch_step == steps_per_epoch - 1
            try:
                watch(step_share, float(epoch_loss.mean()) if ends else None)
            except BaseException:  # whoever interrupts the training may want to continue it
                if time.monotonic() - saved_at > LOST_SECONDS:
                    save_state(state_file, {**stack.tensors(), "losses": losses}, step + 1, batch.runs)
                raise
            if ends and not epoch_loss.isfinite().any():
                watch(step_share * (steps - step - 1), None)
                break
            if time.monotonic() - saved_at > SAVE_SECONDS:
                save_state(state_file, {**stack.tensors(), "losses": losses}, step + 1, batch.runs)
                saved_at = time.monotonic()
    return Fitted(stack, steps, first_loss.tolist(), epoch_loss.tolist(), evaluation_share)


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


def _evaluation_share(batch: RunBatch, size: int) -> float:
    evaluated = batch.experiment.train_examples + batch.experiment.test_examples
    return evaluated / (evaluated + _PASSES * batch.recipe.epochs * size)


def _steps(batch: RunBatch, steps_per_epoch: int, first: int) -> Iterator[Step]:
    """Yield the steps of a training from the first that is to be made.

    An order takes the host half a millisecond, so those of the next epoch are drawn a few after each step, while a GPU
    still computes it.
    """
    orders, epochs = [batch.orders(run) for run in batch.runs], batch.recipe.epochs
    drawn, runs = np.stack([next(order) for order in orders]), len(orders)  # (runs, size)
    for epoch in range(epochs):
        order, drawn = torch.from_numpy(drawn), np.empty_like(drawn)
        for i, index in enumerate(torch.split(order, batch.recipe.batch_size, dim=1)):
            if (step := epoch * steps_per_epoch + i) >= first:
                yield step, index
            if epoch < epochs - 1:
                for run in range(i * runs // steps_per_epoch, (i + 1) * runs // steps_per_epoch):
                    drawn[run] = next(orders[run])


def _products(precision: str, device: str | torch.device) -> AbstractContextManager[None]:
    """Return the block in which a GPU computes as the recipe says, and a CPU in float32."""
    if torch.device(device).type == "cpu":  # several threads may train there
        return float32_only()
    return products_in("ieee" if precision == "float32" else "tf32")


def _resume(state_file: str, stack: Stack, losses: Tensor, steps: int) -> int:
    """Load what an interrupted training left, if anything; return the number of steps that it had made."""
    state = load_state(state_file, {**stack.tensors(), "losses": losses}, steps)
    if state is None:
        return 0
    saved, step = state
    losses.copy_(saved.pop("losses"))
    stack.load(saved, step)
    return step
