"""Runs the reference implementations: scripts that need TensorFlow, outside this process.

TensorFlow and PyTorch's companions abort the interpreter when they meet, so a test asks for files and reads them.
"""

import json
import os
import select
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory

import pytest

SCRIPTS = Path(__file__).parent / "references"
SECONDS = 600  # what a script may take

_folders: list[TemporaryDirectory] = []  # removed when the process ends


@cache
def scripts_process() -> subprocess.Popen:
    """Start what runs the scripts. Importing TensorFlow takes longer than most of them. It ends with this process."""
    return subprocess.Popen(
        [sys.executable, SCRIPTS / "serve.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}, stderr=subprocess.DEVNULL, cwd="/",
    )  # fmt: skip


def run_reference(script: str, *arguments: object) -> str:
    """Return what `references/<script>.py` prints; skip the test where TensorFlow is not installed."""
    if find_spec("tensorflow") is None:
        pytest.skip("no TensorFlow: pip install -e '.[parity]'")
    process, status = scripts_process(), "no end"
    with NamedTemporaryFile("r") as printed:
        task = {"arguments": [script, *map(str, arguments)], "printed": printed.name}
        try:
            process.stdin.write(json.dumps(task) + "\n")
            if select.select([process.stdout], [], [], SECONDS)[0]:
                status = process.stdout.readline().strip()
        finally:  # also when the test's time is over: the answer would be taken for the next script's
            if status != "0":
                process.kill()
                scripts_process.cache_clear()
        assert status == "0", f"{script}: {status}\n{printed.read()}"
        return printed.read()


@cache
def reference_folder(script: str, *arguments: object) -> Path:
    """Return a folder that the script was given as its first argument; one for all tests, not to be changed."""
    _folders.append(TemporaryDirectory())
    folder = Path(_folders[-1].name)
    run_reference(script, folder, *arguments)
    return folder
