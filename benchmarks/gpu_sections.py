"""The sections of `gpu.py` about what this package does today."""

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import get_args

import numpy as np
import torch
from gpu_frame import Bench, Row, idle_share, trained_model, tried
from imagenet_folder import write_jpegs
from torch import Tensor

from heldout_torch.data import ArrayDataset, Split
from heldout_torch.evaluation import Precision, evaluate
from heldout_torch.evaluation.provenance import Provenance
from heldout_torch.evaluation.save import save_runs
from heldout_torch.evaluation.sweep import sweep
from heldout_torch.float32 import products_in
from heldout_torch.models import build_model
from heldout_torch.stats import RunTable, influence_pairs
from heldout_torch.training import RunBatch
from heldout_torch.training.loop import fit
from heldout_torch.training.subsets import draw_subset
from heldout_torch.zoo import AuxArrays, RunMetadata
from heldout_torch.zoo.base import WritableZoo
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.open import open_writable

RUNS = 2000  # of statistics
PRECISIONS = {
    "float32": (torch.float32, "ieee"), "tf32": (torch.float32, "tf32"),
    "bf16": (torch.bfloat16, "ieee"), "fp16": (torch.float16, "ieee"),
}  # fmt: skip


def products(bench: Bench) -> Iterator[Row]:
    """Measure the rate of square matrix products, which the shares below are of."""
    size = (8192 if bench.on_gpu else 1024) // (2 if bench.quick else 1)
    for name, (dtype, mode) in PRECISIONS.items():
        if name in ("tf32", "fp16") and not bench.on_gpu:
            continue
        a, b = torch.randn(2, size, size, device=bench.device).to(dtype)
        with products_in(mode):  # type: ignore[arg-type]
            rate = 2 * size**3 / bench.seconds(partial(torch.matmul, a, b), 9)
        bench.peaks[name] = rate
        yield Row(name, rate / 1e12, "TFLOP/s", f"products of {size} x {size}")


def training(bench: Bench) -> Iterator[Row]:
    """Train SmallInception for an epoch in float32; the network is kept for the sections below."""
    yield from _training(bench, ["float32"])


def training_otherwise(bench: Bench) -> Iterator[Row]:
    """Train it in the other precisions."""
    yield from _training(bench, ["tf32", "bf16"] if bench.on_gpu else ["bf16"])


def _training(bench: Bench, precisions: list[str]) -> Iterator[Row]:
    size, dataset = len(bench.work().subset_of(0)), bench.dataset
    state_file = str(bench.folder / "training.safetensors")
    for name in precisions:
        fitted = []

        def train(work: RunBatch) -> None:
            fitted.append(fit(work, dataset, bench.device, state_file, lambda runs, loss: None))  # noqa: B023

        if not bench.quick:
            train(bench.work(name, subset=np.arange(2048)))  # kernels are sought
        rate = size / bench.once(partial(train, bench.work(name)))
        if name == "float32":
            bench.state = fitted[-1].stack.run_state(0)
        share = bench.share(3 * rate, "small_inception", name)
        yield Row(f"SmallInception, {name}", rate, "images/s", f"{share}; batches of {bench.work().recipe.batch_size}")


def trained_twice(bench: Bench) -> Iterator[Row]:
    """Train the same run twice, alone, and compare the weights: as it is, and with what should make them the same."""
    work, cudnn = bench.work(subset=np.arange(32 if bench.quick else 2048)), torch.backends.cudnn
    state_file = str(bench.folder / "twice.safetensors")

    def weights() -> dict[str, Tensor]:
        return fit(work, bench.dataset, bench.device, state_file, lambda runs, loss: None).stack.run_state(0)

    before = cudnn.deterministic
    for name, of_cudnn, of_all in (
        ("as it is", False, False), ("cudnn.deterministic", True, False), ("use_deterministic_algorithms", True, True),
    ):  # fmt: skip
        try:
            cudnn.deterministic = of_cudnn
            torch.use_deterministic_algorithms(of_all, warn_only=True)
            start = time.perf_counter()
            one, other = weights(), weights()
            seconds = (time.perf_counter() - start) / 2
        finally:
            cudnn.deterministic = before
            torch.use_deterministic_algorithms(False)
        largest = max(float((one[key].double() - other[key].double()).abs().max()) for key in one)
        note = (
            f"largest difference of a weight; {'bit-equal' if largest == 0 else 'NOT bit-equal'}, {seconds:.1f} s each"
        )
        yield Row(f"twice, {name}", largest, "", note)


