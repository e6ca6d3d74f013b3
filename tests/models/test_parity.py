"""Every network computes what its Sonnet original computes, from the original's own checkpoint.

Also of models/inception.py, models/resnet.py.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from heldout_torch.checkpoints import Checkpoint, from_sonnet
from heldout_torch.models import build_model, padding
from tests.helpers.devices import on_devices
from tests.reference import reference_folder

pytestmark = pytest.mark.usefixtures("exact_float32")
IMAGES = 64
SMALL = [("small_inception", channels, large, (32, 28)) for channels in (1, 3) for large in (False, True)]
CASES = [("mlp", 1, False, (8,)), *SMALL]
LARGE_CASES = [("small_inception", 3, True, (224,)), ("resnet50", 3, False, (224, 225, 192))]


def reference(architecture: str, channels: int, large_inputs: bool, sizes: tuple[int, ...]) -> Path:
    return reference_folder("network_logits", architecture, 10, channels, int(large_inputs), IMAGES, *sizes)


def config(architecture: str, channels: int, large_inputs: bool, size: int) -> dict:
    return {
        "mlp": {"in_features": size * size * channels, "widths": [48, 24]},
        "small_inception": {"in_channels": channels, "large_inputs": large_inputs},
        "resnet50": {},
    }[architecture] | {"num_classes": 10}


def largest_difference(folder: Path, architecture: str, options: dict, size: int, device: str, change=None) -> float:
    """Largest logit difference as a share of the largest logit; infinite if a prediction differs."""
    variables = dict(Checkpoint.open(folder / "checkpoints" / "ckpt-7"))
    if change:
        variables = {key: change(variables, key) for key in variables}
    model = build_model(architecture, **options)
    model.load_state_dict(from_sonnet(variables, architecture), strict=True)
    images = torch.from_numpy(np.load(folder / f"images-{size}.npy")).permute(0, 3, 1, 2).to(device)
    expected = np.load(folder / f"logits-{size}.npy")
    with torch.inference_mode():
        logits = torch.cat([model.eval().to(device)(part) for part in images.split(16)]).cpu().numpy()
    assert np.ptp(expected, axis=0).min() > 0.01 * np.abs(expected).max()  # images differ, so the check has teeth
    if (logits.argmax(1) != expected.argmax(1)).any():
        return np.inf
    return float(np.abs(logits - expected).max() / np.abs(expected).max())


@on_devices
@pytest.mark.parametrize("case", CASES, ids=str)
def test_logits_match_sonnet(case, device):
    folder = reference(*case)
    for size in case[3]:
        assert largest_difference(folder, case[0], config(*case[:3], size), size, device) <= 1e-4


@pytest.mark.slow
@on_devices
@pytest.mark.parametrize("case", LARGE_CASES, ids=str)
def test_logits_match_sonnet_on_large_images(case, device):
    folder = reference(*case)
    for size in case[3]:
        assert largest_difference(folder, case[0], config(*case[:3], size), size, device) <= 1e-4


def test_mistakes_would_be_seen(monkeypatch):
    """The comparison fails for each mistake that gives plausible, wrong numbers."""
    case = ("small_inception", 3, False, (32, 28))
    folder, options = reference(*case), config(*case[:3], 32)

    def hidden_for_average(variables, key):
        return variables[key.replace("/average/", "/_hidden/")]

    def transposed_linear(variables, key):
        return variables[key].T.copy().reshape(variables[key].shape) if "/_pred/w/" in key else variables[key]

    assert largest_difference(folder, case[0], options, 32, "cpu") <= 1e-4
    assert largest_difference(folder, case[0], options, 32, "cpu", hidden_for_average) > 1e-4
    assert largest_difference(folder, case[0], options, 32, "cpu", transposed_linear) > 1e-4
    genuine = padding.same_padding
    monkeypatch.setattr(padding, "same_padding", lambda *window: genuine(*window)[::-1])
    assert largest_difference(folder, case[0], options, 32, "cpu") > 1e-4


def test_resnet50_differs_from_torchvision_only_by_its_pool():
    from torchvision.models import resnet50

    torch.manual_seed(0)
    ours, theirs = build_model("resnet50").eval(), resnet50().eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    images = torch.rand(2, 3, 65, 65)
    with torch.inference_mode():
        # After the stem 65 pixels are 33, an odd number, for which SAME and symmetric padding agree.
        torch.testing.assert_close(ours(images), theirs(images))
        assert not torch.allclose(ours(images[..., :64, :64]), theirs(images[..., :64, :64]), rtol=1e-3)
