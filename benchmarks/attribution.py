"""How fast attributions are measured and datamodels fitted, and in how much memory, at CIFAR's scale.

    python benchmarks/attribution.py lds         # 10,000 test x 50,000 training examples, 2,000 runs; a loop beside it
    python benchmarks/attribution.py datamodels  # ridge regressions at the same scale; scikit-learn's, of a few
    python benchmarks/attribution.py pairs       # pairs by margins of 400 runs, a hundredth of ImageNet's 64e9; --share

Masks and margins are simulated. The peers work on as many test examples as take them some seconds; their time is told
for all of them.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge

from heldout_torch.stats import OutputTable, datamodels, influence_pairs, lds
from heldout_torch.stats.output_files import start_outputs

RUNS, TRAIN, TEST = 2000, 50_000, 10_000
IMAGENET = 400, 1_281_167, 50_000  # runs, training and test examples


def simulate() -> OutputTable:
    """Half of the training set each; the margin of a test example depends on ten training examples, and on chance."""
    random = np.random.default_rng(0)
    masks = random.random((RUNS, TRAIN), np.float32) < 0.5
    margins = random.standard_normal((RUNS, TEST), np.float32)
    for number in range(10):
        margins += masks[:, (np.arange(TEST) * 5 + number * 31) % TRAIN]
    return OutputTable.from_arrays(masks, margins)


def peak_memory() -> float:
    """Most GB that the process held since `reset_peak`."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1e6


def reset_peak() -> None:
    """Begin to measure `peak_memory` anew."""
    Path("/proc/self/clear_refs").write_text("5")


def benchmark_lds(table: OutputTable, folder: Path) -> None:
    """Random scores, mapped from disk, against all runs."""
    scores = np.lib.format.open_memmap(folder / "scores.npy", "w+", np.float32, (TEST, TRAIN))
    random = np.random.default_rng(1)
    for start in range(0, TEST, 500):
        scores[start : start + 500] = random.standard_normal((500, TRAIN), np.float32)
    lds(scores[:10], table, test=slice(10), resamples=1)  # kernels are loaded
    some = 40
    start = time.perf_counter()
    subsets = [np.flatnonzero(mask) for mask in table.mask()]
    expected = []
    for j in range(some):  # as is usual: the sums of each subset, then one correlation
        predicted = [scores[j, subset].sum(dtype=np.float64) for subset in subsets]
        expected.append(spearmanr(predicted, table.margins_test[:, j]).statistic)
    loop = (time.perf_counter() - start) / some * TEST
    for resamples in (1, 200):
        reset_peak()
        start = time.perf_counter()
        found = lds(scores, table, resamples=resamples)
        seconds = time.perf_counter() - start
        print(f"lds, {RUNS} runs, {TEST:,} x {TRAIN:,}, {resamples} resamples: {seconds:.1f} s, loop {loop:.0f} s, "
              f"ratio {loop / seconds:.1f}, peak memory {peak_memory():.2f} GB", flush=True)  # fmt: skip
    print(f"  largest difference from the loop {np.abs(found.correlation[:some] - expected).max():.1e}")


def benchmark_datamodels(table: OutputTable, folder: Path) -> None:
    """Ridge regressions of all test examples, penalties by cross-validation."""
    out = np.lib.format.open_memmap(folder / "weights.npy", "w+", np.float32, (TEST, TRAIN))
    reset_peak()
    start = time.perf_counter()
    found = datamodels(table, out=out)
    seconds = time.perf_counter() - start
    print(f"ridge datamodels, {RUNS} runs, {TEST:,} x {TRAIN:,}: {seconds:.0f} s, peak memory {peak_memory():.2f} GB, "
          f"mean held-out R2 {found.r2.mean():.3f}", flush=True)  # fmt: skip
    masks = table.mask().astype(np.float32)
    start = time.perf_counter()
    expected = Ridge(found.strengths[0]).fit(masks, table.margins_test[:, 0])
    single = time.perf_counter() - start
    print(f"  scikit-learn: {single:.1f} s for one test example at a known penalty, largest difference of weights "
          f"{np.abs(expected.coef_ - out[0]).max():.1e}")  # fmt: skip


def simulate_imagenet(folder: Path, share: float) -> OutputTable:
    """Outputs in files, as `heldout evaluate --save outputs` writes them; example i helps test example 7 i."""
    runs, train, test = IMAGENET[0], round(IMAGENET[1] * share), IMAGENET[2]
    start_outputs(folder, [f"imagenet-resnet50/0.7/{run}" for run in range(runs)], train, test)
    arrays = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", "r+")
        for name in ("masks", "margins_train", "margins_test", "filled")
    }
    random, helped = np.random.default_rng(0), np.arange(0, test, 7)
    for run in range(runs):
        mask = random.random(train, np.float32) < 0.7
        arrays["masks"][run] = np.packbits(mask, bitorder="little")
        arrays["margins_train"][run] = random.standard_normal(train, np.float32) + 2 * mask
        margins = random.standard_normal(test, np.float32)
        margins[helped] += 2 * mask[np.arange(len(helped)) % train]
        arrays["margins_test"][run], arrays["filled"][run] = margins, True
    for array in arrays.values():
        array.flush()
    return OutputTable.load(folder)


def benchmark_pairs(folder: Path, share: float) -> None:
    """All pairs whose mean margins differ by 1 or more, and the same by NumPy for a few test examples."""
    table = simulate_imagenet(folder / "outputs", share)
    runs, train, test = table.runs, table.train_examples, table.test_examples
    influence_pairs(table.select_runs(slice(8)), np.zeros(train, int), np.ones(test, int))  # all is imported
    reset_peak()
    processor, start = time.process_time(), time.perf_counter()
    pairs = influence_pairs(table, min_influence=1.0, min_memorization=None, same_class=False)
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    print(f"pairs, {runs} runs, {train:,} x {test:,}: {seconds:.0f} s, {processor:.0f} s of processor time, "
          f"{len(pairs)} pairs, peak memory {peak_memory():.2f} GB; all of ImageNet: {seconds / share / 60:.0f} "
          f"minutes, {processor / share / 60:.0f} of processor time", flush=True)  # fmt: skip
    masks, margins = table.mask(None, slice(4096)), np.ascontiguousarray(table.margins_test[:, :2000])
    start = time.perf_counter()
    inside = margins.T @ masks.astype(np.float32) / masks.sum(0).astype(np.float32)
    outside = margins.T @ (~masks).astype(np.float32) / (~masks).sum(0).astype(np.float32)
    rows, columns = np.nonzero(inside - outside >= 1.001)  # beyond what rounding makes doubtful
    peer = (time.perf_counter() - start) / inside.size * train * test
    found = set(zip(pairs.test_index.tolist(), pairs.train_index.tolist(), strict=True))
    assert found >= set(zip(rows.tolist(), columns.tolist(), strict=True))
    print(f"  NumPy: {peer:.0f} s, ratio {peer / seconds:.1f}, from 2,000 x {masks.shape[1]:,}; its {len(rows)} pairs "
          "were all found")  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["lds", "datamodels", "pairs"])
    parser.add_argument(
        "--share", type=float, default=0.01, metavar="S",
        help="share of ImageNet's training examples, default 0.01; 0.1 takes 140 s of processor time, 0.3 GB on disk",
    )  # fmt: skip
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        if arguments.part == "pairs":
            benchmark_pairs(Path(temporary), arguments.share)
            raise SystemExit
        part = benchmark_lds if arguments.part == "lds" else benchmark_datamodels
        part(simulate(), Path(temporary))
