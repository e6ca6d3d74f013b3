"""Many MLPs of one shape trained as one program: each weight is a stack over the runs, each product a batched one.

The backward pass is written out. It adds gradients straight into the momentum, which spares autograd's bookkeeping
and, for large layers, a pass over memory as long as the weights.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from heldout_torch.data import Dataset, SplitName
from heldout_torch.errors import HeldoutError
from heldout_torch.evaluation.memory import Told, in_portions
from heldout_torch.float32 import float32_only
from heldout_torch.storage.threads import map_ahead, processors
from heldout_torch.training.initial import initial_model, initial_state

_EVALUATED_AT_ONCE = 1000  # images
_TRIED = 32  # copies of an image, so that a dropout drops something


def check_stackable(architecture: str, config: dict[str, Any], image: Tensor) -> None:
    """Check that a stack computes what a network computes in training.

    Args:
        architecture: One whose record says that it is stackable.
        config: Its options.
        image: (1, c, h, w), of its data set.

    Raises:
        HeldoutError: If the network is another.
    """
    images, model = image.expand(_TRIED, -1, -1, -1), initial_model(architecture, config, 0)
    try:
        stack = StackedMLP(architecture, config, (0,), 1, 0.0, 0.0, "cpu")
        same = stack.run_state(0).keys() == model.state_dict().keys()
        with torch.no_grad(), torch.random.fork_rng([]):
            same = same and torch.allclose(stack.logits(images)[0], model(images), rtol=1e-3, atol=1e-4)
    except (LookupError, RuntimeError):  # it lacks a layer, or has one of another kind
        same = False
    if not same:
        raise HeldoutError(
            f"{architecture} is registered as stackable, but is not linear layers `layers.0`, `layers.1`, … with "
            "biases and ReLU between them; register it without that"
        )


class StackedMLP:
    """MLPs of several runs, with their momentum.

    Args:
        architecture: One whose record says that it is stackable.
        config: Its options.
        runs: Numbers of the runs, which seed their weights.
        batch_size: Largest number of examples of a step.
        momentum: Share of the last update that stays in the next.
        weight_decay: What times the weights is added to their gradient.
        device: Where the weights are.
    """

    def __init__(
        self,
        architecture: str,
        config: dict[str, Any],
        runs: Sequence[int],
        batch_size: int,
        momentum: float,
        weight_decay: float,
        device: str | torch.device,
    ) -> None:
        self.batch_size, self.momentum, self.weight_decay = batch_size, momentum, weight_decay
        draw = partial(initial_state, architecture, config)
        on_cpu = torch.device(device).type == "cpu"  # whose other processors train other stacks
        states = list(map(draw, runs) if on_cpu else map_ahead(draw, runs, processors()))
        layers = range(len(states[0]) // 2)
        self._weights = [
            torch.stack([state[f"layers.{i}.weight"].T for state in states]).contiguous().to(device) for i in layers
        ]  # each (runs, in, out)
        self._biases = [
            torch.stack([state[f"layers.{i}.bias"] for state in states])[:, None].to(device) for i in layers
        ]
        self._velocities = [torch.zeros_like(tensor) for tensor in self._weights]
        self._bias_velocities = [torch.zeros_like(tensor) for tensor in self._biases]  # each (runs, 1, out)

    def step(self, images: Tensor, labels: Tensor, rate: float) -> Tensor:
        """Make one step of gradient descent for every run.

        Args:
            images: float32 of shape (runs, b, c, h, w), each run's own batch, b at most the batch size.
            labels: int64 of shape (runs, b).
            rate: Learning rate.

        Returns:
            The mean cross entropy of each batch before the step, (runs,).
        """
        # A last, smaller batch is filled up with empty rows: a product of other sizes would be summed in another order
        # for another number of runs, and what training makes of such a difference grows.
        count, missing = labels.shape[1], self.batch_size - labels.shape[1]
        inputs = [images.flatten(2)]  # what enters each layer, (runs, b, in)
        if missing:  # or they would be copied
            labels, inputs = F.pad(labels, (0, missing)), [F.pad(inputs[0], (0, 0, 0, missing))]
        for weight, bias in zip(self._weights[:-1], self._biases[:-1], strict=True):
            inputs.append(torch.baddbmm(bias, inputs[-1], weight).relu_())
        logits = torch.baddbmm(self._biases[-1], inputs[-1], self._weights[-1])  # (runs, b, classes)

        log_shares = logits.log_softmax(2)
        target = labels[..., None]  # (runs, b, 1)
        loss = -log_shares.gather(2, target)[:, :count].mean((1, 2))
        gradient = log_shares.exp_()
        gradient.scatter_add_(2, target, gradient.new_full((), -1).expand(target.shape))
        gradient /= count  # of the mean cross entropy by the logits
        gradient[:, count:] = 0

        for i in reversed(range(len(self._weights))):
            weight, velocity, bias_velocity = self._weights[i], self._velocities[i], self._bias_velocities[i]
            velocity.baddbmm_(inputs[i].transpose(1, 2), gradient, beta=self.momentum)
            bias_velocity.mul_(self.momentum).add_(gradient.sum(1, keepdim=True))
            if self.weight_decay:
                velocity.add_(weight, alpha=self.weight_decay)
                bias_velocity.add_(self._biases[i], alpha=self.weight_decay)
            if i:
                gradient = torch.bmm(gradient, weight.transpose(1, 2)).mul_(inputs[i] > 0)  # through the ReLU
            weight.add_(velocity, alpha=-rate)
            self._biases[i].add_(bias_velocity, alpha=-rate)
        return loss

    def logits(self, images: Tensor) -> Tensor:
        """Map images (n, c, h, w), the same for all runs, to logits (runs, n, classes)."""
        x = images.flatten(1).expand(len(self._weights[0]), -1, -1)  # (runs, n, in)
        for i, (weight, bias) in enumerate(zip(self._weights, self._biases, strict=True)):
            x = torch.baddbmm(bias, x if i == 0 else x.relu_(), weight)
        return x

    def correct(self, dataset: Dataset, split: SplitName, progress: Callable[[int], object]) -> np.ndarray:
        """Evaluate the networks: bool of shape (runs, n), by published index. Tells how many images are done.

        In exact float32 as `heldout_torch.evaluation` does, and all of them together: one by one takes ten times as
        long, and as long as to train them.
        """
        device, told = self._weights[0].device, Told(progress)

        def correct(size: int) -> np.ndarray:
            told.done, parts = 0, []
            for batch in dataset.batches(split, size, device):
                parts.append(self.logits(batch.images).argmax(2) == batch.labels)  # (runs, b)
                told.add(len(batch.index))
            return torch.cat(parts, dim=1).cpu().numpy()

        with float32_only(), torch.inference_mode():
            return in_portions(correct, _EVALUATED_AT_ONCE, device, *(weight.shape for weight in self._weights))

    def run_state(self, i: int) -> dict[str, Tensor]:
        """Return the state dict of the i-th run's module, on the CPU."""
        state = {}
        for layer, (weight, bias) in enumerate(zip(self._weights, self._biases, strict=True)):
            state[f"layers.{layer}.weight"] = weight[i].T.contiguous().cpu()
            state[f"layers.{layer}.bias"] = bias[i, 0].cpu().clone()
        return state

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that change from step to step, by name."""
        parts = {"w": self._weights, "b": self._biases, "vw": self._velocities, "vb": self._bias_velocities}
        return {f"{name}.{i}": tensor for name, tensors in parts.items() for i, tensor in enumerate(tensors)}

    def load(self, saved: dict[str, Tensor], steps: int) -> None:
        """Go on from copies of `tensors`; after how many steps is nothing to this optimizer."""
        for name, tensor in self.tensors().items():
            tensor.copy_(saved[name])
