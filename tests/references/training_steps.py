"""Train a network by Sonnet: the initial weights, each batch's loss, and what comes out.

Usage: training_steps.py ARCHITECTURE IN.npz OUT
IN holds `images` (steps, b, h, w, c), `labels` (steps, b), `rates` (steps,), `momentum`, `weight_decay`, and
`evaluated` (n, h, w, c). OUT, a folder, gets `results.npz` with `losses` (steps,) and `logits` (n, classes) of
`evaluated` after the last step; and the variables before the first and after the last step: of the pre-activation
ResNet as `before.npz` and `after.npz` by this project's names in TensorFlow's layout, of the others as checkpoints
`before` and `after`.
"""

import sys
from pathlib import Path

import networks
import numpy as np
import preact
import sonnet as snt
import tensorflow as tf

tf.config.threading.set_intra_op_parallelism_threads(1)  # or sums come in another order each time
tf.config.threading.set_inter_op_parallelism_threads(1)

architecture, out = sys.argv[1], Path(sys.argv[3])
with np.load(sys.argv[2]) as npz:
    given = dict(npz)
is_preact = architecture == "cifar_resnet18"
model = preact.Network(bottleneck=False) if is_preact else networks.build(architecture, 10, widths=(48, 24))
model(tf.zeros(given["images"].shape[1:]), is_training=False)  # makes the variables
for variable in model.trainable_variables:
    # Batch norms begin so that few ReLUs are near their edge. From 1 and 0, rounding errors grow twofold a step, and
    # no two programs agree for long.
    if "scale" in variable.name or "offset" in variable.name:
        variable.assign(tf.fill(variable.shape, 0.5 if "scale" in variable.name else 2.0))
rate = tf.Variable(0.0)
optimizer = snt.optimizers.Momentum(learning_rate=rate, momentum=float(given["momentum"]))
weight_decay = tf.constant(given["weight_decay"], tf.float32)


def write(name):
    if is_preact:
        np.savez(out / name, **{key: np.array(array) for key, array in preact.arrays(model)})
    else:
        tf.train.Checkpoint(model=model).write(str(out / name))


@tf.function
def step(images, labels):
    with tf.GradientTape() as tape:
        logits = model(images, is_training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        squares = tf.add_n([tf.nn.l2_loss(variable) for variable in model.trainable_variables])
        objective = loss + weight_decay * squares
    variables = model.trainable_variables
    optimizer.apply(tape.gradient(objective, variables), variables)
    return loss


write("before")
losses = []
for images, labels, rate_now in zip(given["images"], given["labels"], given["rates"], strict=True):
    rate.assign(rate_now)
    losses.append(step(tf.constant(images), tf.constant(labels)).numpy())
write("after")
np.savez(out / "results.npz", losses=losses, logits=model(tf.constant(given["evaluated"]), is_training=False))
