"""How fast statistics come out of a run table, against the plain NumPy estimator of the published formula.

    python benchmarks/stats.py influence      # CIFAR's scale: 2,000 runs, 50,000 x 10,000; --device cuda
    python benchmarks/stats.py memorization   # ImageNet's scale: 2,000 runs, 1,281,167 examples
    python benchmarks/stats.py pairs          # high-influence pairs of 1,281,167 x 50,000; --device cuda
    python benchmarks/stats.py top            # top 10 of each of 50,000 test examples among 1,281,167; --device cuda

Bits are simulated; the table is made beforehand in every part, and its making timed on its own where there is a peer.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numba
import numpy as np

from heldout_torch.stats import RunTable, influence, influence_pairs, memorization, top_influences
from heldout_torch.stats.counting import kernels_cpu
from heldout_torch.stats.counting.bits import unpack
from heldout_torch.stats.counting.kernels_cpu import _popcount
from heldout_torch.stats.counting.sweep_cpu import choose_kernels
from heldout_torch.storage.progress import tracked

T = TypeVar("T")
RUNS, REPEATS = 2000, 3


def numpy_influence(trained_on: np.ndarray, correct_test: np.ndarray) -> np.ndarray:
    """The published formula: for each group of runs one product with the mask, divided by the group's size."""
    correct = correct_test.astype(np.float32).T  # (test, runs)
    inside = np.matmul(correct, trained_on) / np.maximum(trained_on.sum(0), 1e-10).astype(np.float32)
    outside = np.matmul(correct, ~trained_on) / np.maximum((~trained_on).sum(0), 1e-10).astype(np.float32)
    return inside - outside


def numpy_memorization(trained_on: np.ndarray, correct_train: np.ndarray) -> np.ndarray:
    """The published formula: for each group of runs the sum over the mask, divided by the group's size."""
    inside = np.sum(correct_train * trained_on, axis=0) / np.maximum(trained_on.sum(0), 1e-10)
    outside = np.sum(correct_train * ~trained_on, axis=0) / np.maximum((~trained_on).sum(0), 1e-10)
    return inside - outside


def simulate(train: int, test: int) -> RunTable:
    """Random bits: trained on about 69 % of the time, correct 75 %; training example i helps test example 7 i."""
    random = np.random.default_rng(0)
    words = -(-RUNS // 64)

    def bits(examples: int) -> np.ndarray:
        return random.integers(0, 2**64, (examples, words), np.uint64)

    trained_on = bits(train)
    trained_on |= bits(train) & (bits(train) | bits(train))
    correct_train, correct_test = bits(train) | bits(train), bits(test) | bits(test)
    helped = np.arange(0, test, 7)
    correct_test[helped] &= trained_on[: len(helped)] | bits(len(helped))
    for array in (trained_on, correct_train, correct_test):
        array[:, -1] &= np.uint64(2 ** (RUNS % 64) - 1)
    return RunTable(tuple(map(str, range(RUNS))), trained_on, correct_train, correct_test)


def timed(function: Callable[[], T], repeats: int = REPEATS) -> tuple[float, T]:
    """Median seconds of some calls, and the last result."""
    seconds, result = [], None
    for _ in tracked(range(repeats), "timing", "call", repeats):
        result = None  # so that two results are never held
        start = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), result


def peak_memory(function: Callable[[], object]) -> tuple[float, float]:
    """Most GB of memory that the process held during a call: beyond what it held before, and in all."""

    def status(key: str) -> float:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
        return int(line.split()[1]) / 1e6

    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = status("VmRSS")
    function()
    peak = status("VmHWM")
    return peak - before, peak


@numba.njit
def _popcounts(words: np.ndarray, repeats: int) -> int:
    total = 0
    for r in range(repeats):
        for w in range(len(words)):
            total += _popcount(words[w] ^ np.uint64(r))
    return total


def popcount_limit() -> float:
    """Bits that all cores together can count in a second: words at rest in the innermost cache, nothing else done."""
    words, repeats = np.arange(2048, dtype=np.uint64), 200_000
    _popcounts(words, 1)
    seconds, _ = timed(lambda: _popcounts(words, repeats))
    return len(words) * 64 * repeats / seconds * numba.get_num_threads()


def tables_limit() -> float:
    """Run-pairs that all cores together can look up in a second: tables and sums at rest in the innermost cache."""
    from heldout_torch.stats.counting import kernels_tables as tables

    rows, repeats = 64, 100_000
    memory = np.zeros(2**16, np.uint8)
    start = -memory.ctypes.data % 64
    size = tables.GROUPS * tables.SUBSETS * tables.WIDTH
    names = np.random.default_rng(0).integers(0, tables.SUBSETS, (rows, tables.GROUPS), np.uint8)
    add_rows, step = tables._add_rows, tables.TILE_ROWS

    @numba.njit
    def look_up(table: int, name: int, sums: int, repeats: int) -> None:
        for _ in range(repeats):
            for row in range(0, rows, step):
                add_rows(table, name + row * tables.GROUPS, sums + row * tables.WIDTH)

    addresses = memory.ctypes.data + start, names.ctypes.data, memory.ctypes.data + start + size
    look_up(*addresses, 1)  # type: ignore[call-arg]  # it is compiled, which hides what it takes
    seconds, _ = timed(lambda: look_up(*addresses, repeats))  # type: ignore[call-arg]
    runs = tables.GROUP * tables.GROUPS
    return rows * tables.WIDTH * runs * repeats / seconds * numba.get_num_threads()


