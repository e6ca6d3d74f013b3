"""Training of held-out runs: speed against plain PyTorch, and MNIST C-scores against the published ones.

    python benchmarks/train.py digits [--device cuda]
    python benchmarks/train.py mnist mnist.npz [--device cuda]
    python benchmarks/train.py truth mnist.npz mnist-cscores.npy --zoo ZOO --runs-a-ratio 20

`mnist.npz` holds MNIST in the order of its own files: `train_images` (60000, 28, 28) uint8, `train_labels`,
`test_images`, `test_labels`. `mnist-cscores.npy` holds the published C-scores in tensorflow-datasets order, (60000,).
`truth` trains what its zoo lacks, so it can be interrupted and goes on.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from tqdm import tqdm

from heldout_torch.data import ArrayDataset, Split, load_digits, tfds_order
from heldout_torch.float32 import products_in
from heldout_torch.models import build_model
from heldout_torch.stats import RunTable, consistency
from heldout_torch.training import Recipe, RunBatch, train_runs
from heldout_torch.training.subsets import epoch_orders
from heldout_torch.zoo import Experiment, known_experiments

REPEATS = 5
RATIOS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def seconds(work: Callable[[], object]) -> float:
    """Time one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def train_plainly(experiment: Experiment, recipe: Recipe, dataset: ArrayDataset, run: int, device: str) -> None:
    """Train and evaluate one run as one would write it: a module, `torch.optim.SGD`, a loop over batches."""
    torch.manual_seed(run)
    model = build_model(experiment.architecture, **experiment.config).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=recipe.learning_rate, momentum=recipe.momentum)
    images, labels = (dataset.train.images.float() / dataset.divide_by).to(device), dataset.train.labels.to(device)
    orders = epoch_orders(run, len(labels), 0.7)
    for _ in range(recipe.epochs):
        order = torch.from_numpy(next(orders)).to(device)
        for batch in order.split(recipe.batch_size):
            loss = F.cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.inference_mode():
        for split in (dataset.train, dataset.test):
            images = (split.images.float() / dataset.divide_by).to(device)
            (model(images).argmax(1).cpu() == split.labels).numpy()


def compare(name: str, dataset: ArrayDataset, recipe: Recipe, runs: int, plain_runs: int, device: str) -> float:
    """Print runs/s of both, taken in turn, and their ratio; give ours."""
    experiment = known_experiments()[name]
    ours, plain = [], []
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory() as zoo:
            work = RunBatch(experiment, recipe, 0.7, tuple(range(runs)))
            ours.append(runs / seconds(lambda: list(train_runs(work, dataset, Path(zoo), device))))  # noqa: B023
        for threads in {1, torch.get_num_threads()}:
            before = torch.get_num_threads()
            torch.set_num_threads(threads)
            taken = seconds(
                lambda: [train_plainly(experiment, recipe, dataset, run, device) for run in range(plain_runs)]
            )
            torch.set_num_threads(before)
            plain.append((threads, plain_runs / taken))
    best = max({threads for threads, _ in plain}, key=lambda t: median(rate for threads, rate in plain if threads == t))
    peer = median(rate for threads, rate in plain if threads == best)
    ratios = sorted(rate / peer for rate in ours)
    print(f"{name}, {recipe.epochs} epochs, ratio 0.7, {device}, {torch.get_num_threads()} cores, medians of {REPEATS}")
    print(f"  heldout_torch, to the zoo: {median(ours):8.2f} runs/s")
    print(f"  plain PyTorch, {best} thread(s): {peer:8.2f} runs/s")
    print(f"  ratio: {median(ratios):.2f} (from {ratios[0]:.2f} to {ratios[-1]:.2f})")
    return median(ours)


def matrix_rate(device: str) -> float:
    """Measure the float32 multiply-add rate on large square matrices, of a CPU's cores all together, in FLOP/s."""
    size, times, cores = 1024, 20, torch.get_num_threads()
    if device != "cpu":
        a, b = torch.randn(2, 8192, 8192, device=device)
        with products_in("ieee"):
            return 2 * 8192**3 / median(seconds(lambda: (a @ b)[0, 0].item()) for _ in range(REPEATS))

    def multiply() -> None:
        torch.set_num_threads(1)
        a, b = torch.randn(2, size, size)
        for _ in range(times):
            a @ b

    def on_all_cores() -> None:
        with ThreadPoolExecutor(cores) as pool:
            for future in [pool.submit(multiply) for _ in range(cores)]:
                future.result()

    rate = median(cores * times * 2 * size**3 / seconds(on_all_cores) for _ in range(REPEATS))
    torch.set_num_threads(cores)
    return rate


def flop_of_run(experiment: Experiment, recipe: Recipe) -> float:
    """Count multiplications and additions of the matrix products of one MLP run: training, then evaluation."""
    sizes = [experiment.config["in_features"], *experiment.config["widths"], experiment.config["num_classes"]]
    products = [before * after for before, after in pairwise(sizes)]
    # Forward, gradient by the weights, and gradient by the inputs but for the first layer's.
    training = 2 * (3 * sum(products) - products[0]) * int(0.7 * experiment.train_examples) * recipe.epochs
    return training + 2 * sum(products) * (experiment.train_examples + experiment.test_examples)