def small_inception(bench: Bench) -> Iterator[Row]:
    """Evaluate one network on a split that lies on the device."""
    model, dataset = trained_model(bench), bench.dataset.to(bench.device)
    count = len(dataset.labels("train"))
    for precision, peak in (("exact", "float32"), ("fast", "fp16" if bench.on_gpu else "bf16")):
        redone = []

        def work() -> None:
            found = evaluate(model, dataset, "train", device=bench.device, precision=precision)  # type: ignore[arg-type]  # noqa: B023
            redone.append(found.redone)  # noqa: B023

        rate = count / bench.seconds(work)
        note = bench.share(rate, "small_inception", peak)
        if precision == "fast":
            note += f"; {redone[-1] / count:.1%} computed again in float32"
        yield Row(f"SmallInception {precision}", rate, "images/s", note)


def whole_runs(bench: Bench) -> Iterator[Row]:
    """Evaluate runs from a zoo into a zoo, as `heldout evaluate` does, and see how long the device waits."""
    first, runs = (1, 3) if bench.quick else (8, 24)
    zoo = make_zoo(bench, runs)
    keys, sweeps = zoo.keys(), {}
    images = bench.experiment.train_examples + bench.experiment.test_examples
    for precision in get_args(Precision):
        sweeps[precision] = go = partial(_sweep, bench, zoo, precision)
        done = go(keys)  # in the first, each of two threads seeks its kernels
        seconds = (done[-1] - done[first - 1]) / (runs - first)
        note = f"{images} images, {runs} runs without the first {first}, which took {done[first - 1]:.1f} s"
        yield Row(f"run, {precision}", seconds, "s", note)
    for precision, go in sweeps.items():  # the profiler takes its time
        name, note = f"idle, {precision}", "share of the time between a sweep's first kernel and its last"
        if bench.on_gpu:
            yield from tried(name, lambda: [Row(name, idle_share(partial(go, keys[:4])), "", note)])  # noqa: B023
        else:
            yield Row(name, None, "", "needs a GPU")


def _sweep(bench: Bench, zoo: WritableZoo, precision: Precision, keys: list[RunKey]) -> list[float]:
    """Evaluate runs, and return after how many seconds each was done."""
    out = open_writable(str(bench.folder / f"out-{precision}"))
    work = partial(save_runs, out=out, made=Provenance(zoo, out, bench.dataset.digest(), None), precision=precision)
    done, start = [], time.perf_counter()
    with out:
        out.declare(bench.experiment)
        for _, result in sweep(work, keys, zoo, bench.dataset, [str(bench.device)], lambda n: None):
            done.append(time.perf_counter() - start)
            if isinstance(result, Exception):
                raise result
    return done


def against_cpu(bench: Bench) -> Iterator[Row]:
    """Count decisions that are not those of the CPU's exact pass."""
    model, dataset, seconds = trained_model(bench), bench.dataset, 30
    some = 64 if bench.quick else 256
    rate = some / bench.once(partial(evaluate, model, first(dataset, some), "train"))
    count = min(len(dataset.labels("train")), some if bench.quick else int(rate * seconds))
    dataset = first(dataset, count)
    expected = evaluate(model, dataset, "train")
    right = 100 * float(expected.correct.mean())
    yield Row("right on the CPU", right, "%", "of these; a network that has learnt nothing would decide all alike")
    for precision in ("exact", "fast"):
        found = evaluate(model, dataset, "train", device=bench.device, precision=precision)  # type: ignore[arg-type]
        differ = int((found.correct != expected.correct).sum())
        yield Row(f"differ, {precision}", differ, "decisions", f"of {count}; expected: 0")


