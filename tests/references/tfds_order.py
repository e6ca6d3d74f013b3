"""Build CIFAR-10, CIFAR-100 or MNIST with tensorflow-datasets' own builder from files in the original format.

The files hold images that are blank but for their number in the first four bytes, so what is read back tells where
the builder put each. Arguments: builder, examples in train, examples in test, a folder to work in, output npz.
"""

import sys
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.image_classification import mnist

BUILDER, TRAIN, TEST, FOLDER, OUTPUT = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]), sys.argv[5]


def numbered_pixels(n: int, size: int) -> np.ndarray:
    """Give n rows of `size` bytes, the first four of which hold the row's number."""
    pixels = np.zeros((n, size), np.uint8)
    pixels[:, :4] = np.arange(n, dtype=">u4").view(np.uint8).reshape(n, 4)
    return pixels  # (n, size)


def write_cifar(classes: int) -> Path:
    """Write the binary version of CIFAR, and give the folder that holds its folder."""
    folder = FOLDER / ("cifar-10-batches-bin" if classes == 10 else "cifar-100-binary")
    folder.mkdir(parents=True)
    for split, n in (("train", TRAIN), ("test", TEST)):
        labels = np.zeros((n, 1 if classes == 10 else 2), np.uint8)
        records = np.concatenate([labels, numbered_pixels(n, 3072)], axis=1)
        if classes == 100:
            (folder / f"{split}.bin").write_bytes(records.tobytes())
        elif split == "test":
            (folder / "test_batch.bin").write_bytes(records.tobytes())
        else:
            for number, part in enumerate(np.array_split(records, 5), start=1):
                (folder / f"data_batch_{number}.bin").write_bytes(part.tobytes())
    for file, prefix, count in (
        ("batches.meta.txt", "label", 10),
        ("fine_label_names.txt", "fine", 100),
        ("coarse_label_names.txt", "coarse", 20),
    ):
        (folder / file).write_text("".join(f"{prefix}{label}\n" for label in range(count)))
    return FOLDER


def write_mnist() -> dict[str, Path]:
    """Write MNIST's four files, unpacked, and give them under the builder's names."""
    mnist._TRAIN_EXAMPLES, mnist._TEST_EXAMPLES = TRAIN, TEST
    FOLDER.mkdir(parents=True)
    files = {}
    for split, n in (("train", TRAIN), ("test", TEST)):
        files[f"{split}_data"] = FOLDER / f"{split}-images"
        files[f"{split}_labels"] = FOLDER / f"{split}-labels"
        files[f"{split}_data"].write_bytes(
            np.array([0x803, n, 28, 28], ">u4").tobytes() + numbered_pixels(n, 784).tobytes()
        )
        files[f"{split}_labels"].write_bytes(np.array([0x801, n], ">u4").tobytes() + bytes(n))
    return files


local = write_mnist() if BUILDER == "mnist" else write_cifar(int(BUILDER.removeprefix("cifar")))
tfds.download.DownloadManager.download_and_extract = lambda self, urls: local
tfds.core.utils.gcs_utils._is_gcs_disabled = True  # the builder would ask a remote store for its description
tfds.disable_progress_bar()
builder = tfds.builder(BUILDER, data_dir=FOLDER / "built")
builder.download_and_prepare()
order = {}
for split in ("train", "test"):
    examples = tfds.as_numpy(builder.as_dataset(split=split, shuffle_files=False))
    images = np.stack([example["image"] for example in examples])  # (n, h, w, c)
    first = images.transpose(0, 3, 1, 2).reshape(len(images), -1)[:, :4]
    order[split] = np.ascontiguousarray(first).view(">u4")[:, 0].astype(np.int64)
np.savez(OUTPUT, **order)
