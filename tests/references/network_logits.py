"""Write a random network's checkpoint, and its logits on random images.

Usage: network_logits.py OUT ARCHITECTURE NUM_CLASSES CHANNELS LARGE_INPUTS IMAGES SIZE [SIZE ...]
OUT gets `checkpoints/ckpt-7.*`, and for every size `images-SIZE.npy` (n, h, w, c) and `logits-SIZE.npy` (n, classes).
"""

import sys
from pathlib import Path

import networks
import numpy as np
import tensorflow as tf

out, architecture = Path(sys.argv[1]), sys.argv[2]
num_classes, channels, large_inputs, count = map(int, sys.argv[3:7])
sizes = [int(size) for size in sys.argv[7:]]

model = networks.build(architecture, num_classes, bool(large_inputs), widths=(48, 24))
model(tf.zeros([2, sizes[0], sizes[0], channels]), is_training=True)
networks.randomize(model, seed=3)
tf.train.Checkpoint(model=model, epoch=tf.Variable(7, dtype=tf.int64)).write(str(out / "checkpoints" / "ckpt-7"))
run = tf.function(lambda x: model(x, is_training=False))
for size in sizes:
    images = np.random.RandomState(size).rand(count, size, size, channels).astype(np.float32)
    logits = np.concatenate([run(tf.constant(images[i : i + 16])).numpy() for i in range(0, count, 16)])
    np.save(out / f"images-{size}.npy", images)
    np.save(out / f"logits-{size}.npy", logits)
