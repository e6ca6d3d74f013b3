"""The devices that tests run on: the CPU and CUDA, which is a pretended device where there is no GPU."""

import pytest
import torch

PRETENDED = "pretended"
DEVICES = ["cpu", "cuda" if torch.cuda.is_available() else PRETENDED]

# A test so marked takes `device`, a fixture of `tests/conftest.py`: "cpu" or "cuda".
on_devices = pytest.mark.parametrize("device", DEVICES, indirect=True)
on_cuda = pytest.mark.parametrize("device", DEVICES[1:], indirect=True)

# Tests of the pretended device itself, or of what only its journal tells.
only_pretended = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: nothing is pretended")


def skip_if_pretended(device, what):
    """Skip a test for what the pretended device cannot do."""
    if device == "cuda" and torch.cuda.get_device_name() == PRETENDED:
        pytest.skip(f"the pretended device has no {what}")
