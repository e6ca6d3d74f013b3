"""One network of any architecture, trained by autograd: for convolutions, one run at a time fills a device."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.batchnorm import _NormBase

from heldout_torch.data import Dataset, SplitName
from heldout_torch.errors import HeldoutError
from heldout_torch.evaluation.evaluate import evaluate_together
from heldout_torch.evaluation.precision import Prepared
from heldout_torch.models import find_architecture
from heldout_torch.training.initial import initial_model
from heldout_torch.training.recorded import MovedAverages, RecordedStep


class Network:
    """The network of one run, with its momentum: a stack of one.

    Args:
        architecture: A name of `heldout_torch.models.list_models()`.
        config: Options of the architecture.
        run: Number of the run, which seeds its weights.
        momentum: Share of the last update that stays in the next.
        weight_decay: What times the weights is added to their gradient.
        bf16: Compute products in bfloat16; weights, batch norm's averages and the loss stay float32.
        device: Where the weights are.
    """

    def __init__(
        self,
        architecture: str,
        config: dict[str, Any],
        run: int,
        momentum: float,
        weight_decay: float,
        bf16: bool,
        device: str | torch.device,
    ) -> None:
        model = initial_model(architecture, config, run)
        self._model = model.to(device).to(memory_format=torch.channels_last)
        place = next(self._model.parameters()).device
        on_cuda = place.type == "cuda" and torch.version.hip is None
        replayed = on_cuda and find_architecture(architecture).replayable
        # A recorded step reads its rate on the device, which only the fused optimizer can.
        rate = torch.zeros((), dtype=torch.float32, device=place) if replayed else 0.0
        self._optimizer = torch.optim.SGD(
            self._model.parameters(), rate, momentum, weight_decay=weight_decay, fused=replayed or None
        )
        for parameter in self._model.parameters():
            self._optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        self._bf16 = bf16
        self._norms = [
            (module, 1 - module.momentum)
            for module in self._model.modules()
            if isinstance(module, _NormBase) and module.momentum
        ]  # batch and instance norm with the decay of its moving averages; without momentum they are a mean, or stay
        decays = {decay for norm, decay in self._norms if norm.running_mean is not None} if replayed else set()
        self._averages = [MovedAverages(decay, self._norms, place) for decay in decays]
        self._recorded = RecordedStep(self._make_there, place) if replayed else None
        self._steps = 0
        self._prepared = Prepared(self._model)  # for evaluation

    def step(self, images: Tensor, labels: Tensor, rate: float) -> Tensor:
        """Make one step of gradient descent.

        Args:
            images: float32 of shape (1, b, c, h, w).
            labels: int64 of shape (1, b).
            rate: Learning rate.

        Returns:
            The mean cross entropy of the batch before the step, (1,).
        """
        self._model.train()
        self._steps += 1
        self._prepared.forget()
        if self._recorded is not None:
            self._optimizer.param_groups[0]["lr"].fill_(rate)
            for averages in self._averages:
                averages.next(debiased_momentum(averages.decay, self._steps))
            return self._recorded(images[0], labels[0])
        for norm, decay in self._norms:
            norm.momentum = debiased_momentum(decay, self._steps)
        self._optimizer.param_groups[0]["lr"] = rate
        return self._make(images[0], labels[0])

    def _make(self, images: Tensor, labels: Tensor) -> Tensor:
        # A cache of cast weights would outlive the step within another block of autocast, and a recording.
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self._bf16, cache_enabled=False):
            logits = self._model(images.contiguous(memory_format=torch.channels_last))  # (b, classes)
        loss = F.cross_entropy(logits.float(), labels)
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        self._optimizer.step()
        return loss.detach()[None]

    def _make_there(self, images: Tensor, labels: Tensor) -> Tensor:
        """Make a step of which all that changes from step to step is on the device."""
        kept = [averages.kept() for averages in self._averages]
        loss = self._make(images, labels)
        for averages, before in zip(self._averages, kept, strict=True):
            averages.move(before)
        return loss

    def correct(self, dataset: Dataset, split: SplitName, progress: Callable[[int], object]) -> np.ndarray:
        """Evaluate the network: bool of shape (1, n), by published index. Tells how many images are done."""
        if self._recorded is not None:
            self._recorded.forget()
        device = next(self._model.parameters()).device
        (result,) = evaluate_together([self._prepared], dataset, split, device=device, progress=progress)
        if isinstance(result, HeldoutError):
            raise result
        return result.correct[None]

    def run_state(self, i: int) -> dict[str, Tensor]:
        """Return the state dict of the module, on the CPU; i is 0."""
        return {name: tensor.cpu().contiguous() for name, tensor in self._model.state_dict().items()}

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that change from step to step, by name."""
        model = {f"model.{name}": tensor for name, tensor in self._model.state_dict().items()}
        return model | {
            f"momentum.{name}": self._optimizer.state[parameter]["momentum_buffer"]
            for name, parameter in self._model.named_parameters()
        }

    def load(self, saved: dict[str, Tensor], steps: int) -> None:
        """Go on from copies of `tensors`, after so many steps."""
        for name, tensor in self.tensors().items():
            tensor.copy_(saved[name])
        self._steps = steps
        self._prepared.forget()


def debiased_momentum(decay: float, count: int) -> float:
    """Return the momentum with which PyTorch's batch norm keeps Sonnet's zero-debiased moving average.

    Sonnet keeps `hidden`, which begins at 0, and uses `average = hidden / (1 - decay ** count)`, so no beginning is
    in the average. By the average alone, which is what PyTorch keeps, the same recursion is
    `average = (1 - m) * average + m * value` with `m = (1 - decay) / (1 - decay ** count)`. Of the variance both take
    the unbiased one of the batch: TensorFlow's fused batch norm, which Sonnet calls, gives that.

    Args:
        decay: Of the moving average, in (0, 1).
        count: Batches seen, this one included, from 1.
    """
    return (1 - decay) / (1 - decay**count)
