"""Genuine checkpoints, written once by TensorFlow."""

from pathlib import Path

import pytest

from tests.reference import run_reference


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory) -> Path:
    """Folder of one checkpoint `<kind>/ckpt-1` a kind; see references/write_checkpoints.py."""
    folder = tmp_path_factory.mktemp("checkpoints")
    run_reference("write_checkpoints", folder)
    return folder
