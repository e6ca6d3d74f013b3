"""Time and weight of a report at CIFAR scale: 50,000 training and 10,000 test examples, 2,000 runs, 10 classes.

Statistics are simulated, with planted memorization and influence; images are pieces of photographs, 32x32, so that
they compress as photographs do. The report is written from a finished run table, as `heldout report --stats` does.
Its peer writes every image as a file of its own with Pillow, losslessly.

    python benchmarks/report.py [--rounds 3]
"""

import argparse
import statistics as st
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from heldout_torch.data import ArrayDataset, Split
from heldout_torch.report import gather_statistics, write_report
from heldout_torch.stats import RunTable
from heldout_torch.zoo import Experiment

TRAIN, TEST, RUNS, CLASSES, RATIO, SIDE = 50_000, 10_000, 2_000, 10, 0.7, 32
FIRST = ("index.html", "report.css", "report.js", "data/setup.js", "data/group-all.js", "images/0.*")


def simulate_table(rng: np.random.Generator) -> RunTable:
    """Make runs: one example in eight hard when held out, and 2,000 pairs of true influence 0.2 ... 0.5."""
    held_out = np.where(rng.random(TRAIN) < 0.125, rng.random(TRAIN), 0.995)
    test = np.where(rng.random(TEST) < 0.1, rng.random(TEST), 0.99)
    helpers = rng.choice(np.flatnonzero(held_out < 0.6), 2000, replace=False)
    helped = np.array([rng.choice(np.arange(i % CLASSES, TEST, CLASSES)) for i in helpers])  # of the same class
    effect = rng.uniform(0.2, 0.5, len(helpers))
    trained, correct_train = np.zeros((RUNS, TRAIN), bool), np.empty((RUNS, TRAIN), bool)
    correct_test = np.empty((RUNS, TEST), bool)
    for run in range(RUNS):
        trained[run, rng.choice(TRAIN, int(TRAIN * RATIO), replace=False)] = True
        correct_train[run] = rng.random(TRAIN) < np.where(trained[run], 0.999, held_out)
        chance = test.copy()
        chance[helped] = 0.4 + effect * trained[run, helpers]
        correct_test[run] = rng.random(TEST) < chance
    return RunTable.from_arrays(trained, correct_train, correct_test)


def cut_images(rng: np.random.Generator, count: int) -> torch.Tensor:
    """Cut pieces of one to three times the size out of photographs and bring them to 32x32."""
    photographs = [Image.fromarray(image) for image in load_sample_images().images]
    images = np.empty((count, SIDE, SIDE, 3), np.uint8)
    for image in images:
        photograph = photographs[rng.integers(len(photographs))]
        size = int(rng.integers(SIDE, 3 * SIDE))
        left, top = rng.integers(photograph.width - size), rng.integers(photograph.height - size)
        box = (left, top, left + size, top + size)
        image[:] = np.asarray(photograph.resize((SIDE, SIDE), Image.Resampling.BOX, box))
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def make_split(rng: np.random.Generator, count: int) -> Split:
    """Make one split, its labels in turn."""
    index = torch.arange(count)
    return Split(cut_images(rng, count), index % CLASSES, index, index)


def write_each(dataset: ArrayDataset, out: Path) -> None:
    """Write every image as a file of its own."""
    out.mkdir()
    for name in ("train", "test"):
        for index, image in enumerate(getattr(dataset, name).images.numpy()):
            Image.fromarray(image.transpose(1, 2, 0)).save(out / f"{name}-{index}.png")


def main() -> None:
    """Write the report several times, and print times and sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    rng = np.random.default_rng(0)
    table = simulate_table(rng)
    dataset = ArrayDataset("photographs", make_split(rng, TRAIN), make_split(rng, TEST), CLASSES, 255.0)
    experiment = Experiment("photographs-simulated", "photographs", "none", {}, TRAIN, TEST)
    ours, peer = [], []
    with tempfile.TemporaryDirectory() as folder:
        for round_ in range(rounds):
            out, each = Path(folder) / f"report-{round_}", Path(folder) / f"each-{round_}"
            start = time.perf_counter()
            statistics = gather_statistics({RATIO: table}, dataset)
            write_report(statistics, experiment, dataset, out)
            ours.append(time.perf_counter() - start)
            start = time.perf_counter()
            write_each(dataset, each)
            peer.append(time.perf_counter() - start)
        files = [path for path in out.rglob("*") if path.is_file()]
        first = [path for pattern in FIRST for path in out.glob(pattern)]
        weight, first_weight = (sum(path.stat().st_size for path in paths) for paths in (files, first))
        each_weight = sum(path.stat().st_size for path in each.iterdir())
        kind = next(out.glob("images/0.*")).suffix
    print(f"pairs: {len(statistics.pairs)}, images as {kind[1:]}")
    print(f"report: {st.median(ours):.1f} s (of {', '.join(f'{seconds:.1f}' for seconds in ours)})")
    print(f"weight: {weight / 1e6:.1f} MB in {len(files)} files, first content {first_weight / 1e6:.2f} MB")
    print(f"peer, every image a PNG by Pillow: {st.median(peer):.1f} s, {each_weight / 1e6:.1f} MB")
    time_share, byte_share = st.median(ours) / st.median(peer), weight / each_weight
    print(f"the whole report takes {time_share:.2f} of the peer's time and {byte_share:.2f} of its bytes")


if __name__ == "__main__":
    main()
