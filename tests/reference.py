"""Runs the reference implementations: scripts that need TensorFlow, each in a process of its own.

TensorFlow and PyTorch's companions abort the interpreter when they meet, so a test asks for files and reads them.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent / "references"


def run_reference(script: str, *arguments: object, timeout: float = 600) -> str:
    """Return what `references/<script>.py` prints; skip the test where TensorFlow is not installed."""
    if find_spec("tensorflow") is None:
        pytest.skip("no TensorFlow: pip install -e '.[parity]'")
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.run(
        [sys.executable, SCRIPTS / f"{script}.py", *map(str, arguments)],
        capture_output=True, text=True, timeout=timeout, env=environment, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout
