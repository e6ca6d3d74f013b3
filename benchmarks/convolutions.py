"""Training of SmallInception: runs one after the other, as `heldout train` does, against runs vmapped together.

    python benchmarks/convolutions.py [--device cuda --precision bf16 --batch-size 512]

The peer is one program of `torch.func` over the stacked weights of all runs. Prints images/s, the share of the rate of
matrix products, and how long a run of the CIFAR-10 recipe takes at that speed.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch.func import functional_call, grad_and_value, vmap

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from heldout_torch.experiments import known_experiments
from heldout_torch.float32 import products_in
from heldout_torch.models import build_model
from heldout_torch.training.initial import initial_state
from heldout_torch.training.network import Network

REPEATS = 5
OPERATIONS = 3 * 0.587e9  # of an image: forward, gradient by the weights, gradient by the inputs
EXAMPLES = 35_000  # of a run of CIFAR-10 at subset ratio 0.7


class Vmapped:
    """The networks of several runs as one program; float32, or products in bfloat16."""

    def __init__(self, runs: int, momentum: float, bf16: bool, device: str) -> None:
        states = [initial_state("small_inception", {}, run) for run in range(runs)]
        stacked = {name: torch.stack([state[name] for state in states]).to(device) for name in states[0]}
        self.model, self.momentum, self.bf16 = build_model("small_inception").to(device), momentum, bf16
        self.parameters = {name: stacked.pop(name) for name, _ in self.model.named_parameters()}
        self.buffers = stacked
        self.velocities = [torch.zeros_like(tensor) for tensor in self.parameters.values()]

    def step(self, images: torch.Tensor, labels: torch.Tensor, rate: float) -> torch.Tensor:
        """Make one step of gradient descent for every run, as `Network.step` does for one."""

        def loss_of(parameters, buffers, images, labels):  # type: ignore[no-untyped-def]
            with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16):
                logits = functional_call(self.model, (parameters, buffers), (images,))
            return F.cross_entropy(logits.float(), labels)

        gradients, loss = vmap(grad_and_value(loss_of))(self.parameters, self.buffers, images, labels)
        torch._foreach_mul_(self.velocities, self.momentum)
        torch._foreach_add_(self.velocities, [gradients[name] for name in self.parameters])
        torch._foreach_add_(list(self.parameters.values()), self.velocities, alpha=-rate)
        return loss


def seconds(work: Callable[[], torch.Tensor]) -> float:
    """Time one call, to the end of what it started on a device."""
    started = time.perf_counter()
    float(work().flatten()[0])
    return time.perf_counter() - started


def matrix_rate(device: str, dtype: torch.dtype) -> float:
    """Measure the rate of square matrix products in FLOP/s."""
    size = 8192 if device != "cpu" else 2048
    a, b = torch.randn(2, size, size, device=device, dtype=dtype)
    seconds(lambda: a @ b)
    return 2 * size**3 / median(seconds(lambda: a @ b) for _ in range(REPEATS))


def main() -> None:
    """Measure both ways in turn, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["float32", "tf32", "bf16"], default="float32")
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=1, help="of each run at a time")
    options = parser.parse_args()
    device, bf16 = options.device, options.precision == "bf16"
    random = torch.Generator().manual_seed(0)
    images = torch.rand(options.runs, options.batch_size, 3, 32, 32, generator=random).to(device)
    labels = torch.randint(10, (options.runs, options.batch_size), generator=random).to(device)
    networks = [Network("small_inception", {}, run, 0.9, 0.0, bf16, device) for run in range(options.runs)]
    stack = Vmapped(options.runs, 0.9, bf16, device)

    def one_by_one(steps: int = options.steps) -> torch.Tensor:
        losses = [
            network.step(x[None], y[None], 0.01)
            for network, x, y in zip(networks, images, labels, strict=True)
            for _ in range(steps)
        ]
        return torch.cat(losses[steps - 1 :: steps])

    def together(steps: int = options.steps) -> torch.Tensor:
        return [stack.step(images, labels, 0.01) for _ in range(steps)][-1]

    # The share is of products computed alike: cuDNN takes TF32 for float32 unless it is told.
    with products_in("tf32" if options.precision == "tf32" else "ieee"):
        torch.testing.assert_close(
            together(1), one_by_one(1), rtol=1e-3 if options.precision == "float32" else 0.05, atol=1e-3
        )  # the same training
        times = [(seconds(one_by_one), seconds(together)) for _ in range(REPEATS + 1)][1:]
        count = options.runs * options.steps * options.batch_size
        alone, stacked = (median(count / pair[side] for pair in times) for side in (0, 1))
        ratios = sorted(theirs / ours for ours, theirs in times)
        peak = matrix_rate(device, torch.bfloat16 if bf16 else torch.float32)
    recipe = known_experiments()["cifar10-inception"].recipe
    print(f"SmallInception, {options.runs} runs, batches of {options.batch_size}, {options.precision}, {device}")
    for name, rate in (("one after the other", alone), ("vmapped together", stacked)):
        print(f"  {name}: {rate:.0f} images/s, {rate * OPERATIONS / peak:.0%} of {peak / 1e9:.0f} GFLOP/s (products)")
    print(f"  one after the other / vmapped: {median(ratios):.2f} (from {ratios[0]:.2f} to {ratios[-1]:.2f})")
    print(f"  a run of {recipe.epochs} epochs over {EXAMPLES} examples: {EXAMPLES * recipe.epochs / alone:.0f} s")


if __name__ == "__main__":
    main()
