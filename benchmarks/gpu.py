"""One table of how fast a device is with this package, and the same as JSON.

    python benchmarks/gpu.py [--device cuda] [--quick] [--minutes 6] [--only SECTION ...] [--out gpu.json]

It makes its own data and needs torch, numpy, safetensors and numba; for decoding also simplejpeg. Each section has a
share of the time; what it does not reach is listed as left out. `make gpu` runs the tests for CUDA before it.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from gpu_experiments import experiments
from gpu_frame import Bench, Row, Section, TimeIsOver, make_dataset
from gpu_mlps import mnist_runs
from gpu_sections import (
    against_cpu,
    products,
    resnet50,
    small_inception,
    statistics,
    trained_twice,
    training,
    training_otherwise,
    whole_runs,
)

from heldout_torch.devices import all_devices, find_device
from heldout_torch.errors import DeviceError

# In order: the shares of the peak need the products, and all after the training its network; then what matters most.
# The time that is left is divided by these weights, so that each has its turn, and what one leaves is the next ones'.
SECTIONS: dict[str, tuple[Section, float]] = {
    "matrix products": (products, 1),
    "training": (training, 2),
    "whole runs": (whole_runs, 8),
    "against the CPU": (against_cpu, 4),
    "evaluation": (small_inception, 1),
    "MNIST": (mnist_runs, 2),
    "ResNet50": (resnet50, 3),
    "statistics": (statistics, 2),
    "training otherwise": (training_otherwise, 1),
    "trained twice": (trained_twice, 1),
    "experiments": (experiments, 3),
}


def main() -> int:
    """Measure all sections and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", help="such as cuda:1 or cpu, default: a GPU if there is one")
    parser.add_argument("--quick", action="store_true", help="little of everything, to see that it works")
    parser.add_argument("--minutes", type=float, default=6.0, help="when it ends, default: 6")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="these sections, in order")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="where the table is written as JSON")
    options = parser.parse_args()
    try:
        device = find_device(options.device or all_devices()[0])
    except DeviceError as error:
        parser.error(str(error))
    start = time.monotonic()
    result = {**describe(device), "quick": options.quick, "rows": [], "left_out": []}
    for name in ("card", "driver", "torch", "processor"):
        print(f"{name}: {result[name]}")
    sizes = (96, 32) if options.quick or device.type == "cpu" else (50_000, 10_000)
    with tempfile.TemporaryDirectory(prefix="heldout-gpu-") as folder:
        bench = Bench(device, options.quick or device.type == "cpu", Path(folder), make_dataset(*sizes))
        for place, name in enumerate(options.only):
            print(f"{name}", flush=True)
            left = 60 * options.minutes - (time.monotonic() - start)
            seconds = left if bench.quick else turn(options.only[place:], left)
            for row in guarded(SECTIONS[name][0], bench, seconds):
                if row.value is None:
                    result["left_out"].append({"section": name, "name": row.name, "why": row.note})
                else:
                    result["rows"].append({"section": name, **asdict(row)})
                print(f"  {row.name:36} {shown(row.value):>10} {row.unit:16} {row.note}".rstrip(), flush=True)
    result["seconds"] = round(time.monotonic() - start, 1)
    failed = [one for one in result["left_out"] if one["why"].startswith("failed")]
    differing = [row for row in result["rows"] if row["unit"] == "decisions" and row["value"]]
    print(f"{result['seconds']:.0f} s, {len(result['left_out'])} left out, {len(failed)} failed")
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if failed or differing else 0


def turn(names: list[str], left: float) -> float:
    """Return how many of the seconds that are left the first of some sections may take, the others having theirs."""
    weights = [SECTIONS[name][1] for name in names]
    return left * weights[0] / sum(weights)


def guarded(section: Section, bench: Bench, seconds: float) -> Iterator[Row]:
    """Yield a section's rows until its time is over; an error becomes a row, so that the other sections go on."""
    if seconds <= 0:
        yield Row("all of it", None, "", "no time was left")
        return
    try:
        with time_limit(seconds):
            yield from section(bench)
    except TimeIsOver:
        yield Row("the rest", None, "", f"not reached in {seconds:.0f} s")
    except Exception as error:  # whatever a device's first run brings
        yield Row("the rest", None, "", f"failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}")


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeIsOver in the block after some time."""

    def end(number: int, frame: object) -> None:
        raise TimeIsOver

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def describe(device: torch.device) -> dict[str, object]:
    """Return what the figures are of."""
    card, driver = "none: the CPU", "none"
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        card = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        try:
            driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split("\n")[0]
        except (OSError, subprocess.CalledProcessError):
            driver = "unknown"
    processor = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    versions = f"{torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    return {"card": card, "driver": driver, "torch": versions, "processor": processor, "device": str(device)}


def shown(value: float | None) -> str:
    """Write a number with three digits or more."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())
