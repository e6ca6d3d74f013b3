"""Make the bundled sample: a few MLPs trained in TensorFlow with Sonnet on random subsets of the digits.

Needs tensorflow, dm-sonnet and scikit-learn, and must run in a process of its own, without PyTorch. Writes
`heldout_torch/data/digits.npz` and `heldout_torch/sample/digits-mlp-tf/<subset_ratio>/<run>/` in the layout of the
published archives: `aux_arrays.npz` and `checkpoints/ckpt-<epoch>.{index,data-00000-of-00001}`.
"""

import argparse
from pathlib import Path

import numpy as np
import sonnet as snt
import tensorflow as tf
from sklearn.datasets import load_digits

PACKAGE = Path(__file__).resolve().parent.parent / "heldout_torch"
TRAIN_EXAMPLES = 1437
SUBSET_RATIO = 0.7
EPOCHS = 30
BATCH = 32


def train_run(run: int, images: np.ndarray, labels: np.ndarray, folder: Path) -> None:
    """Train run number `run` and write its directory; images (1797, 64) in [0, 1], the training set first."""
    tf.random.set_seed(run)
    random = np.random.RandomState(run)
    subset = random.choice(TRAIN_EXAMPLES, size=int(TRAIN_EXAMPLES * SUBSET_RATIO), replace=False)
    model = snt.nets.MLP([64, 10])
    optimizer = snt.optimizers.Momentum(learning_rate=0.1, momentum=0.9)
    global_step = tf.Variable(0, dtype=tf.int64)

    @tf.function
    def step(x: tf.Tensor, y: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=model(x)))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        global_step.assign_add(1)

    for _ in range(EPOCHS):
        order = random.permutation(subset)
        for start in range(0, len(order) - BATCH + 1, BATCH):
            batch = order[start : start + BATCH]
            step(tf.constant(images[batch]), tf.constant(labels[batch]))

    correct = (tf.argmax(model(tf.constant(images)), axis=1).numpy() == labels).astype(np.float32)  # (1797,)
    removed = np.setdiff1d(np.arange(TRAIN_EXAMPLES), subset)
    test = np.arange(len(labels) - TRAIN_EXAMPLES)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        folder / "aux_arrays.npz",
        correctness_train=correct[subset],
        correctness_removed=correct[removed],
        correctness_test=correct[TRAIN_EXAMPLES + test],
        index_train=subset,
        index_removed=removed,
        index_test=test,
        subsample_idx=subset,
    )
    checkpoint = tf.train.Checkpoint(
        model=model, optimizer=optimizer, epoch=tf.Variable(EPOCHS, dtype=tf.int64), global_step=global_step
    )
    checkpoint.write(str(folder / "checkpoints" / f"ckpt-{EPOCHS}"))
    train, held_out, unseen = correct[subset].mean(), correct[removed].mean(), correct[TRAIN_EXAMPLES:].mean()
    print(f"run {run}: train {train:.3f} removed {held_out:.3f} test {unseen:.3f}")


def main() -> None:
    """Write the data file and the runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=6, help="number of runs (default 6)")
    runs = parser.parse_args().runs
    digits = load_digits()
    images, labels = digits.images.astype(np.uint8), digits.target.astype(np.int64)  # (1797, 8, 8), (1797,)
    np.savez_compressed(
        PACKAGE / "data" / "digits.npz",
        train__image=images[:TRAIN_EXAMPLES],
        train__label=labels[:TRAIN_EXAMPLES],
        test__image=images[TRAIN_EXAMPLES:],
        test__label=labels[TRAIN_EXAMPLES:],
        __num_classes=np.int64(10),
        __data_scale=np.float32(16),
    )
    pixels = images.reshape(len(images), 64).astype(np.float32) / 16
    for run in range(runs):
        train_run(run, pixels, labels, PACKAGE / "sample" / "digits-mlp-tf" / repr(SUBSET_RATIO) / str(run))


if __name__ == "__main__":
    main()
