"""The registry, and what all networks have in common.

Also of models/mlp.py, models/padding.py.
"""

import pytest
import torch

from heldout_torch import HeldoutError, build_model, list_models
from heldout_torch.models import expected_tensors
from heldout_torch.models.padding import Conv2dSame, MaxPool2dSame, same_padding

CONFIGS = {
    "mlp": ({"in_features": 3 * 32 * 32, "widths": [16, 8], "num_classes": 7}, 8),
    "resnet50": ({"num_classes": 7}, 2048),
    "small_inception": ({"num_classes": 7, "in_channels": 3}, 336),
}


@pytest.mark.parametrize("architecture", CONFIGS)
def test_forward_is_the_last_layer_on_features(architecture):
    config, width = CONFIGS[architecture]
    model = build_model(architecture, **config).eval()
    images = torch.rand(2, 3, 32, 32)
    features = model.forward_features(images)
    last = model.layers[-1] if architecture == "mlp" else model.fc
    assert features.shape == (2, width)
    torch.testing.assert_close(last(features), model(images))


@pytest.mark.parametrize("architecture", CONFIGS)
def test_expected_tensors_are_those_of_the_module(architecture):
    config, _ = CONFIGS[architecture]
    state = build_model(architecture, **config).state_dict()
    expected = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in state.items()}
    assert expected_tensors(architecture, config) == expected


def test_small_inception_has_the_published_number_of_weights():
    model = build_model("small_inception")
    trainable = sum(parameter.numel() for parameter in model.parameters())
    norms = sum(module.num_features for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d))
    assert (trainable, trainable - norms) == (1_895_786, 1_893_850)


def test_batch_norms_average_as_the_originals_did():
    def settings(architecture):
        norms = [m for m in build_model(architecture).modules() if isinstance(m, torch.nn.BatchNorm2d)]
        return {(norm.eps, norm.momentum) for norm in norms}

    assert settings("small_inception") == {(1e-5, 0.001)}
    assert settings("resnet50") == {(1e-5, 0.1)}


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [(112, 3, 2, (0, 1)), (113, 3, 2, (1, 1)), (32, 3, 1, (1, 1)), (224, 7, 2, (2, 3)), (5, 1, 2, (0, 0))],
)
def test_same_padding_puts_the_odd_row_last(size, kernel, stride, expected):
    assert same_padding(size, kernel, stride) == expected


def test_padding_never_wins_a_max_pool():
    assert (MaxPool2dSame(3, 2)(-torch.ones(1, 1, 4, 4)) == -1).all()


def test_conv_makes_ceil_size_over_stride():
    assert Conv2dSame(1, 2, 3, stride=2)(torch.rand(1, 1, 7, 8)).shape == (1, 2, 4, 4)


def test_unknown_options_are_one_line_errors():
    assert {"mlp", "resnet50", "small_inception"} <= set(list_models())
    with pytest.raises(HeldoutError, match="depth"):
        build_model("small_inception", depth=3)
