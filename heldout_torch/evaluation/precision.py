"""Two ways through a data set that give the same predictions: all in float32, or mostly in 16 bits."""

import time
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heldout_torch.devices import float64_device
from heldout_torch.evaluation.devices import device_errors, turn_on
from heldout_torch.evaluation.inference import Begun, bare_copy, begin_copy, inference_copy, layout_for, lower_copy
from heldout_torch.float32 import float32_only

Precision = Literal["exact", "fast"]

# Images of the first batch that are computed in both precisions. A GPU redoes as many at once, and computes no fewer:
# kernels are sought once for each size of a batch.
CALIBRATION = 256
_ERROR_SAMPLE = 16  # images on which the error of float32 is measured; float64 is slow
_CONTEST = 32  # images on which the two precisions are timed
_CHUNK, _CHUNK_BYTES = 32, 2_500_000  # images that the CPU computes at once, at most


class InferenceNetwork:
    """A network as inference runs it, giving float32 logits.

    Args:
        model: Any network.
        images: The first images, on the device.
        precision: With "fast", a copy in 16 bits is kept beside the float32 one if the device gains by it.
        begun: As in `inference_copy`.

    Attributes:
        at_once: How many images a GPU computes at once in float32.
    """

    def __init__(self, model: nn.Module, images: Tensor, precision: Precision, begun: Begun | None = None) -> None:
        self._first = self.at_once = len(images)
        self._exact = inference_copy(model, images[: _chunk(images, torch.float32)], begun)
        # The copy in 16 bits, its type, and what its logits (k,) are off by in the mean.
        self._low: tuple[nn.Module, torch.dtype, Tensor] | None = None
        if precision == "fast" and has_bfloat16(images.device):
            self._low = self._find_low(model, images)
        if self.has_low:
            self.at_once = min(CALIBRATION, self._first)

    def _find_low(self, model: nn.Module, images: Tensor) -> tuple[nn.Module, torch.dtype, Tensor] | None:
        """Make the copy in 16 bits; None if it is not faster, or the network has none or would take other numbers.

        float16 keeps three bits more of a number than bfloat16, but no large numbers. On CPUs it is slow.
        """
        if _looks_up(model, images):
            return None
        on_cpu, contest, images = images.device.type == "cpu", images[:_CONTEST], images[:CALIBRATION]
        for dtype in (torch.bfloat16,) if on_cpu else (torch.float16, torch.bfloat16):
            low = lower_copy(self._exact, model, images[: _chunk(images, dtype)], dtype)
            if low is None:
                continue
            if on_cpu and not self.is_faster(low, contest):
                return None
            # Rounding the weights moves the logits of all images alike; what is left is about half of the error.
            shift = (self._forward(low, images, dtype) - self.exact(images)).mean(0)  # (k,)
            if dtype == torch.bfloat16 or bool(shift.isfinite().all()):
                return low, dtype, shift
        return None

    @property
    def has_low(self) -> bool:
        """Whether there is a faster, less exact way."""
        return self._low is not None

    def exact(self, images: Tensor) -> Tensor:
        """Map images (b, c, h, w) to logits (b, k), in float32."""
        return self._forward(self._exact, images, torch.float32)

    def low(self, images: Tensor) -> Tensor:
        """Map images (b, c, h, w) to logits (b, k), computed in 16 bits where that pays."""
        if self._low is None:
            return self.exact(images)
        low, dtype, shift = self._low
        return self._forward(low, images, dtype) - shift

    @torch.inference_mode()
    def _forward(self, model: nn.Module, images: Tensor, dtype: torch.dtype) -> Tensor:
        on_cpu = images.device.type == "cpu"
        on_gpu = self.at_once if dtype == torch.float32 else self._first
        layout, at_once = layout_for(images.device, dtype), _chunk(images, dtype) if on_cpu else on_gpu
        logits = []
        for part in torch.split(images, at_once):
            missing = 0 if on_cpu else rounded_up(len(part), at_once) - len(part)
            whole = F.pad(part, (0, 0, 0, 0, 0, 0, 0, missing)) if missing else part
            logits.append(model(whole.to(dtype).contiguous(memory_format=layout))[: len(part)])
        return torch.cat(logits).float()

    def is_faster(self, low: nn.Module, images: Tensor) -> bool:
        """Whether bfloat16 beats float32 on these images, by more than what is redone will cost."""

        def seconds(model: nn.Module, dtype: torch.dtype) -> float:
            times = []
            for _ in range(3):  # the first makes the kernels
                start = time.perf_counter()
                self._forward(model, images, dtype)
                times.append(time.perf_counter() - start)
            return min(times)

        return 1.2 * seconds(low, torch.bfloat16) < seconds(self._exact, torch.float32)


