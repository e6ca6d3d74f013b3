"""CIFAR-10, CIFAR-100 and MNIST from their original files, in the order of published indices.

The files are those that torchvision downloads: CIFAR's Python version, MNIST's four unpacked files. Each is compared
with the MD5 of the published one before it is read, and read without unpickling.
"""

import hashlib
import http.client
import math
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from heldout_torch.data.arrays import ArrayDataset, Split
from heldout_torch.data.checks import SplitName, check_labels
from heldout_torch.data.literals import as_bytes, read_literals
from heldout_torch.data.order import tfds_order
from heldout_torch.errors import DataError, one_line, os_errors
from heldout_torch.storage import web
from heldout_torch.storage.files import read_bounded
from heldout_torch.storage.offline import check_network

_MAX_FILE = 2**29  # bytes; CIFAR-100's training file has 155 million
NUM_CLASSES = {"cifar10": 10, "cifar100": 100, "mnist": 10}
_MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def load_cifar(name: str, path: Path, download: bool, verify_checksums: bool) -> ArrayDataset:
    """Load CIFAR, images (3, 32, 32).

    Args:
        name: `cifar10` or `cifar100`.
        path: Folder that holds `cifar-10-batches-py` or `cifar-100-python`, or that folder itself.
        download: Fetch the files if they are not there.
        verify_checksums: Refuse files other than the published ones.

    Raises:
        DataError: As `load_dataset`.
    """
    from torchvision.datasets import CIFAR10, CIFAR100

    source: Any = CIFAR10 if name == "cifar10" else CIFAR100
    batches = {"train": source.train_list, "test": source.test_list}
    folder = _folder(path, source.base_folder, [file for files in batches.values() for file, _ in files])
    if folder is None and download:
        _fetch_cifar(source, path)
        folder = path / source.base_folder
    if folder is None:
        raise _missing(name, path, source.base_folder, batches["train"][0][0])
    splits = {}
    for split, files in batches.items():
        published = files if verify_checksums else [(file, None) for file, _ in files]
        splits[split] = publish(*read_cifar(name, folder, published), split)
    return ArrayDataset(name, splits["train"], splits["test"], NUM_CLASSES[name], divide_by=255.0)


def load_mnist(path: Path, download: bool, verify_checksums: bool) -> ArrayDataset:
    """Load MNIST, images (1, 28, 28).

    Args:
        path: Folder that holds `MNIST/raw`, or one of these two.
        download: As in `load_cifar`.
        verify_checksums: As in `load_cifar`.

    Raises:
        DataError: As `load_dataset`.
    """
    folder = _folder(path, "MNIST/raw", list(_MNIST_MD5))
    if folder is None and download:
        from torchvision.datasets import MNIST

        with _downloading("mnist", path):
            MNIST(str(path), download=True)
        folder = path / "MNIST/raw"
    if folder is None:
        raise _missing("mnist", path, "MNIST/raw", next(iter(_MNIST_MD5)))
    splits = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        arrays = []
        for file, shape in ((f"{prefix}-images-idx3-ubyte", (28, 28)), (f"{prefix}-labels-idx1-ubyte", ())):
            data = _read_checked(folder / file, _MNIST_MD5[file] if verify_checksums else None, "mnist")
            arrays.append(_parse_idx(data, shape, folder / file))
        images, labels = arrays[0][:, None], arrays[1].astype(np.int64)  # (n, 1, 28, 28), (n,)
        if len(images) != len(labels):
            raise DataError(f"{folder}: has {len(images)} images of {prefix}, but {len(labels)} labels")
        check_labels(labels, 10, str(folder / f"{prefix}-labels-idx1-ubyte"))
        splits[split] = publish(images, labels, split)
    return ArrayDataset("mnist", splits["train"], splits["test"], NUM_CLASSES["mnist"], divide_by=255.0)


def read_cifar(name: str, folder: Path, files: Sequence[tuple[str, str | None]]) -> tuple[np.ndarray, np.ndarray]:
    """Read CIFAR's files in their own order.

    Args:
        name: `cifar10` or `cifar100`.
        folder: Where they lie.
        files: Their names, each with its MD5 or None.

    Returns:
        Images, uint8 of shape (n, 3, 32, 32), and labels, int64 of shape (n,).

    Raises:
        DataError: If a file is missing, another than by its MD5, damaged, or has labels that are not classes.
    """
    parts = []
    for file, md5 in files:
        data = _read_checked(folder / file, md5, name)
        parts.append(_parse_cifar(data, b"labels" if name == "cifar10" else b"fine_labels", folder / file))
        check_labels(parts[-1][1], NUM_CLASSES[name], str(folder / file))
    images, labels = zip(*parts, strict=True)
    return np.concatenate(images), np.concatenate(labels)


