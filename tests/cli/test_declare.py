"""`heldout declare`: from a file of images to a trained run in two commands."""

import shlex

import numpy as np
import pytest
import torch

from heldout_torch import load_run, plugins
from heldout_torch.cli import main
from heldout_torch.experiments import Experiment, find_experiment
from heldout_torch.models import registry


@pytest.fixture
def data(tmp_path):
    """A file of small pictures with three classes, which a network can tell apart."""
    random = np.random.default_rng(0)
    arrays = {"__num_classes": np.int64(3), "__data_scale": np.int64(255)}
    for split, n in (("train", 90), ("test", 30)):
        labels = np.arange(n) % 3
        arrays[f"{split}__label"] = labels
        arrays[f"{split}__image"] = (random.integers(0, 90, (n, 6, 6)) + 80 * labels[:, None, None]).astype(np.uint8)
    np.savez(tmp_path / "shapes.npz", **arrays)
    return tmp_path / "shapes.npz"


def declare(name, *words):
    return main(["declare", name, *map(str, words)])


def test_what_is_declared_is_trained_and_loaded(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = '{"widths": [16]}'
    assert declare("shapes-mlp", "--data", data, "--architecture", "mlp", "--config", config) == 0
    assert "90 training and 30 test examples, 3 classes; next: heldout train shapes-mlp.toml" in capsys.readouterr().out
    experiment = find_experiment(tmp_path / "shapes-mlp.toml")
    assert (experiment.dataset, experiment.train_examples, experiment.test_examples) == ("shapes", 90, 30)
    assert experiment.config == {"num_classes": 3, "in_features": 36, "widths": [16]}
    assert experiment.preprocessing == {"divide_by": 255}
    words = ["train", "shapes-mlp.toml", "--subset-ratio", "0.5", "--runs", "0-1", "--zoo", "zoo", "--data", str(data)]
    assert main(words) == 0
    assert load_run("shapes-mlp", 0.5, 1, "zoo").aux.correctness_train.mean() > 0.9


def test_channels_are_filled_in_and_a_recipe_is_taken(data, tmp_path):
    (tmp_path / "slow.toml").write_text('epochs = 3\nbatch_size = 8\nlearning_rate = 0.01\ndecay = "linear"\n')
    out = tmp_path / "shapes-net.toml"
    words = ["--data", data, "--architecture", "small_inception", "--recipe", tmp_path / "slow.toml", "--out", out]
    assert declare("shapes-net", *words) == 0
    experiment = find_experiment(out)
    assert experiment.config["in_channels"] == 1
    assert (experiment.recipe.epochs, experiment.recipe.decay, experiment.recipe.momentum) == (3, "linear", 0.9)


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("../away", ["--architecture", "mlp"], "is not a name for an experiment"),
        ("digits-mlp", ["--architecture", "mlp"], "is an experiment of this package"),
        ("mine", ["--architecture", "mpl"], "did you mean 'mlp'?"),
        (
            "mine",
            ["--architecture", "mlp"],
            "its options are in_features, widths, num_classes: give",
        ),
        ("mine", ["--architecture", "mlp", "--config", '{"widths": [4], "in_features": 7}'], "cannot take images"),
        ("mine", ["--architecture", "mlp", "--config", '{"widths": [4], "num_classes": 7}'], "expected 3 logits"),
        ("mine", ["--architecture", "mlp", "--out", "other.toml"], "has the experiment's name, mine.toml"),
        ("mine.toml", ["--architecture", "mlp"], "NAME is the name of the experiment, not of its file: mine"),
        (
            "mine",
            ["--dataset", "CIFAR-10", "--architecture", "small_inception"],
            "cifar10 is a data set of 50000 training and 10000 test examples, not 90 and 30; give yours another name",
        ),
    ],
)
def test_what_does_not_fit_is_one_line_and_nothing_is_written(
    data, tmp_path, monkeypatch, capsys, name, words, message
):
    monkeypatch.chdir(tmp_path)
    assert declare(name, "--data", data, *words) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not list(tmp_path.glob("*.toml"))


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (
            lambda num_classes: torch.nn.LSTM(6, num_classes),
            "own with {'num_classes': 3} cannot take images of (1, 6, 6)",
        ),
        (lambda num_classes: torch.nn.LazyLinear(num_classes), "own: weight has no shape before an image is seen"),
    ],
)
def test_a_network_that_cannot_be_trained_is_not_declared(data, tmp_path, monkeypatch, capsys, build, told):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "REGISTERED", dict(registry.REGISTERED))
    registry.register_architecture("own", build)
    assert declare("mine", "--data", data, "--architecture", "own") == 1
    assert capsys.readouterr().err.startswith(f"error: {told}")
    assert not list(tmp_path.glob("*.toml"))


