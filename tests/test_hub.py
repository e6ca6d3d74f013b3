"""torch.hub finds the entry points in a checkout and in its cache of repositories."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from heldout_torch import ZooError, build_model, load_run
from heldout_torch.cli import main
from heldout_torch.experiments import known_experiments
from heldout_torch.zoo import AuxArrays, RunKey, RunMetadata, sample_zoo
from heldout_torch.zoo.open import open_writable

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
        assert "Untrained with `pretrained=False`" in text


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_the_network_comes_untrained_on_demand_alone(name):
    model = torch.hub.load(REPOSITORY, name, source="local", pretrained=False)
    assert type(model).__name__ in {"SmallInception", "ResNet50", "MLP"}
    classes = {"cifar100_inception": 100, "imagenet_resnet50": 1000}.get(name, 10)
    assert [*model.state_dict().values()][-1].shape == (classes,)
    assert model.training


def test_a_call_without_a_run_says_which_there_are():
    with pytest.raises(
        ZooError, match=r"give the run of digits-mlp-tf; it has digits-mlp-tf/0.7 runs 0-5; pretrained=F"
    ):
        torch.hub.load(REPOSITORY, "digits_mlp_tf", source="local")
    with pytest.raises(ZooError, match=r"give the run of cifar10-inception; it has digits-mlp-tf/0.7 runs 0-5"):
        torch.hub.load(REPOSITORY, "cifar10_inception", source="local")


BARE = """
import sys, torch
ALLOWED = {*sys.stdlib_module_names, "torch", "torchgen", "numpy", "safetensors", "heldout_torch", "hubconf"}
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in ALLOWED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
repository, zoo, entry = sys.argv[1:]
try:
    model = torch.hub.load(repository, entry, source="local", subset_ratio=0.7, run=2, zoo=zoo or None)
    print(sum(float(tensor.double().abs().sum()) for tensor in model.state_dict().values()))
except Exception as error:
    print(f"{type(error).__name__}: {error}")
"""


def bare(zoo, entry="digits_mlp_tf"):
    """Load a run in a process that finds torch, numpy and safetensors alone."""
    command = [sys.executable, "-c", BARE, REPOSITORY, str(zoo), entry]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.strip()


@pytest.mark.parametrize("place", ["sample", "zoo"])
def test_a_run_needs_torch_numpy_and_safetensors_alone(place, tmp_path):
    if place == "zoo":
        assert main(["export", str(sample_zoo()), "--zoo", str(tmp_path / "zoo")]) == 0
    found = bare(tmp_path / "zoo" if place == "zoo" else "")
    state = load_run("digits-mlp-tf", 0.7, 2).model.state_dict()
    assert float(found) == sum(float(tensor.double().abs().sum()) for tensor in state.values())


def test_a_run_of_the_imagenet_network_needs_no_more(tmp_path):
    experiment = known_experiments()["imagenet-resnet50"]
    key = RunKey(experiment.name, 0.7, 2)
    state = build_model(experiment.architecture, **experiment.config).state_dict()
    train, test = np.arange(experiment.train_examples, dtype=np.int32), np.arange(experiment.test_examples)
    seen, rest = np.split(train, [int(0.7 * len(train))])
    aux = AuxArrays(*(np.ones(len(part), np.uint8) for part in (seen, rest, test)), seen, rest, test, seen)
    with open_writable(tmp_path) as zoo:
        zoo.put(RunMetadata.of(experiment, key), state, aux)
    found = bare(tmp_path, "imagenet_resnet50")
    assert float(found) == sum(float(tensor.double().abs().sum()) for tensor in state.values())


def test_a_run_under_a_url_says_what_is_lacking():
    found = bare("http://127.0.0.1:1/zoo")
    assert found.startswith("ZooError: http://127.0.0.1:1/zoo")
    assert found.endswith("for web servers: pip install 'fsspec[http]'")
    assert "\n" not in found


def test_a_missing_run_is_the_packages_error():
    with pytest.raises(ZooError, match=r"cifar10-inception/0.5/123 is not in"):
        torch.hub.load(REPOSITORY, "cifar10_inception", source="local", subset_ratio=0.5, run=123)


def test_importing_hubconf_needs_nothing_but_torch():
    code = "import sys, torch; before = set(sys.modules); import hubconf; print(*sorted(set(sys.modules) - before))"
    process = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert process.stdout.split() == ["hubconf"]


def test_resnet50_of_the_hub_is_the_registrys():
    model = torch.hub.load(REPOSITORY, "imagenet_resnet50", source="local", pretrained=False)
    assert model.state_dict().keys() == build_model("resnet50").state_dict().keys()
