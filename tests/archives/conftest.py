"""Runs to export: the bundled sample, copied where a test may change it."""

import shutil
from pathlib import Path

import pytest

from heldout_torch.zoo import sample_zoo


@pytest.fixture
def tree(tmp_path) -> Path:
    """A TensorFlow tree of the sample's runs, the test's own."""
    return Path(shutil.copytree(sample_zoo(), tmp_path / "tree"))
