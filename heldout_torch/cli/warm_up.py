"""`heldout warm-up`: compile the kernels of statistics and ImageNet images in advance."""

import argparse
import time

import numpy as np
import simplejpeg

from heldout_torch.cli.output import summarize
from heldout_torch.cli.parser import Parser
from heldout_torch.data.jpeg import decode_crop
from heldout_torch.data.transforms import center_box, preprocess_crop


def configure(parser: Parser) -> None:
    """Add what the verb takes to its parser."""
    parser.description = (
        "Compile the kernels for counting and for ImageNet's preprocessing, which takes some seconds, and keep them in "
        "Numba's cache. Otherwise they are compiled at their first use. NUMBA_CACHE_DIR may name the cache folder."
    )
    parser.set_defaults(run_verb=_warm_up)


def _warm_up(arguments: argparse.Namespace) -> int:
    start = time.perf_counter()
    import heldout_torch.stats.rank_kernels  # noqa: F401, importing kernels compiles them
    from heldout_torch.stats.counting.sweep_cpu import choose_kernels

    choose_kernels(rows=10_000, words=32)

    for subsampling in ("420", "422", "444"):
        picture = simplejpeg.encode_jpeg(np.zeros((300, 301, 3), np.uint8), colorsubsampling=subsampling)
        preprocess_crop(decode_crop(picture, center_box, "a black picture"))
    seconds = time.perf_counter() - start
    summarize(arguments, f"compiled kernels are ready, after {seconds:.1f} s", seconds=round(seconds, 1))
    return 0
