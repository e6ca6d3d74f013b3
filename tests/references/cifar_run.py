"""Train Sonnet networks a little on CIFAR-format data of classes, and evaluate them in the order of the data's library.

Usage: cifar_run.py OUT NAME TRAIN TEST EPOCHS NOISE RUN [RUN ...]
OUT gets `data/` (the Python version of CIFAR-10 or -100, files in original order) and, for each run,
`NAME-tiny/0.7/RUN/` as the published archives lay it out, indices counting in tensorflow-datasets order.
"""

import pickle
import sys
from pathlib import Path

import networks
import numpy as np
import sonnet as snt
import tensorflow as tf
from tensorflow_datasets.core import hashing

out, name = Path(sys.argv[1]), sys.argv[2]
sizes = {"train": int(sys.argv[3]), "test": int(sys.argv[4])}
epochs, noise, runs = int(sys.argv[5]), float(sys.argv[6]), [int(run) for run in sys.argv[7:]]
classes = 10 if name == "cifar10" else 100
batch = 20


def make(split):
    """Make images (n, 32, 32, 3) whose class is a faint pattern under noise, so that a network is often wrong."""
    random = np.random.RandomState(sizes[split])
    patterns = np.random.RandomState(0).uniform(-1, 1, (classes, 4, 4, 3)).repeat(8, 1).repeat(8, 2)
    labels = random.randint(classes, size=sizes[split])
    images = 128 + 30 * patterns[labels] + noise * random.randn(sizes[split], 32, 32, 3)
    return images.clip(0, 255).astype(np.uint8), labels


def write(split, images, labels):
    """Write the files of a split as CIFAR's authors did."""
    base = out / "data" / ("cifar-10-batches-py" if name == "cifar10" else "cifar-100-python")
    base.mkdir(parents=True, exist_ok=True)
    files = [split]
    if name == "cifar10":
        files = [f"data_batch_{number}" for number in range(1, 6)] if split == "train" else ["test_batch"]
    key = b"labels" if name == "cifar10" else b"fine_labels"
    for file, rows in zip(files, np.array_split(np.arange(len(labels)), len(files)), strict=True):
        pixels = images[rows].transpose(0, 3, 1, 2).reshape(len(rows), 3072)
        batch = {b"batch_label": b"a batch", key: labels[rows].tolist(), b"data": pixels}
        (base / file).write_bytes(pickle.dumps(batch, protocol=2))


def publish(split, images, labels):
    """Put a split into the order in which tensorflow-datasets keeps it."""
    hasher = hashing.Hasher(split)
    order = sorted(range(len(labels)), key=lambda number: hasher.hash_key(number))
    return images[order].astype(np.float32) / np.float32(255), labels[order].astype(np.int64)


data = {}
for split in ("train", "test"):
    images, labels = make(split)
    write(split, images, labels)
    data[split] = publish(split, images, labels)

for run in runs:
    tf.random.set_seed(run)
    random = np.random.RandomState(run)
    subset = random.choice(sizes["train"], size=int(sizes["train"] * 0.7), replace=False)
    model = networks.build("small_inception", classes)
    optimizer = snt.optimizers.Momentum(learning_rate=0.01, momentum=0.9)

    @tf.function
    def step(x, y, model=model, optimizer=optimizer):
        with tf.GradientTape() as tape:
            logits = model(x, is_training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)

    model(tf.zeros([2, 32, 32, 3]), is_training=True)
    images, labels = data["train"]
    for _ in range(epochs):
        order = random.permutation(subset)
        for start in range(0, len(order) - batch + 1, batch):
            rows = order[start : start + batch]
            step(tf.constant(images[rows]), tf.constant(labels[rows]))

    # After so few steps the averages of batch norm are those of other weights; they are taken anew.
    for module in model.submodules:
        if isinstance(module, snt.ExponentialMovingAverage):
            module.reset()
    for start in range(0, len(subset) - batch + 1, batch):
        model(tf.constant(images[subset[start : start + batch]]), is_training=True)

    predict = tf.function(lambda x, model=model: tf.argmax(model(x, is_training=False), axis=1))
    correct = {
        split: np.concatenate(
            [predict(tf.constant(x[i : i + batch])).numpy() == y[i : i + batch] for i in range(0, len(y), batch)]
        ).astype(np.float32)
        for split, (x, y) in data.items()
    }
    removed = np.setdiff1d(np.arange(sizes["train"]), subset)
    folder = out / f"{name}-tiny" / "0.7" / str(run)
    tf.train.Checkpoint(model=model, epoch=tf.Variable(epochs, dtype=tf.int64)).write(
        str(folder / "checkpoints" / f"ckpt-{epochs}")
    )
    np.savez_compressed(
        folder / "aux_arrays.npz",
        correctness_train=correct["train"][subset],
        correctness_removed=correct["train"][removed],
        correctness_test=correct["test"],
        index_train=subset,
        index_removed=removed,
        index_test=np.arange(sizes["test"]),
        subsample_idx=subset,
    )
    print(
        run, *(f"{part.mean():.3f}" for part in (correct["train"][subset], correct["train"][removed], correct["test"]))
    )
