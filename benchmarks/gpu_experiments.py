"""The section of `gpu.py` about how evaluation runs on a GPU: what was decided on an H200, for other cards."""

import copy
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from gpu_frame import Bench, Row, trained_model, tried
from torch import Tensor, nn

from heldout_torch.evaluation.inference import inference_copy, layout_for, lower_copy
from heldout_torch.evaluation.precision import logit_error
from heldout_torch.float32 import float32_only

BATCH = 2048
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def experiments(bench: Bench) -> Iterator[Row]:
    """Make all of them; one that a machine cannot make says so and does not stop the others."""
    if not bench.on_gpu:
        for name in EXPERIMENTS:
            yield Row(name, None, "", "needs a GPU")
        return
    model = trained_model(bench).to(bench.device)
    images = bench.dataset.train.images[:BATCH].to(bench.device).float() / 255
    for name, experiment in EXPERIMENTS.items():
        with float32_only():
            for row in tried(name, partial(experiment, bench, model, images)):
                title = name if row.value is None else f"{name}: {row.name}"
                yield Row(title, row.value, row.unit, row.note)


def images_a_second(bench: Bench, name: str, network: Callable[[Tensor], Tensor], images: Tensor) -> Row:
    """Measure a network on images that lie as it wants them."""
    with torch.inference_mode():
        return Row(
            name, len(images) / bench.seconds(partial(network, images), 9), "images/s", f"batch of {len(images)}"
        )


def copy_in(dtype: torch.dtype, model: nn.Module, images: Tensor) -> nn.Module:
    """Return the copy that evaluation runs in a type."""
    copied = inference_copy(model, images)
    low = copied if dtype == torch.float32 else lower_copy(copied, model, images, dtype)
    assert low is not None
    return low


def layouts(bench: Bench, model: nn.Module, images: Tensor) -> Iterator[Row]:
    """Channels last or first, by precision, of the plain network."""
    for name, dtype in {"float32": torch.float32, **HALVES}.items():
        for layout in (torch.contiguous_format, torch.channels_last):
            network = copy.deepcopy(model).to(dtype).to(memory_format=layout)
            label = f"{name}, {'channels last' if layout is torch.channels_last else 'channels first'}"
            yield images_a_second(bench, label, network, images.to(dtype).contiguous(memory_format=layout))


def seeking(bench: Bench, model: nn.Module, images: Tensor) -> Iterator[Row]:
    """With cuDNN's fastest kernels sought, or its first choice taken."""
    network = inference_copy(model, images)
    for benchmark in (False, True):
        torch.backends.cudnn.benchmark = benchmark  # float32_only puts it back
        yield images_a_second(bench, f"benchmark {benchmark}", network, images)


def graphs(bench: Bench, model: nn.Module, images: Tensor) -> Iterator[Row]:
    """The same kernels started one by one, or replayed as a CUDA graph."""
    for name, dtype in {"float32": torch.float32, **HALVES}.items():
        for count in (256, BATCH):
            some = images[:count]
            network = copy_in(dtype, model, some)
            layout = layout_for(images.device, dtype)
            some = some.to(dtype).contiguous(memory_format=layout)
            yield images_a_second(bench, f"{name}, started", network, some)
            with torch.inference_mode():
                side = torch.cuda.Stream()
                side.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(side):
                    for _ in range(3):
                        expected = network(some)
                torch.cuda.current_stream().wait_stream(side)
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    logits = network(some)
                graph.replay()
                same = torch.equal(logits, expected)
            row = images_a_second(bench, f"{name}, replayed", lambda _: graph.replay(), some)  # noqa: B023
            yield Row(row.name, row.value, row.unit, f"{row.note}; logits {'the same' if same else 'DIFFER'}")


def fused(bench: Bench, model: nn.Module, images: Tensor) -> Iterator[Row]:
    """A convolution, its bias and its ReLU in one kernel of cuDNN, or in two."""
    for name, dtype in {"float32": torch.float32, **HALVES}.items():
        layout = layout_for(images.device, dtype)
        x = torch.rand(len(images), 96, 28, 28, device=images.device).to(dtype).contiguous(memory_format=layout)
        weight = torch.randn(96, 96, 3, 3, device=images.device).to(dtype).contiguous(memory_format=layout) / 30
        bias = torch.randn(96, device=images.device).to(dtype)
        operations = 2 * x.numel() * weight[0].numel()

        def two(x: Tensor) -> Tensor:
            return F.relu(F.conv2d(x, weight, bias, padding=1))  # noqa: B023

        def one(x: Tensor) -> Tensor:
            return torch.cudnn_convolution_relu(x, weight, bias, (1, 1), (1, 1), (1, 1), 1)  # noqa: B023

        for label, work in (("two kernels", two), ("cudnn_convolution_relu", one)):
            rate = operations / bench.seconds(partial(work, x), 9) / 1e12
            yield Row(f"{name}, {label}", rate, "TFLOP/s", "3 x 3, 96 to 96 channels, 28 x 28")
        error = float((one(x).float() - two(x).float()).abs().max())
        yield Row(f"{name}, largest difference", error)


def halves(bench: Bench, model: nn.Module, images: Tensor) -> Iterator[Row]:
    """What bfloat16 and float16 are off by, and how many images would have to be done again."""
    with torch.inference_mode():
        exact = inference_copy(model, images)(images).float()  # (b, k)
        top = exact.topk(2, dim=1).values
        for name, dtype in HALVES.items():
            layout = images.to(dtype).contiguous(memory_format=torch.channels_last)
            low = copy_in(dtype, model, images)(layout).float()
            low = low - (low - exact).mean(0)  # as evaluation takes it off
            overflow = int((~low.isfinite()).any(1).sum())
            error = logit_error(low, exact)[low.isfinite().all(1)]
            redone = float((top[:, 0] - top[:, 1] < 1.5 * error.max()).float().mean())
            yield Row(name, float(error.max()), "", f"largest error; {redone:.1%} done again, {overflow} overflow")


def compiled(bench: Bench, model: nn.Module, images: Tensor) -> Iterator[Row]:
    """What TorchInductor makes of the network."""
    for name, dtype in {"float32": torch.float32, **HALVES}.items():
        layout = layout_for(images.device, dtype)
        network = copy_in(dtype, model, images)
        some = images.to(dtype).contiguous(memory_format=layout)
        fast = torch.compile(network)
        start = time.perf_counter()
        with torch.inference_mode():
            fast(some)
        taken = time.perf_counter() - start
        row = images_a_second(bench, name, fast, some)
        yield Row(row.name, row.value, row.unit, f"{row.note}; compiled in {taken:.0f} s")


# The long ones last, where the time may end.
EXPERIMENTS = {
    "layout": layouts,
    "cudnn": seeking,
    "fused convolution": fused,
    "half precision": halves,
    "CUDA graph": graphs,
    "torch.compile": compiled,
}