def rounded_up(count: int, at_most: int) -> int:
    """Return the next power of two from 256 on, or `at_most` if that is less."""
    return min(max(CALIBRATION, 1 << (count - 1).bit_length()), at_most)


def logit_error(logits: Tensor, truth: Tensor) -> Tensor:
    """Return by how much the difference of two logits can be off, for each example.

    If every difference of two true logits is off by at most e, a prediction whose margin exceeds e is the true one.

    Args:
        logits: (b, k).
        truth: The same, computed more exactly.

    Returns:
        Of shape (b,): the largest error minus the smallest, over the classes.
    """
    error = logits.double() - truth.double()  # (b, k)
    return error.amax(1) - error.amin(1)


class Prepared:
    """A network whose copy for inference is made once, when the first images are there, for all splits.

    Args:
        model: The network, which must not change meanwhile.
        device: If it is a GPU, what of the copy for it needs no images is made at once, so that the GPU may compute
            another network meanwhile; by default the whole copy is made when there are images.
    """

    def __init__(self, model: nn.Module, device: str | torch.device = "cpu") -> None:
        self.model, device = model, torch.device(device)
        self._begun = None if device.type == "cpu" else begin_copy(model, device)
        self._made: tuple[Precision, InferenceNetwork] | None = None

    def network(self, images: Tensor, precision: Precision) -> InferenceNetwork:
        """Return the copy, or make it for these images (b, c, h, w) and as many at once."""
        if self._made is None or self._made[0] != precision:
            begun, self._begun = self._begun, None
            self._made = precision, InferenceNetwork(self.model, images, precision, begun)
        return self._made[1]

    def forget(self) -> None:
        """Let go of the copy, so that the next one is made anew."""
        self._made = self._begun = None


def rounding_error(prepared: Prepared, images: Tensor, precision: Precision) -> float:
    """Measure the error of the float32 pass, as `logit_error` against float64, on a few of its images.

    Args:
        prepared: The network.
        images: As many as the pass takes at once, (b, c, h, w): libraries choose what they compute by that number.
        precision: Of the pass.
    """
    place = float64_device(images.device)
    with device_errors(images.device), turn_on(images.device), torch.inference_mode(), float32_only():
        double = bare_copy(prepared.model).to(place, torch.float64)
        network = prepared.network(images, precision)
        exact = network.exact(images[: network.at_once])[:_ERROR_SAMPLE]
        return float(logit_error(exact.to(place), double(images[:_ERROR_SAMPLE].to(place).double())).max())


def _chunk(images: Tensor, dtype: torch.dtype) -> int:
    """Return how many images the CPU computes at once in a type, and how many a copy of that type is tried on."""
    # Large activations are fresh pages from the system for every layer, which costs more than small batches do.
    return max(1, min(_CHUNK, _CHUNK_BYTES // (images[0].numel() * dtype.itemsize)))


def _looks_up(model: nn.Module, images: Tensor) -> bool:
    """Whether a network takes what it is given for numbers of rows, such as of words: 16 bits would name others."""
    tables = any(isinstance(module, nn.Embedding | nn.EmbeddingBag) for module in model.modules())
    return tables and bool((images == images.round()).all())


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a device has instructions for bfloat16."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    supported: Callable[[], bool] | None = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return device.type == "cpu" and supported is not None and supported()
