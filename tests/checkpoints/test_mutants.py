"""Damaged files give the package's own error or the original tensors, quickly and in little memory."""

import subprocess
import sys
from pathlib import Path

import pytest


def try_mutants(folder: Path, count: int, seed: int) -> tuple[int, int, int]:
    process = subprocess.run(
        [sys.executable, Path(__file__).parent / "mutate.py", folder, str(count), str(seed)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout + process.stderr
    errors, unharmed, sealed = map(int, process.stdout.split())
    assert errors + unharmed + sealed == count
    return errors, unharmed, sealed


@pytest.mark.parametrize("kind", ["one_shard", "several_shards", "every_dtype", "slots"])
def test_a_thousand_damaged_checkpoints(checkpoints, kind):
    errors, _, _ = try_mutants(checkpoints / kind, 1_000, seed=1)
    assert errors > 300


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["one_shard", "several_shards", "every_dtype", "slots"])
def test_many_damaged_checkpoints(checkpoints, kind):
    errors, _, _ = try_mutants(checkpoints / kind, 6_000, seed=2)
    assert errors > 1_800
