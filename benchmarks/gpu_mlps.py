"""The section of `gpu.py` about many small networks at once: MNIST's 2,000 runs."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from gpu_frame import Bench, Row
from torch import Tensor

from heldout_torch.data import ArrayDataset, Split
from heldout_torch.experiments import find_experiment
from heldout_torch.training import RunBatch, train_runs

RUNS = 2000  # of the published experiment
EPOCHS = 1, 3  # whose difference is what an epoch takes; the rest is done once a run


def mnist_runs(bench: Bench) -> Iterator[Row]:
    """Train, evaluate and file some of the runs, on images of MNIST's size and number, and tell what all would take."""
    whole = bench.on_gpu and not bench.quick
    runs, dataset = 256 if whole else 2, _dataset(*((60_000, 10_000) if whole else (256, 64)))
    known = find_experiment("mnist-mlp")
    sizes = {"train_examples": len(dataset.train.labels), "test_examples": len(dataset.test.labels)}

    def train(epochs: int, count: int) -> None:
        named = replace(known, name=f"mlps-{epochs}-{count}", **sizes)  # type: ignore[arg-type]
        work = RunBatch(named, replace(known.recipe, epochs=epochs), 0.7, tuple(range(count)))
        done = list(train_runs(work, dataset, bench.folder / "mlps", bench.device))
        if failed := [one.error for one in done if one.error]:
            raise RuntimeError(failed[0])

    train(1, 1)  # libraries are loaded
    few, many = (bench.once(lambda: train(epochs, runs)) for epochs in EPOCHS)  # noqa: B023
    epoch = max(0.0, many - few) / (EPOCHS[1] - EPOCHS[0])
    total = few + (known.recipe.epochs - EPOCHS[0]) * epoch
    yield Row("one epoch", runs / few, "runs/s", f"{runs} runs together, evaluated and filed")
    note = f"of {known.recipe.epochs} epochs, from {runs} runs of {EPOCHS[0]} and of {EPOCHS[1]}"
    yield Row(f"{RUNS} runs", total * RUNS / runs, "s", note)


def _dataset(train: int, test: int) -> ArrayDataset:
    """Return images of ten patterns with specks, which a network learns as it does digits; on noise its loss grows."""
    random = torch.Generator().manual_seed(0)

    def specks(share: float, count: int, value: int) -> Tensor:
        return (torch.rand(count, 1, 28, 28, generator=random) < share).to(torch.uint8) * value

    patterns = specks(0.2, 10, 191)

    def split(count: int) -> Split:
        labels = torch.randint(10, (count,), generator=random)
        images = patterns[labels] + specks(0.1, count, 64)
        return Split(images, labels, torch.arange(count), torch.arange(count))

    return ArrayDataset("mnist", split(train), split(test), 10, divide_by=255.0)
