"""Write a small pre-activation ResNet's variables and logits.

Usage: preact_resnet.py OUT.npz BOTTLENECK
OUT holds `images` (n, h, w, c), `logits` (n, classes), and each variable under this project's name for it, in
TensorFlow's layout.
"""

import sys

import networks
import numpy as np
import preact
import tensorflow as tf

out, bottleneck = sys.argv[1], bool(int(sys.argv[2]))
model = preact.Network(bottleneck)
images = np.random.RandomState(0).rand(8, 17, 16, 3).astype(np.float32)
model(tf.constant(images), is_training=True)
networks.randomize(model, seed=5)
logits = model(tf.constant(images), is_training=False)
np.savez(out, images=images, logits=logits, **{name: np.array(array) for name, array in preact.arrays(model)})
