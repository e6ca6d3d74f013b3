"""Bounds on how much of an archive, or of its seek index, is held in memory; larger input is refused.

An archive and its seek index are other people's files: a few bytes in them can declare, or inflate to, any number. The
bounds are larger than anything in the published archives.
"""

import functools
import math

from heldout_torch.experiments import Experiment
from heldout_torch.models import expected_tensors

# A tar archive.
EXTENDED_HEADER = 2**16  # bytes of a long name or a pax header; real ones have a few hundred
EXTENDED_HEADERS = 8  # before one member; real ones have at most two: a long name and a long link
NAME = 255  # bytes of a folder's or file's name, as file systems have it
RUNS = 200_000  # of an archive, ten times what was published; each takes memory once it is named
RUN_FILES = 64  # of one run: aux arrays, one index, and data shards, of which two were seen

# An export in one pass.
HELD = 320 * 2**20  # unpacked bytes held at once; converting a run takes about twice its size more
_NETWORK_COPIES = 4  # a checkpoint holds the weights, and per optimizer slot once more
_SLACK = 2**24
MARK = 2**26  # bytes of the file that says where it goes on: a line for each of 200,000 runs, and a window

# A seek index.
TABLE = 2**26  # bytes of its table, packed or not: 200,000 runs have 34 million, 50,000 points 2 million
TABLE_LINE = 2**13  # bytes of one run or point in it: 64 files of a run in some 60 bytes each
REACH = 2**30  # inflated bytes from an access point to the end of a file of a run; points lie some megabytes apart
POINTS = 2**19  # a point every megabyte of half a terabyte


@functools.cache
def run_limit(experiment: Experiment) -> int:
    """Return the most bytes that a run's files can sensibly have together, unpacked."""
    tensors = expected_tensors(experiment.architecture, experiment.config)
    network = sum(math.prod(shape) * dtype.itemsize for shape, dtype in tensors.values())
    examples = experiment.train_examples + experiment.test_examples
    return _NETWORK_COPIES * network + 32 * examples + _SLACK  # at most 8 bytes in each of four arrays an example
