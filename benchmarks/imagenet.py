"""ImageNet decode and preprocessing against tf.data on the same cores, and what the exact crop costs.

Usage: python benchmarks/imagenet.py [--images 600] [--rounds 7] [--device cuda]
Needs the test dependencies. The images are photographs that come with scikit-learn and scikit-image at sizes common
in ImageNet, three of four with chroma at half width and height, about 60 kB each.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import simplejpeg
from imagenet_folder import write_index

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from heldout_torch.data.imagenet import ImageNet
from heldout_torch.data.jpeg import decode_crop
from heldout_torch.data.transforms import center_box, preprocess_crop
from tests.data.photographs import encode, photographs

SIZES = [(500, 375)] * 5 + [(375, 500)] * 2 + [(500, 333)] * 2 + [(333, 500), (400, 300), (640, 480), (500, 334)]
BATCH = 64


def make_folder(folder: Path, count: int) -> list[bytes]:
    """Write a validation set of `count` images with its index, and give the images."""
    random = np.random.default_rng(0)
    (folder / "val").mkdir()
    images = []
    for number in range(count):
        image = photographs()[number % 5].resize(SIZES[number % len(SIZES)])
        images.append(encode(image, "444" if number % 4 == 0 else "420", int(random.integers(80, 96))))
        (folder / "val" / f"{number:05d}.JPEG").write_bytes(images[-1])
    write_index(folder, count)
    return images


def milliseconds(work: Callable[[int], object], count: int) -> float:
    """Time `work(0)` ... `work(count - 1)` one after the other: mean of one, median of five passes."""
    passes = []
    for _ in range(5):
        start = time.perf_counter()
        for number in range(count):
            work(number)
        passes.append((time.perf_counter() - start) / count * 1e3)
    return median(passes)


def plain_slice(data: bytes) -> np.ndarray:
    """Decode the whole image and cut, without the care for the crop's edges."""
    pixels = simplejpeg.decode_jpeg(data, fastdct=True, fastupsample=False)
    top, left, rows, columns = center_box(*pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + rows, left : left + columns])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu", help="where our batches go, and on a GPU are resized")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = make_folder(folder, options.images)
        print(f"{options.images} images, {sum(map(len, images)) / len(images) / 1e3:.0f} kB each")

        dataset = ImageNet(folder)
        script = Path(__file__).with_name("imagenet_tensorflow.py")
        peer = subprocess.Popen(
            [sys.executable, script, folder / "val", str(BATCH)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )  # fmt: skip
        rounds = []
        for _ in range(options.rounds + 1):
            start, processor = time.perf_counter(), time.process_time()
            for batch in dataset.batches("test", BATCH, options.device):
                last = batch.images
            last[0, 0, 0, 0].item()  # which waits for a GPU
            ours = time.perf_counter() - start, time.process_time() - processor
            peer.stdin.write("go\n")
            peer.stdin.flush()
            rounds.append((ours, tuple(map(float, peer.stdout.readline().split()))))
        peer.stdin.close()
        peer.wait()
        print(f"batches of {BATCH}, {dataset.workers} threads; the first round compiles and warms up, and is left out")
        for kind, name in enumerate(["images a second", "images a second of processor time"]):
            ours, theirs = ([len(images) / sides[side][kind] for sides in rounds[1:]] for side in (0, 1))
            ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
            print(
                f"{name}: {median(ours):.0f}, tf.data {median(theirs):.0f}, ratio {median(ratios):.2f} "
                f"(from {min(ratios):.2f} to {max(ratios):.2f})"
            )

        crops = [decode_crop(data, center_box, "image") for data in images]
        out = np.empty((3, 224, 224), np.float32)
        mended = sum(not np.array_equal(plain_slice(data), crop) for data, crop in zip(images, crops, strict=True))
        plain = milliseconds(lambda number: plain_slice(images[number]), len(images))
        exact = milliseconds(lambda number: decode_crop(images[number], center_box, "image"), len(images))
        resize = milliseconds(lambda number: preprocess_crop(crops[number], out), len(images))
        print(
            f"one core, one image: decode and slice {plain:.2f} ms, exact crop {exact:.2f} ms, resize {resize:.2f} ms"
        )
        print(f"exact crop / decode and slice: {exact / plain:.2f}; slicing is wrong for {mended / len(images):.0%}")


if __name__ == "__main__":
    main()
