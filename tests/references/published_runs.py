"""Write runs as the published archives hold them: weights with momentum, aux arrays of the data set's size.

Usage: published_runs.py OUT EXPERIMENT SUBSET_RATIO RUN [RUN ...]
EXPERIMENT is cifar10-inception or imagenet-resnet50. The weights are random numbers, as incompressible as trained ones.
"""

import sys
from pathlib import Path

import networks
import numpy as np
import sonnet as snt
import tensorflow as tf

SIZES = {  # network, classes, image, training and test examples, epochs
    "cifar10-inception": ("small_inception", 10, 32, 50_000, 10_000, 80),
    "imagenet-resnet50": ("resnet50", 1000, 224, 1_281_167, 50_000, 100),
}

out, experiment, ratio = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
network, classes, side, examples, tests, epochs = SIZES[experiment]
for run in map(int, sys.argv[4:]):
    folder = out / experiment / ratio / str(run)
    random = np.random.RandomState(run)
    subset = random.choice(examples, size=int(examples * float(ratio)), replace=False)
    removed = np.setdiff1d(np.arange(examples), subset)
    model = networks.build(network, classes)
    model(tf.zeros([2, side, side, 3]), is_training=True)
    optimizer = snt.optimizers.Momentum(learning_rate=0.1, momentum=0.9)
    optimizer.apply([tf.random.normal(v.shape) for v in model.trainable_variables], model.trainable_variables)
    networks.randomize(model, run + 1)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer, epoch=tf.Variable(epochs, dtype=tf.int64))
    checkpoint.write(str(folder / "checkpoints" / f"ckpt-{epochs}"))
    np.savez_compressed(
        folder / "aux_arrays.npz",
        correctness_train=random.randint(2, size=len(subset)).astype(np.float32),
        correctness_removed=random.randint(2, size=len(removed)).astype(np.float32),
        correctness_test=random.randint(2, size=tests).astype(np.float32),
        index_train=subset,
        index_removed=removed,
        index_test=np.arange(tests),
        subsample_idx=subset,
    )
