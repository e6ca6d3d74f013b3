"""The section of `gpu.py` that tries float32 by tensor cores: three products in TF32 for one in float32.

It is built into the package when a card has shown that it pays, and not before.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from gpu_frame import Bench, Row, trained_model, tried
from torch import Tensor, nn

from heldout_torch.evaluation.convolutions import FusedConvolution
from heldout_torch.evaluation.float32 import float32_only, products_in
from heldout_torch.evaluation.inference import inference_copy, layout_for
from heldout_torch.evaluation.precision import logit_error

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
