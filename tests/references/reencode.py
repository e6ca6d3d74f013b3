"""Store images as tensorflow-datasets' `imagenet2012` stores its CMYK and PNG ones, and decode what comes out.

Argument: a folder of image files. Writes `reencoded.npz` there: by file name, the pixels (h, w, 3) of the stored JPEG
as the published pipeline decodes them.
"""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_datasets.core.utils import image_utils

folder = Path(sys.argv[1])
pixels = {}
for path in sorted(folder.glob("*.JPEG")):
    data = path.read_bytes()
    store = image_utils.png_to_jpeg if data.startswith(b"\x89PNG") else image_utils.jpeg_cmyk_to_rgb
    pixels[path.name] = tf.io.decode_jpeg(store(data), channels=3).numpy()
np.savez(folder / "reencoded.npz", **pixels)
