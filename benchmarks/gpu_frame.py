"""What the sections of `gpu.py` have in common: rows of the table, clocks of a device, synthetic data."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn

from heldout_torch.data import ArrayDataset, Split
from heldout_torch.experiments import Experiment
from heldout_torch.models import build_model
from heldout_torch.training import Recipe, RunBatch

GIGA_OPERATIONS = {"small_inception": 0.587, "resnet50": 8.2}  # of one image; a multiply-add counts as two
CLASSES = 10


class TimeIsOver(BaseException):
    """A section's time is over; no error that anything on the way may take for its own."""


@dataclass(frozen=True)
class Row:
    """A line of the table; without a value, the note says why."""

    name: str
    value: float | None
    unit: str = ""
    note: str = ""


@dataclass
class Bench:
    """What is measured on, and what earlier sections found.

    Attributes:
        device: Where.
        quick: Whether little of everything is enough.
        folder: For files; removed at the end.
        peaks: FLOP/s of matrix products, by float32, tf32, bf16 and fp16.
        state: Weights of a SmallInception that has learnt something of the data set.
    """

    device: torch.device
    quick: bool
    folder: Path
    dataset: ArrayDataset
    peaks: dict[str, float] = field(default_factory=dict)
    state: dict[str, Tensor] = field(default_factory=dict)

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU of CUDA."""
        return self.device.type == "cuda"

    @property
    def experiment(self) -> Experiment:
        """What the synthetic runs belong to."""
        sizes = len(self.dataset.train.labels), len(self.dataset.test.labels)
        config = {"num_classes": CLASSES}
        return Experiment("gpu-images", "gpu-images", "small_inception", config, *sizes, {"divide_by": 255})

    def work(self, precision: str = "float32", subset: np.ndarray | None = None) -> RunBatch:
        """Return a training of one epoch, as CIFAR-10's recipe but for the learning rate, from which it learns."""
        size = 16 if self.quick else 512
        recipe = Recipe(
            epochs=1, batch_size=size, learning_rate=0.01, ramp=0.15, decay="linear", augmentation="crop-flip",
            precision=precision,
        )  # fmt: skip
        return RunBatch(self.experiment, recipe, 0.7, (0,), subset)

    def seconds(self, work: Callable[[], object], repeats: int = 3) -> float:
        """Time calls to the end of what they start on the device: the median, after one that is not counted.

        If quick, one call only, which is counted.
        """
        times = [self.once(work) for _ in range(1 if self.quick else 1 + repeats)]
        return median(times[1:] or times)

    def once(self, work: Callable[[], object]) -> float:
        """Time one call to the end of what it starts on the device."""
        self.wait()
        start = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - start

    def wait(self) -> None:
        """Wait for the device."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def share(self, rate: float, architecture: str, peak: str) -> str:
        """Say what share of a peak some images a second are."""
        if peak not in self.peaks:
            return ""
        found = rate * GIGA_OPERATIONS[architecture] * 1e9 / self.peaks[peak]
        return f"{found:.0%} of {self.peaks[peak] / 1e12:.3g} TFLOP/s ({peak} products)"


def tried(name: str, make: Callable[[], Iterable[Row]]) -> Iterator[Row]:
    """Yield rows of what is only tried; where a machine cannot do it, which is not a failure, a row says so."""
    try:
        yield from make()
    except Exception as error:  # what is tried has its own ways to fail on each machine
        reason = " ".join(str(error).split())[:200]
        yield Row(name, None, "", f"not possible here: {type(error).__name__}: {reason}")


def idle_share(work: Callable[[], object]) -> float:
    """Return the share of the time that no kernel ran, from the first to the last, as PyTorch's profiler saw it."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        work()
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in profile.events()
        if event.device_type == torch.autograd.DeviceType.CUDA  # type: ignore[attr-defined]
    )
    busy, end = 0.0, spans[0][0]
    for start, stop in spans:
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return 1 - busy / (end - spans[0][0])


def trained_model(bench: Bench) -> nn.Module:
    """Return the network that was trained here; an untrained one if that was left out."""
    torch.manual_seed(0)
    model = build_model("small_inception", **bench.experiment.config)
    if bench.state:
        model.load_state_dict(bench.state)
    return model.eval()


def make_dataset(train: int, test: int) -> ArrayDataset:
    """Make images like CIFAR's, each a mixture of two classes' patterns and noise: margins of all sizes occur."""
    random = torch.Generator().manual_seed(0)
    coarse = torch.randn(CLASSES, 3, 8, 8, generator=random)
    patterns = torch.nn.functional.interpolate(coarse, scale_factor=4, mode="bilinear")  # (classes, 3, 32, 32)

    def split(count: int) -> Split:
        pairs = torch.randint(CLASSES, (count, 2), generator=random)
        shares = torch.rand(count, 1, 1, 1, generator=random) / 2 + 0.5  # of the first of the two
        images = torch.cat(
            [_mix(patterns, *part, random) for part in zip(pairs.split(1000), shares.split(1000), strict=True)]
        )
        return Split(images, pairs[:, 0].contiguous(), torch.arange(count), torch.arange(count))

    return ArrayDataset("gpu-images", split(train), split(test), CLASSES, divide_by=255.0)


def _mix(patterns: Tensor, pairs: Tensor, shares: Tensor, random: torch.Generator) -> Tensor:
    mixed = shares * patterns[pairs[:, 0]] + (1 - shares) * patterns[pairs[:, 1]]
    noise = torch.randn(mixed.shape, generator=random)
    return (128 + 40 * mixed + 25 * noise).clamp(0, 255).to(torch.uint8)


Section = Callable[[Bench], Iterator[Row]]