def read_mnist_labels(folder: Path, split: SplitName) -> np.ndarray:
    """Read MNIST's labels in their own order, int64 of shape (n,).

    Raises:
        DataError: If the file is missing or damaged.
    """
    path = folder / f"{'train' if split == 'train' else 't10k'}-labels-idx1-ubyte"
    return _parse_idx(_read_checked(path, None, "mnist"), (), path).astype(np.int64)


def publish(images: np.ndarray, labels: np.ndarray, split: str) -> Split:
    """Bring images (n, c, h, w) and labels (n,) of CIFAR or MNIST from the order of the files to published order."""
    order = tfds_order(split, len(labels))
    return Split(
        images=torch.from_numpy(images[order]),
        labels=torch.from_numpy(labels[order]),
        index=torch.arange(len(order), device="cpu"),
        original_index=torch.from_numpy(order.copy()),
    )


def _parse_cifar(data: bytes, label_key: bytes, path: Path) -> tuple[np.ndarray, np.ndarray]:
    values = read_literals(data, str(path))
    texts = [as_bytes(value) for value in values]
    if label_key not in texts:
        raise DataError(f"{path}: has no {label_key.decode()}, so it is not a batch of this data set")
    # Python 3 pickles bytes as a call with an encoding's name, which then stands between the key and the numbers.
    after_key = dropwhile(lambda value: not isinstance(value, int), values[texts.index(label_key) + 1 :])
    labels = list(takewhile(lambda value: isinstance(value, int), after_key))
    place = max(range(len(texts)), key=lambda at: len(texts[at] or b""))  # nothing else is nearly as long
    pixels = np.frombuffer(texts[place] or b"", np.uint8)
    if not labels or pixels.size != len(labels) * 3072:
        raise DataError(f"{path}: has {len(labels)} labels and {pixels.size} bytes of pixels, expected 3072 for each")
    # NumPy's pickles say whether the array lies column by column just before its bytes.
    by_column = place > 0 and values[place - 1] is True
    rows = pixels.reshape(3072, len(labels)).T if by_column else pixels.reshape(len(labels), 3072)
    return rows.reshape(len(labels), 3, 32, 32), np.array(labels, np.int64)


def _parse_idx(data: bytes, shape: tuple[int, ...], path: Path) -> np.ndarray:
    header = 4 * (2 + len(shape))  # magic, count, shape, each a big-endian 32-bit number
    numbers = np.frombuffer(data[:header], ">u4").tolist() if len(data) >= header else []
    magic = 0x0801 + len(shape)  # unsigned bytes, and the number of dimensions
    if numbers[:1] != [magic] or tuple(numbers[2:]) != shape or len(data) - header != numbers[1] * math.prod(shape):
        raise DataError(f"{path}: is not a whole idx file of unsigned bytes of shape (n, {', '.join(map(str, shape))})")
    return np.frombuffer(data, np.uint8, offset=header).reshape(-1, *shape)  # (n, *shape)


def _folder(path: Path, base: str, files: list[str]) -> Path | None:
    there = path, path / base, path / Path(base).name  # the last within `MNIST`
    return next((folder for folder in there if all((folder / file).is_file() for file in files)), None)


def _missing(name: str, path: Path, base: str, file: str) -> DataError:
    return DataError(
        f"{path}: does not hold {name} (all files of {base}, such as {file}); give its folder, or pass download=True"
    )


def _read_checked(path: Path, md5: str | None, name: str) -> bytes:
    with os_errors(DataError, f"{path}: cannot be read"):
        data = read_bounded(path, _MAX_FILE)
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if md5 is not None and found != md5:
        raise DataError(
            f"{path}: is not the published file of {name} (MD5 {found}, expected {md5}); remove it and fetch it again, "
            "or pass verify_checksums=False to use other data in its format"
        )
    return data


def _fetch_cifar(source: Any, path: Path) -> None:
    from torchvision.datasets.utils import download_and_extract_archive

    with _downloading(source.url, path):
        download_and_extract_archive(source.url, str(path), filename=source.filename, md5=source.tgz_md5)


@contextmanager
def _downloading(what: str, path: Path) -> Iterator[None]:
    """Let torchvision fetch something, which would wait for a silent server for ever.

    Raises:
        DataError: If it fails.
        ZooError: If the network may not be used.
    """
    check_network(f"{what}: is not in {path}")
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(web.SILENCE)
    try:
        yield
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise DataError(f"{what}: cannot be downloaded to {path} ({one_line(error)})") from None
    finally:
        socket.setdefaulttimeout(before)
