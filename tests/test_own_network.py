"""A network and a data set of a user's own, registered in a module outside the package, are as good as its own."""

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from heldout_torch import load_run
from heldout_torch.data import load_dataset
from heldout_torch.evaluation.sweep import sweep
from heldout_torch.evaluation.verify import verify, verify_runs
from heldout_torch.experiments import find_experiment
from heldout_torch.models import expected_tensors, register_architecture
from heldout_torch.plugins import load_plugins
from heldout_torch.stats import RunTable, memorization
from heldout_torch.training import RunBatch, train_runs
from heldout_torch.training.initial import initial_model
from heldout_torch.zoo.open import open_zoo

MODULE = "tests.helpers.own_network"
RUNS = 4
EXPERIMENT = """
dataset = "own-digits"
architecture = "own_net"
train_examples = 1437
test_examples = 360
[config]
channels = 4
num_classes = 10
[preprocessing]
divide_by = 16
[recipe]
epochs = 3
batch_size = 32
learning_rate = 0.02
"""


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """Runs of the network, trained from a file that declares the experiment."""
    load_plugins([MODULE])
    folder = tmp_path_factory.mktemp("own")
    (folder / "digits-own.toml").write_text(EXPERIMENT)
    experiment = find_experiment(folder / "digits-own.toml")
    work = RunBatch(experiment, experiment.recipe, 0.7, tuple(range(RUNS)))
    for trained in train_runs(work, load_dataset("own-digits"), folder / "zoo"):
        assert trained.error is None
    return folder / "zoo"


def test_it_learns_and_is_loaded_as_it_was_trained(zoo):
    run = load_run("digits-own", 0.7, 1, zoo)
    assert type(run.model).__name__ == "OwnNet"
    assert run.aux.correctness_train.mean() > 0.8
    rows = load_dataset("own-digits").train
    with torch.no_grad():
        found = (run.model(rows.images / 16).argmax(1) == rows.labels).numpy()
    assert np.array_equal(found[run.aux.index_removed], run.aux.correctness_removed.astype(bool))


def test_its_file_holds_the_tensors_of_its_state_dict(zoo):
    expected = expected_tensors("own_net", {"channels": 4, "num_classes": 10})
    with safe_open(zoo / "digits-own" / "0.7" / "0" / "model.safetensors", "pt") as file:
        assert {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()} == {
            name: shape for name, (shape, _) in expected.items()
        }


def test_it_is_verified_in_processes_of_their_own(zoo):
    opened = open_zoo(zoo)
    results = dict(
        sweep(verify_runs, opened.keys(), opened, load_dataset("own-digits"), ["cpu", "cpu"], lambda count: None)
    )
    assert {run.run: result.matches for run, result in results.items()} == dict.fromkeys(range(RUNS), 1797)


def test_its_runs_are_counted(zoo):
    table = RunTable.from_zoo(zoo, "digits-own", 0.7)
    assert table.keys == tuple(f"digits-own/0.7/{run}" for run in range(RUNS))
    assert np.nanmax(memorization(table)) > 0


class TiedNet(nn.Module):
    """Two layers with one weight, and a gain that is not called `weight`."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 64)
        self.second.weight = self.first.weight
        self.gain, self.fc = nn.Parameter(torch.full((64,), 5.0)), nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.flatten(1)).relu()
        return self.fc(self.second(x).relu() * (1 + self.gain))


def test_tied_weights_are_trained_as_one_and_loaded_as_two_equal_ones(tmp_path):
    register_architecture("tied_net", TiedNet)
    text = EXPERIMENT.replace("own_net", "tied_net").replace("channels = 4\n", "").replace("own-digits", "digits")
    (tmp_path / "digits-tied.toml").write_text(text)
    experiment = find_experiment(tmp_path / "digits-tied.toml")
    (trained,) = train_runs(
        RunBatch(experiment, experiment.recipe, 0.7, (0,)), load_dataset("digits"), tmp_path / "zoo"
    )
    assert trained.error is None
    run = load_run("digits-tied", 0.7, 0, tmp_path / "zoo")
    assert run.model.first.weight is not run.model.second.weight
    assert torch.equal(run.model.first.weight, run.model.second.weight)
    assert verify(run, load_dataset("digits")).matches == 1797


def test_what_the_constructor_puts_into_parameters_is_lost_unless_initial_keeps_it():
    register_architecture("tied_net", TiedNet)
    register_architecture("kept_net", TiedNet, initial=lambda name, parameter, random: None)
    assert not initial_model("tied_net", {"num_classes": 2}, 0).gain.any()
    assert (initial_model("kept_net", {"num_classes": 2}, 0).gain == 5).all()
