"""A step of training that a GPU replays: as a CUDA graph, the host starts it at once instead of kernel by kernel.

Numbers of Python that a step uses are recorded with it, so those that change from step to step lie on the device.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _NormBase


@dataclass(frozen=True, eq=False)
class _Recording:
    """A step for one size of batch: the graph, the tensors that it reads its batch from, and its loss."""

    graph: Any
    batch: tuple[Tensor, Tensor]
    loss: Tensor


class RecordedStep:
    """A step that is made as it is for the first batch of a size, recorded for the second, and replayed from then on.

    Args:
        make: Makes a step of images (b, c, h, w) and labels (b,), and returns its loss, (1,). It does the same with
            each batch, and nothing in it waits for the device: what else changes from step to step are tensors there.
        device: A GPU of CUDA.
    """

    def __init__(self, make: Callable[[Tensor, Tensor], Tensor], device: torch.device) -> None:
        self._make, self._device = make, device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._recordings: dict[int, _Recording | None] = {}  # by size of batch

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """Make a step, and return its loss, (1,)."""
        size = len(labels)
        if size not in self._recordings:  # libraries seek their kernels now, which they could not while it is recorded
            self._recordings[size] = None
            return self._make(images, labels)
        recording = self._recordings[size] or self._record(images, labels)
        self._recordings[size] = recording
        for held, given in zip(recording.batch, (images, labels), strict=True):
            held.copy_(given)
        recording.graph.replay()
        return recording.loss.clone()

    def forget(self) -> None:
        """Let go of the recordings, and so of the memory that a step takes."""
        self._recordings = dict.fromkeys(self._recordings)

    def _record(self, images: Tensor, labels: Tensor) -> _Recording:
        batch, graph = (images.clone(), labels.clone()), torch.cuda.CUDAGraph()
        # Only one runs at a time, so all may use the same memory. Other threads may do meanwhile what they want.
        pool = next((known.graph.pool() for known in self._recordings.values() if known), None)
        recording = torch.cuda.graph(graph, pool, self._stream, capture_error_mode="thread_local")
        with torch.cuda.device(self._device), recording:
            loss = self._make(*batch)
        return _Recording(graph, batch, loss)


class MovedAverages:
    """The moving averages of norms, which move by a momentum that lies on the device.

    The norms themselves take averages of one batch alone, which this mixes with those before.

    Args:
        decay: Of the averages.
        norms: Norms with their decays; those of this one are taken.
        device: Where they are.
    """

    def __init__(self, decay: float, norms: Sequence[tuple[_NormBase, float]], device: torch.device) -> None:
        self.decay = decay
        self._averages: list[Tensor] = []
        for norm, own in norms:
            if own == decay:
                norm.momentum = 1.0
                self._averages += [one for one in (norm.running_mean, norm.running_var) if one is not None]
        self._momentum, self._rest = (torch.ones((), dtype=torch.float32, device=device) for _ in range(2))

    def next(self, momentum: float) -> None:
        """Set the momentum of the next step."""
        self._momentum.fill_(momentum)
        self._rest.fill_(1 - momentum)

    def kept(self) -> list[Tensor]:
        """Return what is kept of the averages, which the step that follows overwrites."""
        return list(torch._foreach_mul(self._averages, self._rest))

    def move(self, kept: list[Tensor]) -> None:
        """Mix the averages of the batch with what was kept."""
        torch._foreach_mul_(self._averages, self._momentum)
        torch._foreach_add_(self._averages, kept)
