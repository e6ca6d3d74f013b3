"""Small data sets live whole on the device as bytes, and come in batches in published order."""

import subprocess
import sys

import pytest
import torch

from heldout_torch.data import load_dataset

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("batch_size", [1, 100, 360, 1000])
def test_batches_go_through_a_split_once(batch_size, device):
    dataset = load_dataset("digits")
    batches = list(dataset.batches("test", batch_size, device))
    assert all(len(batch.index) == batch_size for batch in batches[:-1])
    assert all(batch.images.device.type == batch.labels.device.type == device for batch in batches)
    assert torch.cat([batch.index for batch in batches]).tolist() == list(range(360))
    images = torch.cat([batch.images.cpu() for batch in batches])
    assert images.dtype == torch.float32
    assert torch.equal(images, dataset.test.images.float() / 16)
    assert torch.equal(torch.cat([batch.labels.cpu() for batch in batches]), dataset.labels("test"))


@pytest.mark.parametrize("device", DEVICES)
def test_split_moves_as_bytes(device):
    moved = load_dataset("digits").train.to(device)
    assert (moved.images.dtype, moved.images.device.type) == (torch.uint8, device)
    assert moved.index.device.type == moved.original_index.device.type == "cpu"


def test_import_brings_nothing_heavy():
    heavy = ["PIL", "numba", "simplejpeg", "tensorflow", "torchvision"]
    code = f"import sys, heldout_torch.data; print([name for name in {heavy} if name in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
