"""The section of `gpu.py` that tries faster steps of training in bfloat16.

Which of them is built into the package a card decides, and not before.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from gpu_frame import Bench, Row, idle_share, trained_model, tried
from torch import Tensor, nn

from heldout_torch.evaluation.float32 import products_in
from heldout_torch.training.loop import fit
from heldout_torch.training.network import Network


@dataclass(frozen=True)
class Way:
    """How a step in bfloat16 is made otherwise than `Network` makes it."""

    batch: int = 512
    layout: torch.memory_format = torch.channels_last
    benchmark: bool = False
    fused: bool = False
    graph: bool = False
    compiled: bool = False
    bf16: bool = True


WAYS = {
    "CUDA graph": Way(graph=True),
    "CUDA graph, kernels sought, SGD fused": Way(graph=True, benchmark=True, fused=True),
    "kernels sought": Way(benchmark=True),
    "SGD fused": Way(fused=True),
    "channels first": Way(layout=torch.contiguous_format),
    "1024 at once": Way(batch=1024),
    "2048 at once": Way(batch=2048),
    "2048 at once, kernels sought, SGD fused": Way(batch=2048, benchmark=True, fused=True),
    "compiled": Way(compiled=True),
}


def training_faster(bench: Bench) -> Iterator[Row]:
    """Make steps of SmallInception's training on images that are there, in each way; ratios are to today's float32."""
    repeats = 20 if bench.on_gpu and not bench.quick else 1
    base = 0.0
    for name in ("float32", "bf16"):
        images, labels = batch_of(bench, 512)
        network = Network("small_inception", dict(bench.experiment.config), 0, 0.9, 5e-4, name == "bf16", bench.device)
        with products_in("ieee" if name == "float32" else "tf32"):
            rate = _rate(bench, partial(network.step, images[None], labels[None], 0.01), len(labels), repeats)
        base = base or rate
        yield Row(f"{name}, as it is", rate, "images/s", f"{rate / base:.2f} times; steps of {len(labels)}")
    yield from tried("batches alone", lambda: [_batches_alone(bench, base)])
    if bench.on_gpu:
        yield from tried("idle, bf16 as it is", lambda: [_idle(bench)])
    else:
        yield Row("idle, bf16 as it is", None, "", "needs a GPU")
    for name, way in WAYS.items():
        if (way.graph or way.compiled or way.fused) and not bench.on_gpu:
            yield Row(name, None, "", "needs a GPU")
            continue
        yield from tried(name, lambda: [_row_of(bench, name, way, repeats, base)])  # noqa: B023


def _row_of(bench: Bench, name: str, way: Way, repeats: int, base: float) -> Row:
    images, labels = batch_of(bench, way.batch)
    model = trained_model(bench).to(bench.device)
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = way.benchmark
    try:
        with products_in("tf32"):
            step = make_step(model, images, labels, 0.01, way)
            rate, loss = _rate(bench, step, len(labels), repeats), float(step())
    finally:
        torch.backends.cudnn.benchmark = before
    note = f"{rate / base:.2f} times; steps of {len(labels)}; loss {loss:.3g}"  # alike for all ways of one size
    return Row(name, rate, "images/s", note)


def _rate(bench: Bench, step: Callable[[], object], images: int, repeats: int) -> float:
    """Return images a second over steps that are not waited for, as those of a training are not."""

    def steps() -> None:
        for _ in range(repeats):
            step()

    return repeats * images / bench.seconds(steps)


def batch_of(bench: Bench, size: int) -> tuple[Tensor, Tensor]:
    """Return images float32 (b, c, h, w) and labels int64 (b,) on the device."""
    train = bench.dataset.train
    size = size if bench.on_gpu and not bench.quick else 4
    return train.images[:size].to(bench.device).float() / 255, train.labels[:size].to(bench.device)


def make_step(model: nn.Module, images: Tensor, labels: Tensor, rate: float, way: Way) -> Callable[[], Tensor]:
    """Return what makes a step as `Network` does, on the same images each time, in another way, and returns its loss.

    Batch norm's averages move at one speed, not as Sonnet's do: that costs nothing that a graph could not have.
    """
    model = model.train().to(memory_format=way.layout)
    images = images.contiguous(memory_format=way.layout)
    network: Callable[[Tensor], Tensor] = torch.compile(model) if way.compiled else model
    lr = torch.tensor(rate, device=images.device) if way.graph and way.fused else rate
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4, fused=way.fused or None)

    def step() -> Tensor:
        # The cache of cast weights must not outlive a graph's capture.
        with torch.autocast(images.device.type, torch.bfloat16, enabled=way.bf16, cache_enabled=not way.graph):
            logits = network(images)
        loss = F.cross_entropy(logits.float(), labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        return loss.detach()

    return _captured(step, optimizer) if way.graph else step


def _captured(step: Callable[[], Tensor], optimizer: torch.optim.Optimizer) -> Callable[[], Tensor]:
    """Return what replays a step as a CUDA graph."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):  # what is made or sought only once
            step()
    torch.cuda.current_stream().wait_stream(side)
    optimizer.zero_grad()  # so that gradients become the graph's own
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()

    def replay() -> Tensor:
        graph.replay()
        return loss

    return replay


def _batches_alone(bench: Bench, base: float) -> Row:
    """Measure how many images a second a training could be given: indexed, cropped, flipped and divided."""
    size, count = (512, 20) if bench.on_gpu and not bench.quick else (4, 2)
    batches_of = bench.dataset.training_batches("crop-flip", bench.device)
    index = torch.arange(size * count).remainder(len(bench.dataset.train.labels)).reshape(1, -1)
    steps = list(enumerate(torch.split(index, size, dim=1)))
    rate = size * count / bench.seconds(lambda: [images for images, _ in batches_of([0], iter(steps))])
    return Row("batches alone", rate, "images/s", f"{rate / base:.2f} times; {count} of {size}")


def _idle(bench: Bench) -> Row:
    state = str(bench.folder / "idle.safetensors")
    work = bench.work("bf16", subset=bench.dataset.train.index[: 64 if bench.quick else 8192].numpy())
    share = idle_share(lambda: fit(work, bench.dataset, bench.device, state, lambda runs, loss: None))
    note = "share of the time between a training's first kernel and its last"
    return Row("idle, bf16 as it is", share, "", note)
