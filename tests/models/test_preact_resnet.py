"""Pre-activation ResNets: Sonnet's block and padding, the published depths."""

import numpy as np
import pytest
import torch

from heldout_torch.models import build_model, list_models
from heldout_torch.models.preact_resnet import PreactResNet
from tests.helpers.layout import torch_layout
from tests.reference import run_reference


@pytest.mark.slow
@pytest.mark.parametrize("bottleneck", [False, True])
def test_logits_match_sonnet(tmp_path, bottleneck):
    run_reference("preact_resnet", tmp_path / "reference.npz", int(bottleneck))
    with np.load(tmp_path / "reference.npz") as npz:
        arrays = dict(npz)
    images = torch.from_numpy(arrays.pop("images").transpose(0, 3, 1, 2))
    expected = torch.from_numpy(arrays.pop("logits"))
    model = PreactResNet([2, 2, 2, 2], bottleneck)
    state = {name: torch_layout(array) for name, array in arrays.items()}
    counters = {name: tensor for name, tensor in model.state_dict().items() if name.endswith("num_batches_tracked")}
    model.load_state_dict(state | counters, strict=True)
    with torch.inference_mode():
        logits = model.eval()(images)
    assert np.ptp(expected.numpy(), axis=0).min() > 0.01 * expected.abs().max()  # the images differ
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize(("name", "convolutions", "width"), [("cifar_resnet18", 17, 512), ("cifar_resnet50", 49, 2048)])
def test_depth_counts_the_convolutions_and_the_last_layer(name, convolutions, width):
    assert name in list_models()
    model = build_model(name, num_classes=100)
    layers = [key for key, module in model.named_modules() if isinstance(module, torch.nn.Conv2d)]
    assert len([key for key in layers if "projection" not in key]) == convolutions
    assert len([key for key in layers if "projection" in key]) == 4
    assert all(module.bias is None for module in model.modules() if isinstance(module, torch.nn.Conv2d))
    features = model.eval().forward_features(torch.rand(2, 3, 32, 32))
    assert features.shape == (2, width)
    assert model.fc(features).shape == (2, 100)
    assert {(m.eps, m.momentum) for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {(1e-5, 0.1)}
