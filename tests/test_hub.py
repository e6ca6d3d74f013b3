"""torch.hub finds the entry points in a checkout and in its cache of repositories."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from heldout_torch import ZooError, build_model, load_run

REPOSITORY = Path(__file__).parent.parent
ENTRY_POINTS = ["cifar100_inception", "cifar10_inception", "digits_mlp_tf", "imagenet_resnet50"]
GITHUB = "someone/heldout_torch:main"


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """The repository as torch.hub would have it after a download from GitHub."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    target = tmp_path / "hub" / "someone_heldout_torch_main"
    shutil.copytree(REPOSITORY / "heldout_torch", target / "heldout_torch")
    shutil.copy(REPOSITORY / "hubconf.py", target)
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return target


def test_a_run_comes_from_a_checkout():
    model = torch.hub.load(REPOSITORY, "digits_mlp_tf", source="local", subset_ratio=0.7, run=2)
    expected = load_run("digits-mlp-tf", 0.7, 2).model.state_dict()
    assert not model.training
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


def test_a_run_comes_from_a_cached_repository(cached):
    model = torch.hub.load(GITHUB, "digits_mlp_tf", trust_repo=True, skip_validation=True, subset_ratio=0.7, run=2)
    assert model(torch.rand(1, 1, 8, 8)).shape == (1, 10)


def test_list_and_help_describe_every_entry_point(cached):
    found = torch.hub.list(GITHUB, trust_repo=True, skip_validation=True)
    assert sorted(found) == ENTRY_POINTS
    for name in found:
        text = torch.hub.help(GITHUB, name, trust_repo=True, skip_validation=True)
        assert "`run`" in text
        assert "untrained" in text


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_without_a_run_the_network_is_untrained(name):
    model = torch.hub.load(REPOSITORY, name, source="local", run=None)
    assert type(model).__name__ in {"SmallInception", "ResNet50", "MLP"}
    classes = {"cifar100_inception": 100, "imagenet_resnet50": 1000}.get(name, 10)
    assert [*model.state_dict().values()][-1].shape == (classes,)
    assert model.training


def test_a_missing_run_is_the_packages_error():
    with pytest.raises(ZooError, match=r"cifar10-inception/0.5/123 is not in"):
        torch.hub.load(REPOSITORY, "cifar10_inception", source="local", subset_ratio=0.5, run=123)


def test_importing_hubconf_needs_nothing_but_torch():
    code = "import sys, torch; before = set(sys.modules); import hubconf; print(*sorted(set(sys.modules) - before))"
    process = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert process.stdout.split() == ["hubconf"]


def test_resnet50_of_the_hub_is_the_registrys():
    model = torch.hub.load(REPOSITORY, "imagenet_resnet50", source="local")
    assert model.state_dict().keys() == build_model("resnet50").state_dict().keys()
