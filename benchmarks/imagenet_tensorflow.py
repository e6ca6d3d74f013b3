"""tf.data over a folder of JPEGs, for `imagenet.py` to compare with: the published preprocessing, in batches.

Usage: imagenet_tensorflow.py FOLDER BATCH
For each line on standard input, goes through the folder once and prints the seconds and the processor seconds.
"""

import sys
import time
from pathlib import Path

import tensorflow as tf

MEAN, STD = tf.constant([0.485, 0.456, 0.406]), tf.constant([0.229, 0.224, 0.225])


def preprocess(path: tf.Tensor) -> tf.Tensor:
    """Read, decode the crop, scale, resize, normalise."""
    data = tf.io.read_file(path)
    shape = tf.io.extract_jpeg_shape(data)
    height, width = shape[0], shape[1]
    shorter = tf.cast(tf.minimum(height, width), tf.float32)
    size = tf.cast(tf.constant(224 / 256, tf.float32) * shorter, tf.int32)
    window = tf.stack([(height - size + 1) // 2, (width - size + 1) // 2, size, size])
    image = tf.image.convert_image_dtype(tf.io.decode_and_crop_jpeg(data, window, channels=3), tf.float32)
    return (tf.image.resize(image, [224, 224]) - MEAN) / STD


files = [str(path) for path in sorted(Path(sys.argv[1]).iterdir())]
dataset = tf.data.Dataset.from_tensor_slices(files).map(preprocess, num_parallel_calls=tf.data.AUTOTUNE)
dataset = dataset.batch(int(sys.argv[2])).prefetch(tf.data.AUTOTUNE)
for _ in sys.stdin:
    start, processor = time.perf_counter(), time.process_time()
    for _batch in dataset:
        pass
    print(time.perf_counter() - start, time.process_time() - processor, flush=True)
