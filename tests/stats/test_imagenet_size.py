"""Outputs of ImageNet's size stay on disk: what is computed from them holds little memory, whatever the number of runs.

The limit is on what a process allocates (RLIMIT_DATA). Pages of mapped files do not count, which the system drops when
it needs them.
"""

import subprocess
import sys

import pytest

from tests.helpers.memory import growth

GIGABYTE = 2**30
SCRIPT = """
import json, resource, sys
import numpy as np, torch
from heldout_torch.stats import OutputTable, influence, influence_pairs, lds, memorization
from heldout_torch.stats.output_files import start_outputs, write_outputs
from heldout_torch.stats import rank_kernels

folder, limit = sys.argv[1], int(sys.argv[2])
n, m, runs = 1_281_167, 50_000, 260
keys = [f"imagenet-resnet50/0.7/{run}" for run in range(runs)]
start_outputs(__import__("pathlib").Path(folder), keys, n, m)  # 1.3 GB of margins, as holes: more than is allowed
filled = np.lib.format.open_memmap(f"{folder}/filled.npy", "r+")
filled[:] = True
del filled
random = np.random.default_rng(0)
rows = {0: random.random(n) < 0.7, 259: random.random(n) < 0.7}
for run, mask in rows.items():
    write_outputs(__import__("pathlib").Path(folder), keys[run], mask, mask + 1.0, np.arange(m) % 7 + 1.0)
torch.ones(9, 9) @ torch.ones(9, 9)
used = int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + limit, used + limit))

table = OutputTable.load(folder)
memorized = memorization(table)
both, one = rows[0] & rows[259], rows[0] ^ rows[259]
results = {"memorized both": float(memorized[both][0]), "one": float(memorized[one][0])}
assert len(set(memorized[both])) == len(set(memorized[one])) == 1

def scores(test):  # 50,000 rows of them would take 256 GB
    assert len(test) * n < 2**27
    return np.broadcast_to(np.arange(n, dtype=np.float32) % 2, (len(test), n))

found = lds(scores, table, test=slice(0, m, 2_500), resamples=2)
results |= {"lds": len(found.correlation), "mean": found.mean}
values = influence(table, [5, n - 1], slice(0, m, 25_000))
labels = np.arange(n) % 20_000, np.arange(m) % 20_000
pairs = influence_pairs(table, *labels, min_influence=1e9, min_memorization=None)
results |= {"influence": values.shape, "pairs": len(pairs)}
results["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps(results))
"""


def run_limited(folder, limit):
    command = [sys.executable, "-c", SCRIPT, str(folder), str(limit)]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)


@pytest.mark.slow
def test_outputs_of_imagenet_take_less_than_a_gigabyte(tmp_path):
    process = run_limited(tmp_path / "outputs", GIGABYTE)
    print(process.stdout)
    assert process.returncode == 0, process.stderr


@pytest.mark.slow
def test_pairs_found_all_over_a_matrix_keep_no_memory_from_being_used_again(tmp_path):
    """100 blocks of 16 MB: 700 MB were held when each had memory of its own between the results of others."""
    prepare = """
import numpy as np
from heldout_torch.stats import OutputTable, influence_pairs
random = np.random.default_rng(0)
masks = random.random((100, 20_480)) < 0.5
margins = [random.standard_normal((100, examples), np.float32) for examples in (20_480, 20_480)]
table = OutputTable.from_arrays(masks, *margins)

def pairs(table):
    return influence_pairs(table, min_influence=0.84, min_memorization=None, same_class=False)

pairs(OutputTable.from_arrays(masks[:, :4096], margins[0][:, :1024], margins[1][:, :4096]))"""
    megabytes, printed = growth(tmp_path, prepare, "print(len(pairs(table)))")
    assert int(printed) > 5000
    assert megabytes < 500