def test_what_is_declared_twice_is_declared_once_and_the_data_set_must_be_named(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data.rename(tmp_path / "SHAPES.NPZ")
    for _ in range(2):
        assert declare("mine", "--data", "SHAPES.NPZ", "--architecture", "small_inception") == 0
    assert find_experiment("mine.toml").dataset == "SHAPES"
    capsys.readouterr()
    assert declare("other", "--architecture", "mlp") == 1
    assert capsys.readouterr().err.startswith("error: the data set is missing; give its file with --data, or the name")


@pytest.mark.parametrize("given", [True, False])
def test_the_smallest_recipe_is_written_out(data, tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    arrays = dict(np.load(data))
    np.savez(data, **arrays | {f"train__{name}": arrays[f"train__{name}"][:12] for name in ("image", "label")})
    (tmp_path / "slow.toml").write_text("epochs = 1\nbatch_size = 1\nlearning_rate = 1.0\n")
    words = ["--recipe", "slow.toml"] if given else []
    assert declare("mine", "--data", data, "--architecture", "small_inception", *words) == 0
    recipe = find_experiment("mine.toml").recipe
    assert recipe.batch_size == 1  # a subset of twelve examples holds it
    assert (recipe.epochs, recipe.learning_rate) == ((1, 1.0) if given else (60, 0.1))


def test_a_file_that_is_there_stays(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text("of somebody")
    assert declare("mine", "--data", data, "--architecture", "small_inception") == 1
    assert "exists already" in capsys.readouterr().err
    assert (tmp_path / "mine.toml").read_text() == "of somebody"


def test_training_again_by_name_is_told_to_name_the_file(data, tmp_path, capsys):
    (tmp_path / "ZOO" / "mine").mkdir(parents=True)
    own = Experiment("mine", "digits", "mlp", {"in_features": 64, "widths": [8]}, 1437, 360, {"divide_by": 16.0})
    (tmp_path / "ZOO" / "mine" / "experiment.json").write_bytes(own.to_bytes())
    assert main(["train", "mine", "--subset-ratio", "0.5", "--runs", "0", "--zoo", str(tmp_path / "ZOO")]) == 1
    assert "a zoo does not say how runs are trained; name the experiment's own file, such as mine.toml" in (
        capsys.readouterr().err
    )


def test_names_with_spaces_can_be_copied_from_what_is_told_next(data, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "my folder"
    folder.mkdir()
    data.rename(folder / "my shapes.npz")
    monkeypatch.chdir(tmp_path)
    words = ["--architecture", "mlp", "--config", '{"widths": [16]}', "--out", "my folder/mine.toml"]
    assert declare("mine", "--data", "my folder/my shapes.npz", *words) == 0
    told = shlex.split(capsys.readouterr().out.partition("next: heldout ")[2].replace("0-19", "0"))
    assert main([str(tmp_path / "zoo") if word == "ZOO" else word for word in told]) == 0
    assert load_run("mine", 0.7, 0, tmp_path / "zoo").metadata.dataset == "my shapes"


def test_a_folder_says_nothing_of_what_lies_there(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert declare("mine", "--data", ".", "--architecture", "mlp") == 1
    told = "error: .: is not an npz file; give the name of the data set there with --dataset, such as cifar10\n"
    assert capsys.readouterr().err == told


def test_what_is_told_next_names_the_plugin(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plugins, "LOADED", [])
    monkeypatch.setattr(registry, "REGISTERED", {})
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "declared_net.py").write_text(
        "from torch import nn\nfrom heldout_torch.models import register_architecture\n"
        "register_architecture('three', lambda num_classes: 3)\n"
        "register_architecture('flat', lambda num_classes: nn.Sequential(nn.Flatten(), nn.Linear(36, num_classes)))\n"
    )
    assert declare("mine", "--data", data, "--architecture", "three", "--plugin", "declared_net") == 1
    assert "error: three builds int, expected a torch.nn.Module" in capsys.readouterr().err
    assert declare("mine", "--data", data, "--architecture", "flat", "--plugin", "declared_net") == 0
    told = shlex.split(capsys.readouterr().out.partition("next: ")[2])
    assert told[told.index("--plugin") + 1] == "declared_net"
