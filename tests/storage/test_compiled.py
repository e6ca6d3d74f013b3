"""Compiled functions work where no cache can be written: a package of root's, a user without a home.

Also of cli/warm_up.py.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import heldout_torch
from heldout_torch.cli import main

CODE = """
import numpy as np, heldout_torch
from heldout_torch.stats import RunTable, memorization
from heldout_torch.data.transforms import preprocess_crop
rng = np.random.default_rng(0)
trained_on = np.arange(20)[:, None] % 2 == np.arange(6) % 2
table = RunTable.from_arrays(trained_on, rng.random((20, 6)) < 0.5, rng.random((20, 3)) < 1)
print(heldout_torch.__file__, memorization(table).shape, float(preprocess_crop(np.zeros((9, 9, 3), np.uint8)).mean()))
"""


def without_cache(tmp_path):
    """A copy of the package beside whose files, and in whose user's home, no folder can be made."""
    package = tmp_path / "heldout_torch"
    shutil.copytree(
        Path(heldout_torch.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__", "sample")
    )
    for folder in [package, *(path for path in package.rglob("*") if path.is_dir())]:
        (folder / "__pycache__").touch()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    return {**environment, "PYTHONPATH": str(tmp_path), "HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null/cache",
            "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip


def test_kernels_work_where_nothing_can_be_kept(tmp_path):
    command = [sys.executable, "-c", CODE]
    environment = without_cache(tmp_path)
    process = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith(str(tmp_path))
    assert process.stderr.count("compiling kernels, which takes some seconds") == 1
    assert not list(tmp_path.rglob("*.nbc"))
    assert process.stderr.count("compiling kernels") == 1
    assert "NUMBA_CACHE_DIR" in process.stderr


def test_warm_up_leaves_the_kernels_in_a_cache(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "heldout_torch", "warm-up"]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith("compiled kernels are ready, after ")
    kept = {path.name.partition("-")[0] for path in (tmp_path / "cache").rglob("*.nbi")}
    kernels = {"kernels_cpu.fill", "kernels_cpu.select", "rank_kernels.rank_correlations", "chroma.convert_crop"}
    assert kernels | {"resize.resize_and_normalise"} <= kept
    assert process.stderr == "compiling kernels, which takes some seconds; later calls reuse them\n"
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert (process.returncode, process.stderr) == (0, "")


def test_warm_up_is_told_in_json(capsys):
    assert main(["warm-up", "--json"]) == 0
    assert '"seconds": ' in capsys.readouterr().out


def test_without_compilation_it_is_one_line():
    """It was an AttributeError."""
    command = [sys.executable, "-m", "heldout_torch", "warm-up"]
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr.startswith("error: NUMBA_DISABLE_JIT is set")
    assert process.stderr.count("\n") == 1