def load_mnist(path: Path) -> ArrayDataset:
    """Load MNIST from one file and bring it into published order."""
    with np.load(path) as arrays:
        splits = {}
        for split in ("train", "test"):
            order = tfds_order(split, len(arrays[f"{split}_labels"]))
            splits[split] = Split(
                images=torch.from_numpy(arrays[f"{split}_images"][order])[:, None],
                labels=torch.from_numpy(arrays[f"{split}_labels"][order].astype(np.int64)),
                index=torch.arange(len(order)),
                original_index=torch.from_numpy(order.copy()),
            )
    return ArrayDataset("mnist", splits["train"], splits["test"], num_classes=10, divide_by=255.0)


def simulated(published: np.ndarray, runs: int, ratios: list[float]) -> float:
    """Give the rank correlation that sampling alone allows: at every ratio each run is right with the published rate.

    Run k draws its subsets at all ratios from one permutation, so that they are nested. The number of runs that are
    right is binomial.
    """
    random = np.random.default_rng(0)
    place = random.random((runs, len(published)))  # in the permutation of a run, as a share
    held_out = np.stack([(place >= ratio).sum(0) for ratio in ratios])  # (ratios, n)
    per_ratio = random.binomial(held_out, published) / np.where(held_out > 0, held_out, np.nan)
    scores = np.nanmean(per_ratio, axis=0)
    known = ~np.isnan(scores)
    return float(spearmanr(scores[known], published[known]).statistic)


def compare_with_published(data: Path, scores: Path, zoo: Path, runs: int, device: str) -> None:
    """Train the missing runs, and print the rank correlation of our C-scores with the published ones."""
    dataset, experiment, published = load_mnist(data), known_experiments()["mnist-mlp"], np.load(scores)
    works = [RunBatch(experiment, experiment.recipe, ratio, tuple(range(runs))) for ratio in RATIOS]
    started, trained = time.perf_counter(), 0
    with tqdm(total=runs * len(RATIOS), unit="run", file=sys.stderr) as bar:
        for work in works:
            for result in train_runs(work, dataset, zoo, device):
                assert result.error is None, result.error
                trained += not result.skipped
                bar.update()
    print(f"trained {trained} runs in {time.perf_counter() - started:.0f} s")
    tables = {ratio: RunTable.from_zoo(zoo, experiment.name, ratio, range(runs)) for ratio in RATIOS}
    ours = consistency(tables).scores
    below = (published < 1) & ~np.isnan(ours)  # with few runs an example may never be held out
    agreement = spearmanr(ours[below], published[below]).statistic
    print(f"rank correlation with the published C-scores, {runs} runs a ratio, ratios {RATIOS[0]} ... {RATIOS[-1]}:")
    print(f"  over the {below.sum()} examples published below 1.0: {agreement:.4f}")
    print(f"  simulated, if runs erred by sampling alone:    {simulated(published[below], runs, RATIOS):.4f}")
    print("  (every run right with the published score as its probability, at every ratio; runs independent)")
    shuffled = np.random.default_rng(0).permutation(ours[below])
    print(f"  of the same scores in a random order:         {spearmanr(shuffled, published[below]).statistic:.4f}")


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["digits", "mnist", "truth"])
    parser.add_argument("data", type=Path, nargs="?", help="mnist.npz")
    parser.add_argument("scores", type=Path, nargs="?", help="mnist-cscores.npy")
    parser.add_argument("--zoo", type=Path, help="where truth keeps its runs")
    parser.add_argument("--runs-a-ratio", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    needed = {"digits": [], "mnist": [options.data], "truth": [options.data, options.scores]}[options.part]
    for path in needed:
        if path is None or not path.is_file():
            sys.exit(f"error: {path or 'a path'} is needed for {options.part} and is not there; see --help")
    if options.part == "digits":
        recipe = known_experiments()["digits-mlp"].recipe
        compare("digits-mlp", load_digits(), recipe, runs=108, plain_runs=2, device=options.device)
    elif options.part == "mnist":
        recipe = replace(known_experiments()["mnist-mlp"].recipe, epochs=1)
        rate = compare("mnist-mlp", load_mnist(options.data), recipe, runs=4, plain_runs=1, device=options.device)
        reached, limit = rate * flop_of_run(known_experiments()["mnist-mlp"], recipe), matrix_rate(options.device)
        print(f"  {reached / 1e9:.0f} GFLOP/s of {limit / 1e9:.0f} for large matrices: {reached / limit:.0%}")
    elif options.zoo is None:
        sys.exit("error: truth needs --zoo, a folder for its runs")
    else:
        compare_with_published(options.data, options.scores, options.zoo, options.runs_a_ratio, options.device)


if __name__ == "__main__":
    main()
