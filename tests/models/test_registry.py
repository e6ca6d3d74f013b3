"""Architectures by name: the package's own, and those that users register.

Also of models/initial.py, models/sonnet_rules.py.
"""

import pytest
import torch
from torch import nn

from heldout_torch import CheckpointError, HeldoutError, build_model, list_models
from heldout_torch.checkpoints import from_sonnet
from heldout_torch.models import (
    expected_tensors,
    find_architecture,
    register_architecture,
    registry,
    restore_model,
)
from heldout_torch.models.sonnet_rules import linear
from heldout_torch.training.initial import initial_model, initial_state


class Own(nn.Module):
    """A network with what others do not have: a buffer in no state dict, a constant one, a number from a tensor."""

    def __init__(self, width: int, num_classes: int = 10) -> None:
        super().__init__()
        self.slope = torch.linspace(0.1, 0.2, 3)[1].item()
        self.register_buffer("shift", torch.arange(4.0), persistent=False)
        self.register_buffer("scale", torch.full((4,), 3.0))
        self.enter, self.fc = nn.Linear(4, width), nn.Linear(width, num_classes)

    def forward(self, x):
        return self.fc(nn.functional.leaky_relu(self.enter(x.flatten(1) * self.scale + self.shift), self.slope))


class Constant(nn.Module):
    """A network that can be built without weights, but not loaded so: one buffer is in no state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.arange(4.0), persistent=False)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(x + self.shift)


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    monkeypatch.setattr(registry, "REGISTERED", {})


def test_a_registered_network_is_built_listed_and_described():
    register_architecture("own", Own)
    assert "own" in list_models()
    assert build_model("own", width=5)(torch.rand(2, 1, 2, 2)).shape == (2, 10)
    assert expected_tensors("own", {"width": 5})["enter.weight"] == ((5, 4), torch.float32)


@pytest.mark.parametrize(("build", "config"), [(Own, {"width": 5}), (Constant, {})])
def test_a_network_is_restored_with_its_constants(build, config):
    register_architecture("own", build)
    model, images = build_model("own", **config).eval(), torch.rand(3, 4)
    restored = restore_model("own", config, model.state_dict())
    assert not restored.training
    torch.testing.assert_close(restored(images), model(images), rtol=0, atol=0)


def test_tensors_of_another_network_are_refused_in_one_line():
    state = build_model("mlp", in_features=4, widths=[]).state_dict()
    with pytest.raises(HeldoutError, match="tensors do not fit mlp") as error:
        restore_model("mlp", {"in_features": 5, "widths": []}, state)
    assert "\n" not in str(error.value)


def test_of_many_tensors_that_do_not_fit_the_first_is_named_and_the_others_counted():
    other = build_model("mlp", in_features=4, widths=[7, 7]).state_dict()
    named_otherwise = {f"net.{name}": tensor for name, tensor in other.items()}
    with pytest.raises(HeldoutError, match=r"^tensors do not fit mlp: \S+ is missing, and 11 more tensors do not fit$"):
        restore_model("mlp", {"in_features": 4, "widths": [7, 7]}, named_otherwise)
    with pytest.raises(HeldoutError, match=r"mlp: \S+ is \(7, 4\), expected \(6, 4\), and 2 more tensors"):
        restore_model("mlp", {"in_features": 4, "widths": [6, 7]}, other)


def test_names_belong_to_who_took_them_first():
    with pytest.raises(HeldoutError, match="'mlp' is one of this package's own"):
        register_architecture("mlp", Own)
    register_architecture("own", Own)
    register_architecture("own", Constant)  # of the same module: a cell that was run again
    assert find_architecture("own").build is Constant
    with pytest.raises(HeldoutError, match=r"'own' is registered by module tests.models.test_registry already"):
        register_architecture("own", nn.Identity)


@pytest.mark.parametrize(
    ("name", "build", "told"),
    [
        (5, Own, "5 is not a name of an architecture, expected such as 'my_network'"),
        ("own", None, "architecture 'own': None builds nothing, expected a class or function"),
    ],
)
def test_what_is_no_network_is_not_registered(name, build, told):
    """A number as a name broke the list of all names."""
    with pytest.raises(HeldoutError, match=f"^{told}$"):
        register_architecture(name, build)
    assert name not in list_models()


@pytest.mark.parametrize("misspelt", ["smal_inception", "SmallInception", "small-inception"])
def test_a_misspelt_name_is_told_the_nearest(misspelt):
    with pytest.raises(HeldoutError, match=r"did you mean 'small_inception'\?"):
        build_model(misspelt)


def test_a_name_like_no_other_is_told_all():
    with pytest.raises(HeldoutError, match=r"expected one of .*cifar_resnet18, .*small_inception"):
        build_model("transformer")


@pytest.mark.parametrize(
    "config",
    [{"widths": [-1], "in_features": 4}, {"widths": "ab", "in_features": 4}, {"widths": [2**62], "in_features": 2**62}],
)
def test_options_that_cannot_be_built_are_one_line(config):
    with pytest.raises(HeldoutError, match="mlp cannot be built with") as error:
        build_model("mlp", **config)
    assert "\n" not in str(error.value)


def test_a_tensor_without_a_shape_is_one_line():
    register_architecture("own", lambda: nn.Sequential(nn.LazyLinear(3)))
    with pytest.raises(HeldoutError, match=r"own: 0\.weight has no shape before an image is seen"):
        expected_tensors("own", {})


def test_a_run_begins_as_its_record_says():
    def twos(name, parameter, random):
        parameter.fill_(2 if name == "enter.weight" else 0).add_(torch.rand((), generator=random))

    register_architecture("own", Own, initial=twos)
    one, same, other = (initial_state("own", {"width": 5}, run) for run in (1, 1, 2))
    assert (one["enter.weight"].floor() == 2).all()
    assert (one["scale"] == 3).all()
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert (one["fc.bias"] != other["fc.bias"]).all()
    assert initial_model("own", {"width": 5}, 1).training


def test_the_mlp_begins_as_staxs_and_others_as_sonnets():
    mlp = initial_state("mlp", {"in_features": 400, "widths": [100]}, 3)
    assert float(mlp["layers.0.weight"].std()) == pytest.approx((2 / 500) ** 0.5, rel=0.02)
    assert float(mlp["layers.0.bias"].std()) == pytest.approx(0.01, rel=0.2)
    inception = initial_state("small_inception", {}, 3)
    weight = inception["stage2.downsample.conv.weight"]  # (240, 144, 3, 3)
    std = (144 * 9) ** -0.5
    assert float(weight.abs().max()) <= 2 * std
    assert float(weight.std()) == pytest.approx(0.88 * std, rel=0.02)  # cut off at two of them
    assert (inception["conv1.bn.weight"] == 1).all()
    assert (inception["conv1.bn.running_var"] == 1).all()
    assert not inception["fc.bias"].any()


def test_a_registered_network_may_have_sonnet_names():
    def rules(names):
        yield from linear("in", "enter")
        yield from linear("out", "fc")

    register_architecture("own", Own, sonnet_rules=rules)
    suffix = "/.ATTRIBUTES/VARIABLE_VALUE"
    shapes = {"in/w": (4, 5), "in/b": (5,), "out/w": (5, 10), "out/b": (10,)}
    variables = {f"model/{name}{suffix}": torch.rand(shape).numpy() for name, shape in shapes.items()}
    state = from_sonnet(variables, "own")
    assert torch.equal(state["fc.weight"], torch.from_numpy(variables[f"model/out/w{suffix}"]).T)


def test_rules_that_name_a_tensor_twice_are_refused():
    register_architecture("own", Own, sonnet_rules=lambda names: [*linear("in", "fc"), *linear("out", "fc")])
    with pytest.raises(CheckpointError, match=r"Sonnet names of own hold fc.weight, fc.bias more than once"):
        from_sonnet({}, "own")


def test_a_network_without_sonnet_names_says_which_have_them():
    with pytest.raises(
        CheckpointError,
        match=r"cifar_resnet18: no Sonnet names are known for this architecture, expected one of .*mlp, resnet50",
    ):
        from_sonnet({}, "cifar_resnet18")
