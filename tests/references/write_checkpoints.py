"""Write checkpoints of many kinds, and what TensorFlow itself reads from them.

Usage: write_checkpoints.py OUT
Each kind gets `OUT/<kind>/ckpt-1.{index,data-*}` and `OUT/<kind>/expected.npz`: raw bytes of each tensor by number,
with `names.json` giving (name, shape) in the same order.
"""

import json
import sys
from pathlib import Path

import networks
import numpy as np
import sonnet as snt
import tensorflow as tf

OUT = Path(sys.argv[1])
DTYPES = [
    tf.float32, tf.float64, tf.int32, tf.uint8, tf.int16, tf.int8, tf.complex64, tf.int64, tf.bool, tf.bfloat16,
    tf.uint16, tf.complex128, tf.float16, tf.uint32, tf.uint64,
    tf.dtypes.experimental.float8_e5m2, tf.dtypes.experimental.float8_e4m3fn,
]  # fmt: skip


def save(prefix, tensors):
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=[*tensors.values()],
    )


def expect(kind):
    reader = tf.train.load_checkpoint(str(OUT / kind / "ckpt-1"))
    shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    names = sorted(name for name in shapes if dtypes[name] != tf.string)
    arrays = {str(i): np.frombuffer(np.asarray(reader.get_tensor(n)).tobytes(), np.uint8) for i, n in enumerate(names)}
    np.savez(OUT / kind / "expected.npz", **arrays)
    (OUT / kind / "names.json").write_text(json.dumps([(name, shapes[name]) for name in names]))


def every_dtype():
    random = np.random.RandomState(0)
    tensors = {}
    for dtype in DTYPES:
        for shape in ((), (3,), (2, 3, 4), (0, 5)):
            values = tf.constant(random.randint(0, 2, size=shape).astype(np.float32) * 3)
            tensors[f"{dtype.name}/{len(shape)}{0 in shape}"] = tf.cast(values, dtype)
    tensors["text"] = tf.constant(["a", "bc"])
    return tensors


for kind in ("one_shard", "several_shards", "many_variables", "every_dtype", "slots", "sliced"):
    (OUT / kind).mkdir(parents=True)
save(OUT / "one_shard" / "ckpt-1", {"a/b": tf.random.normal([7, 5]), "a/c": tf.constant(3, tf.int64)})
save(OUT / "every_dtype" / "ckpt-1", every_dtype())
save(OUT / "many_variables" / "ckpt-1", {f"model/layer_{i}/weights": tf.random.normal([i % 4]) for i in range(20_000)})
parts = [OUT / "several_shards" / f"part-{i}" for i in range(3)]
for i, part in enumerate(parts):
    save(part, {f"shard_{i}/{j}": tf.random.normal([i + 1, j + 2]) for j in range(50)})
tf.raw_ops.MergeV2Checkpoints(
    checkpoint_prefixes=[str(part) for part in parts], destination_prefix=str(OUT / "several_shards" / "ckpt-1")
)
tf.raw_ops.SaveV2(
    prefix=str(OUT / "sliced" / "ckpt-1"), tensor_names=["v"], shape_and_slices=["4 2 0,2:-"], tensors=[tf.ones([2, 2])]
)

model = networks.build("mlp", 10, widths=(16,))
optimizer, keras = snt.optimizers.Adam(0.1), tf.keras.optimizers.Adam(0.1)
slot_variable = tf.Variable(tf.ones([3]))
with tf.GradientTape() as tape:
    loss = tf.reduce_sum(model(tf.random.normal([4, 8]), is_training=True) ** 2)
optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
keras.apply_gradients([(tf.ones([3]), slot_variable)])
checkpoint = tf.train.Checkpoint(
    model=model, optimizer=optimizer, keras=keras, variable=slot_variable, epoch=tf.Variable(1, dtype=tf.int64)
)
checkpoint.write(str(OUT / "slots" / "ckpt-1"))

for kind in ("one_shard", "several_shards", "many_variables", "every_dtype", "slots"):
    expect(kind)