def resnet50(bench: Bench) -> Iterator[Row]:
    """Evaluate ResNet50 on images that are there, and on files that are decoded."""
    count = 2048 if bench.on_gpu and not bench.quick else 2
    torch.manual_seed(0)
    model = build_model("resnet50", num_classes=1000)
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (count, 3, 224, 224), dtype=torch.uint8, generator=random)
    split = Split(pixels, torch.zeros(count, dtype=torch.int64), torch.arange(count), torch.arange(count))
    resident = ArrayDataset("images", split, split, 1000, divide_by=255.0).to(bench.device)
    for precision in ("exact", "fast") if bench.on_gpu else ("exact",):
        work = partial(evaluate, model, resident, "test", device=bench.device, precision=precision)
        rate = count / bench.seconds(work)
        note = (
            bench.share(rate, "resnet50", "float32")
            if precision == "exact"
            else f"{work().redone} redone: random weights"
        )
        yield Row(f"resident, {precision}", rate, "images/s", note)
    try:
        import simplejpeg
    except ImportError:
        yield Row("decoded", None, "", "needs simplejpeg")
        return
    from heldout_torch.data.imagenet import ImageNet

    write_jpegs(bench.folder, min(2 * count, 1024), simplejpeg)
    dataset = ImageNet(bench.folder)
    count = len(dataset.labels("test"))
    rate = count / bench.seconds(lambda: evaluate(model, dataset, "test", device=bench.device))
    yield Row("decoded, exact", rate, "images/s", f"{dataset.workers} threads decode")
    rate = count / bench.seconds(lambda: list(dataset.batches("test", 8)))
    yield Row("decode", rate / dataset.workers, "images/s a core", f"mean of {dataset.workers}")


def statistics(bench: Bench) -> Iterator[Row]:
    """Find the pairs of high influence among all."""
    train, test = (2000, 1000) if bench.quick else (200_000, 20_000)
    random, words = np.random.default_rng(0), -(-RUNS // 64)
    trained_on, correct_train, correct_test = (
        random.integers(0, 2**64, (examples, words), np.uint64) for examples in (train, train, test)
    )
    for array in (trained_on, correct_train, correct_test):
        array[:, -1] &= np.uint64(2 ** (RUNS % 64) - 1)
    table = RunTable(tuple(map(str, range(RUNS))), trained_on, correct_train, correct_test)
    work = partial(influence_pairs, table, min_memorization=None, same_class=False, device=bench.device)
    rate = train * test / bench.seconds(work)
    note = f"{RUNS} runs; ImageNet's 1,281,167 x 50,000 would take {1_281_167 * 50_000 / rate:.0f} s"
    yield Row("influence", rate, "pairs/s", note)


def make_zoo(bench: Bench, runs: int) -> WritableZoo:
    """File runs whose weights are the trained ones and a little noise each."""
    zoo, experiment = open_writable(str(bench.folder / "zoo")), bench.experiment
    random, n, m = torch.Generator().manual_seed(0), experiment.train_examples, experiment.test_examples
    state = trained_model(bench).state_dict()
    with zoo:
        zoo.declare(experiment)
        for run in range(runs):
            subset = draw_subset(run, n, 0.7)
            removed = np.setdiff1d(np.arange(n), subset)
            noisy = {
                name: tensor * (1 + 0.01 * torch.randn(tensor.shape, generator=random)) if "weight" in name else tensor
                for name, tensor in state.items()
            }
            aux = AuxArrays(
                np.zeros(len(subset), np.uint8), np.zeros(len(removed), np.uint8), np.zeros(m, np.uint8),
                subset, removed, np.arange(m), subset,
            )  # fmt: skip
            zoo.put(RunMetadata.of(experiment, RunKey(experiment.name, 0.7, run), 1, 1), noisy, aux)
    return zoo


def first(dataset: ArrayDataset, count: int) -> ArrayDataset:
    """Return a data set with the first of the training images only."""
    train = dataset.train
    few = Split(train.images[:count], train.labels[:count], train.index[:count], train.original_index[:count])
    return replace(dataset, train=few)