def report_rate(pairs: int, seconds: float, processor: float, device: str) -> None:
    """Print run-pairs a second, and what share of the processors the work got and used."""
    rate, cores = pairs * RUNS / seconds, numba.get_num_threads()
    if device != "cpu":  # whose limit is another
        print(f"  {rate:.3g} run-pairs/s on {device}")
        return
    counts_bits = choose_kernels(10_000, RUNS // 64).fill is kernels_cpu.fill
    limit, name = (popcount_limit(), "popcount") if counts_bits else (tables_limit(), "tables'")
    print(f"  {rate:.3g} run-pairs/s, {rate / limit:.0%} of the {name} limit of {limit:.3g}")
    print(f"  {processor:.0f} s of processor time, {processor / seconds / cores:.0%} of {cores} cores")


def benchmark_influence(device: str) -> None:
    """CIFAR's scale."""
    table = simulate(50_000, 10_000)
    trained_on = np.ascontiguousarray(unpack(table.packed_trained_on, RUNS).T)
    correct_test = np.ascontiguousarray(unpack(table.packed_correct_test, RUNS).T)
    influence(table, test=slice(8), device=device)  # kernels are loaded
    processor = time.process_time()
    ours, estimate = timed(lambda: influence(table, device=device))
    processor = (time.process_time() - processor) / REPEATS
    theirs, expected = timed(lambda: numpy_influence(trained_on, correct_test))
    print(f"influence, {RUNS} runs, 50,000 x 10,000: {ours:.2f} s, NumPy {theirs:.2f} s, ratio {theirs / ours:.1f}")
    print(f"  largest difference {np.abs(estimate - expected).max():.1e}")
    report_rate(estimate.size, ours, processor, device)
    size = estimate.nbytes / 1e9
    del estimate, expected
    print(
        f"  peak memory {peak_memory(lambda: influence(table, device=device))[0]:.2f} GB, of which output {size:.2f} GB"
    )


def benchmark_memorization() -> None:
    """ImageNet's scale."""
    table = simulate(1_281_167, 10)
    memorization(table.select_runs([0, 1]))
    ours, estimate = timed(lambda: memorization(table), 5)
    trained_on = np.ascontiguousarray(unpack(table.packed_trained_on, RUNS).T)
    correct_train = np.ascontiguousarray(unpack(table.packed_correct_train, RUNS).T)
    theirs, expected = timed(lambda: numpy_memorization(trained_on, correct_train))
    print(f"memorization, {RUNS} runs x 1,281,167: {ours:.3f} s, NumPy {theirs:.2f} s, ratio {theirs / ours:.0f}")
    print(f"  largest difference {np.abs(estimate - expected).max():.1e}")
    correct_test = np.zeros((RUNS, 10), bool)
    seconds, _ = timed(lambda: RunTable.from_arrays(trained_on, correct_train, correct_test, mix_ratios=True), 1)
    print(f"  (packing the table from arrays: {seconds:.1f} s, once)")


def benchmark_imagenet(part: str, device: str) -> None:
    """All 64e9 pairs: those of high influence, or the top 10 of each test example."""
    train, test = 1_281_167, 50_000
    table = simulate(train, test)
    influence(table, [0], [0], device=device)
    nbytes = sum(
        array.nbytes for array in (table.packed_trained_on, table.packed_correct_train, table.packed_correct_test)
    )
    print(f"table of {RUNS} runs, {train} + {test} examples: {nbytes / 1e9:.2f} GB")
    chosen = np.random.default_rng(1).choice(test, 50, replace=False)
    matrix = influence(table, test=chosen)  # (50, train)

    def same_class() -> None:
        labels = np.arange(train) % 1000, np.arange(test) * 7 % 1000
        seconds, pairs = timed(lambda: influence_pairs(table, *labels, min_memorization=None, device=device))
        print(f"pairs of the same class with influence >= 0.15: {seconds:.2f} s, {len(pairs)} pairs")

    def all_pairs() -> None:
        processor = time.process_time()
        seconds, pairs = timed(
            lambda: influence_pairs(table, min_memorization=None, same_class=False, device=device), 1
        )
        print(f"all pairs with influence >= 0.15: {seconds:.1f} s, {len(pairs)} pairs")
        report_rate(train * test, seconds, time.process_time() - processor, device)
        rows, columns = np.nonzero(matrix >= np.float32(0.15))
        known = set(zip(chosen[rows].tolist(), columns.tolist(), strict=True))
        found = np.isin(pairs.test_index, chosen)
        assert known == set(zip(pairs.test_index[found].tolist(), pairs.train_index[found].tolist(), strict=True))
        print(f"  equal to the thresholded matrix at {len(chosen)} test examples ({len(known)} pairs)")

    def top_ten() -> None:
        processor = time.process_time()
        seconds, top = timed(lambda: top_influences(table, 10, device=device), 1)
        print(f"top 10 of each test example: {seconds:.1f} s")
        report_rate(train * test, seconds, time.process_time() - processor, device)
        for example, row in zip(chosen, matrix, strict=True):
            assert np.array_equal(top.index[example], np.argsort(-row, kind="stable")[:10])
        print(f"  equal to the sorted matrix at {len(chosen)} test examples")

    for step in (same_class, all_pairs) if part == "pairs" else (top_ten,):
        print(f"  peak memory of the process {peak_memory(step)[1]:.2f} GB", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["influence", "memorization", "pairs", "top"])
    parser.add_argument("--device", default="cpu", help="of all but memorization, default: cpu")
    arguments = parser.parse_args()
    if arguments.part == "memorization":
        benchmark_memorization()
    elif arguments.part == "influence":
        benchmark_influence(arguments.device)
    else:
        benchmark_imagenet(arguments.part, arguments.device)
