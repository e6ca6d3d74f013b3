"""The route through TensorFlow, for `export.py` to compare with: restore each run into a Sonnet network, then save it.

Usage: export_tensorflow.py EXPERIMENT_FOLDER OUT RUNS
Prints seconds of each run, imports not counted.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "references"))

import networks
import numpy as np
import tensorflow as tf
from safetensors.numpy import save_file

source, out, runs = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
for run in range(runs):
    start = time.perf_counter()
    model = networks.build("small_inception", 10)
    model(tf.zeros([1, 32, 32, 3]), is_training=True)  # makes the variables
    prefix = str(source / str(run) / "checkpoints" / "ckpt-7")
    tf.train.Checkpoint(model=model, epoch=tf.Variable(0, dtype=tf.int64)).read(prefix).assert_consumed()
    tensors = {}
    for number, variable in enumerate(model.variables):
        array = variable.numpy()
        order = {4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim)
        tensors[f"{number}.{variable.name}"] = np.ascontiguousarray(array.transpose(order) if order else array)
    save_file(tensors, out / f"{run}.safetensors")
    print(time.perf_counter() - start)
