"""Write runs as the archive of `cifar10-inception` holds them: SmallInception with momentum, CIFAR-sized aux arrays.

Usage: inception_runs.py OUT SUBSET_RATIO RUN [RUN ...]
The weights are random numbers, as incompressible as trained ones.
"""

import sys
from pathlib import Path

import networks
import numpy as np
import sonnet as snt
import tensorflow as tf

out, ratio = Path(sys.argv[1]), sys.argv[2]
for run in map(int, sys.argv[3:]):
    folder = out / "cifar10-inception" / ratio / str(run)
    random = np.random.RandomState(run)
    subset = random.choice(50000, size=int(50000 * float(ratio)), replace=False)
    removed = np.setdiff1d(np.arange(50000), subset)
    model = networks.build("small_inception", 10)
    model(tf.zeros([2, 32, 32, 3]), is_training=True)
    optimizer = snt.optimizers.Momentum(learning_rate=0.1, momentum=0.9)
    optimizer.apply([tf.random.normal(v.shape) for v in model.trainable_variables], model.trainable_variables)
    networks.randomize(model, run + 1)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer, epoch=tf.Variable(80, dtype=tf.int64))
    checkpoint.write(str(folder / "checkpoints" / "ckpt-80"))
    np.savez_compressed(
        folder / "aux_arrays.npz",
        correctness_train=random.randint(2, size=len(subset)).astype(np.float32),
        correctness_removed=random.randint(2, size=len(removed)).astype(np.float32),
        correctness_test=random.randint(2, size=10000).astype(np.float32),
        index_train=subset,
        index_removed=removed,
        index_test=np.arange(10000),
        subsample_idx=subset,
    )
