"""What export and loading cost: against copying the files, the route through TensorFlow, and `import torch`.

Usage: python benchmarks/export.py [--runs 24]
Needs the test dependencies (TensorFlow and Sonnet make the runs, in processes of their own).
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from heldout_torch import AuxArrays, load_run
from heldout_torch.zoo.copy import copy_runs
from heldout_torch.zoo.open import open_writable, open_zoo
from tests.reference import run_reference

EXPERIMENT = "cifar10-inception"


def make_runs(folder: Path, count: int) -> Path:
    """Lay out `count` runs of SmallInception with aux arrays of CIFAR's size."""
    run_reference("network_logits", folder / "made", "small_inception", 10, 3, 0, 16, 32)
    for run in range(count):
        target = folder / "tree" / EXPERIMENT / "0.7" / str(run)
        shutil.copytree(folder / "made" / "checkpoints", target / "checkpoints")
        random = np.random.RandomState(run)
        order = random.permutation(50000)
        aux = AuxArrays(
            correctness_train=random.rand(35000) < 0.99,
            correctness_removed=random.rand(15000) < 0.8,
            correctness_test=random.rand(10000) < 0.8,
            index_train=order[:35000],
            index_removed=order[35000:],
            index_test=np.arange(10000),
            subsample_idx=order[:35000],
        )
        aux.write(target / "aux_arrays.npz")
    return folder / "tree"


def copy_run(source: Path, target: Path) -> None:
    """Copy a run's files and wait for the disk, as the exporter does."""
    shutil.copytree(source, target)
    for path in [*target.rglob("*"), target, target.parent]:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def seconds(work, *arguments) -> float:
    """Time one call."""
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


def import_seconds(module: str) -> float:
    """Time a fresh interpreter that imports a module."""
    command = [sys.executable, "-c", f"import {module}"]
    return seconds(lambda: subprocess.run(command, cwd=REPOSITORY, check=True))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=24)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        tree = make_runs(folder, options.runs)
        source = open_zoo(tree)
        runs = source.keys()

        def copy_all(target: Path) -> None:
            with ThreadPoolExecutor(source.threads) as pool:
                list(pool.map(lambda key: copy_run(tree / str(key), target / str(key.run)), runs))

        def export_all(zoo: Path, workers: int | None = None) -> None:
            results = list(copy_runs(source, open_writable(zoo), runs, workers))
            assert len(results) == options.runs
            assert not any(result.error or result.skipped for result in results)

        exported, copied = [], []
        for _ in range(11):  # the first one warms up; what is removed leaves memory in which the next is written
            for target, times, work in (("copy", copied, copy_all), ("zoo", exported, export_all)):
                shutil.rmtree(folder / target, ignore_errors=True)
                times.append(seconds(work, folder / target))
        ratios = [export / copy for export, copy in zip(exported, copied, strict=True)]
        export_ms, copy_ms = (1000 * statistics.median(times[1:]) / options.runs for times in (exported, copied))
        print(f"export {export_ms:.1f} ms a run, copy with fsync {copy_ms:.1f} ms a run")
        print(f"export / copy: {statistics.median(ratios[1:]):.2f} (wanted: at most 3)")

        single = statistics.median(seconds(export_all, folder / f"one-{i}", 1) for i in range(3)) / options.runs
        (folder / "tensorflow").mkdir()
        command = [
            REPOSITORY / "benchmarks/export_tensorflow.py",
            tree / EXPERIMENT / "0.7",
            folder / "tensorflow",
            "20",
        ]
        process = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
        route = statistics.median(float(line) for line in process.stdout.split())
        print(f"TensorFlow route {1000 * route:.0f} ms a run, export {1000 * single:.1f} ms with one worker")
        print(f"TensorFlow route / export: {route / single:.0f} (wanted: at least 50)")

        load_run(EXPERIMENT, 0.7, 0, folder / "zoo")
        loads = [seconds(load_run, EXPERIMENT, 0.7, run, folder / "zoo") for run in range(options.runs)]
        print(f"load_run: {1000 * statistics.median(loads):.1f} ms (wanted: under 100)")
    differences = [import_seconds("torch, heldout_torch") - import_seconds("torch") for _ in range(7)]
    print(
        f"import heldout_torch beside torch: {1000 * statistics.median(differences):.0f} ms more (wanted: at most 100)"
    )


if __name__ == "__main__":
    main()
