"""Preprocess JPEGs with TensorFlow's operations as the published pipeline did: the crop, and the network's input.

Arguments: a folder of .jpg files, and a folder to write `crops.npz` (uint8, (p, p, 3) by file name) and `inputs.npy`
(float32, (files, 3, 224, 224), by sorted file name) into.
"""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

FILES = sorted(Path(sys.argv[1]).glob("*.jpg"))
OUTPUT = Path(sys.argv[2])
MEAN, STD = tf.constant([0.485, 0.456, 0.406]), tf.constant([0.229, 0.224, 0.225])

crops = {}
inputs = np.lib.format.open_memmap(OUTPUT / "inputs.npy", "w+", np.float32, (len(FILES), 3, 224, 224))
for row, path in enumerate(FILES):
    data = path.read_bytes()
    height, width = tf.unstack(tf.io.extract_jpeg_shape(data)[:2])
    shorter = tf.cast(tf.minimum(height, width), tf.float32)
    size = tf.cast(tf.constant(224 / 256, tf.float32) * shorter, tf.int32)
    window = tf.stack([(height - size + 1) // 2, (width - size + 1) // 2, size, size])
    crop = tf.io.decode_and_crop_jpeg(data, window, channels=3)
    image = tf.image.resize(tf.image.convert_image_dtype(crop, tf.float32), [224, 224])
    crops[path.name] = crop.numpy()
    inputs[row] = tf.transpose((image - MEAN) / STD, [2, 0, 1]).numpy()
np.savez(OUTPUT / "crops.npz", **crops)
