"""CIFAR and MNIST files in their original formats, with random contents."""

import pickle
from pathlib import Path

import numpy as np


def random_images(n: int, shape: tuple[int, ...], classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Give uint8 images (n, *shape) and labels (n,)."""
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (n, *shape), np.uint8), random.integers(0, classes, n)


def write_cifar(folder: Path, name: str, train: int, test: int, protocol: int = 2) -> dict[str, tuple]:
    """Write the Python version of CIFAR below a folder, and give images and labels in original order."""
    base = folder / ("cifar-10-batches-py" if name == "cifar10" else "cifar-100-python")
    base.mkdir(parents=True)
    classes, key = (10, "labels") if name == "cifar10" else (100, "fine_labels")
    contents = {}
    for split, n in (("train", train), ("test", test)):
        images, labels = contents[split] = random_images(n, (3, 32, 32), classes, seed=n)
        files = [split]
        if name == "cifar10":
            files = [f"data_batch_{number}" for number in range(1, 6)] if split == "train" else ["test_batch"]
        parts = zip(files, np.array_split(images, len(files)), np.array_split(labels, len(files)), strict=True)
        for file, part, part_labels in parts:
            batch = {
                "batch_label": "a batch",
                key: part_labels.tolist(),
                "coarse_labels": [1] * len(part),
                "data": part.reshape(len(part), 3072),
                "filenames": [f"a_{number}.png" for number in range(len(part))],
            }
            (base / file).write_bytes(pickle.dumps(batch, protocol))
    return contents


def write_mnist(folder: Path, train: int, test: int) -> dict[str, tuple]:
    """Write MNIST's unpacked files below a folder, and give images and labels in original order."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    contents = {}
    for split, prefix, n in (("train", "train", train), ("test", "t10k", test)):
        images, labels = contents[split] = random_images(n, (28, 28), 10, seed=n)
        header = np.array([0x803, n, 28, 28], ">u4").tobytes()
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = np.array([0x801, n], ">u4").tobytes()
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(header + labels.astype(np.uint8).tobytes())
    return contents
