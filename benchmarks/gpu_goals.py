"""The sections of `gpu.py` that try what may reach a goal: float32 by tensor cores, and faster steps in bfloat16.

What they try is built into the package when a card has shown that it pays, and not before.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from gpu_frame import Bench, Row, tried
from gpu_sections import idle_share, trained_model
from torch import Tensor, nn

from heldout_torch.evaluation.convolutions import FusedConvolution
from heldout_torch.evaluation.float32 import float32_only, products_in
from heldout_torch.evaluation.inference import inference_copy, layout_for
from heldout_torch.evaluation.precision import logit_error
from heldout_torch.training.loop import fit
from heldout_torch.training.network import Network

Layer = FusedConvolution | nn.Conv2d | nn.Linear
Split = Callable[[Tensor], tuple[Tensor, Tensor]]

_DROPPED = 13  # of float32's 23 bits after the point, TF32 has 10
_ONE_KERNEL = """
template <typename T> void halves(T x, T& large, T& small) {
  large = __int_as_float((__float_as_int(x) + 0x1000) & ~0x1FFF);
  small = __int_as_float((__float_as_int(x - large) + 0x1000) & ~0x1FFF);
}
"""


def halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """Split float32 into two numbers that TF32 holds, whose sum is it but for at most the last bit.

    The first is rounded to the nearest, so the rest has 12 bits at most, of which TF32 holds 11.
    """
    large = rounded(x)
    return large, rounded(x - large)


def rounded(x: Tensor) -> Tensor:
    """Round float32 to TF32's 10 bits after the point, to the nearest, halves away from zero."""
    half = 1 << (_DROPPED - 1)
    return ((x.view(torch.int32) + half) & -(1 << _DROPPED)).view(torch.float32)


class ThreeProducts(nn.Module):
    """A convolution or linear layer of float32 out of products that TF32 computes without rounding their operands.

    Inputs and weights are sums of halves, and small times small is below float32's last bit. The three other products
    are summed in one layer, whose input has three times the channels.
    """

    def __init__(self, layer: Layer, split: Split) -> None:
        super().__init__()
        large, small = halves(layer.weight.detach().contiguous())
        weight = torch.cat([large, large, small], 1)
        if weight.dim() == 4:
            weight = weight.contiguous(memory_format=torch.channels_last)
        self.layer, self.split = copy.deepcopy(layer), split
        self.layer.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, x: Tensor, *other: Tensor) -> Tensor:
        """Map what the layer maps, (n, in, ...), and to a fused convolution what is added."""
        large, small = self.split(x)
        return self.layer(torch.cat([large, small, large], 1), *other)


def in_three_products(copied: nn.Module, split: Split = halves) -> nn.Module:
    """Return an inference copy's copy whose convolutions and linear layers are `ThreeProducts`; none has groups."""
    made = copy.deepcopy(copied)
    for name, module in list(made.named_modules()):
        if isinstance(module, Layer):
            parent, _, own = name.rpartition(".")
            setattr(made.get_submodule(parent), own, ThreeProducts(module, split))
    return made


def exact_otherwise(bench: Bench) -> Iterator[Row]:
    """Compute one network's logits in float32 as it is done today, by three products in TF32, and at other sizes."""
    model = trained_model(bench).to(bench.device)
    count, some = (2048, 256) if bench.on_gpu and not bench.quick else (8, 4)
    images = bench.dataset.train.images[: 2 * count].to(bench.device).float() / 255
    layout = layout_for(bench.device, torch.float32)
    with torch.inference_mode(), float32_only():
        truth = copy.deepcopy(model).double()(images[:some].double())
        today = inference_copy(model, images[:count])

    rates: dict[str, float] = {}

    def row(name: str, network: nn.Module, x: Tensor, mode: AbstractContextManager[None]) -> Row:
        with torch.inference_mode(), float32_only(), mode:
            error = float(logit_error(network(x)[:some], truth).max())
            rate = len(x) / bench.seconds(partial(network, x), 9)
        rates.setdefault(name, rate)
        times = rate / next(iter(rates.values()))
        return Row(name, rate, "images/s", f"{times:.2f} of today's; batch of {len(x)}, logits off by {error:.2g}")

    first = images[:count].contiguous(memory_format=layout)
    last = images[:count].contiguous(memory_format=torch.channels_last)
    yield row("as it is", today, first, nullcontext())
    ways: dict[str, Callable[[], nn.Module]] = {"TF32 in three products": lambda: in_three_products(today)}
    if bench.on_gpu:
        ways["..., split by one kernel"] = lambda: in_three_products(today, _split_by_one_kernel())
    ways["TF32 alone, as a limit"] = lambda: today
    for name, make in ways.items():
        yield from tried(name, lambda: [row(name, make(), last, products_in("tf32"))])  # noqa: B023
    for size in (count // 2, 2 * count):
        x = images[:size].contiguous(memory_format=layout)
        yield row(f"as it is, {size} at once", today, x, nullcontext())
    if not bench.on_gpu:
        yield Row("all kernels sought", None, "", "needs a GPU")
        return
    before = torch.backends.cudnn.benchmark_limit
    try:
        torch.backends.cudnn.benchmark_limit = 0  # by default the ten that cuDNN expects to be the fastest
        wider = images[: count + 8].contiguous(memory_format=layout)  # a size whose kernels were not sought yet
        yield row("all kernels sought", today, wider, nullcontext())
    finally:
        torch.backends.cudnn.benchmark_limit = before


def _split_by_one_kernel() -> Split:
    # Compiled by the driver's own compiler, so that none need be installed.
    kernel: Split = torch.cuda.jiterator._create_multi_output_jit_fn(_ONE_KERNEL, num_outputs=2)
    return kernel


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
            rate = _rate(bench, make_step(model, images, labels, 0.01, way), len(labels), repeats)
    finally:
        torch.backends.cudnn.benchmark = before
    return Row(name, rate, "images/s", f"{rate / base:.2f} times; steps of {len(labels)}")


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


def make_step(model: nn.Module, images: Tensor, labels: Tensor, rate: float, way: Way) -> Callable[[], object]:
    """Return what makes a step as `Network` does, on the same images each time, in another way.

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


def _captured(step: Callable[[], Tensor], optimizer: torch.optim.Optimizer) -> Callable[[], object]:
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
        step()
    return graph.replay


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
