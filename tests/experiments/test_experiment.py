"""What a name means, and who may say so."""

import json

import pytest

from heldout_torch import ZooError, build_model
from heldout_torch.experiments import Experiment, find_experiment, known_experiments

RECORD = {"dataset": "d", "architecture": "mlp", "config": {}, "train_examples": 8, "test_examples": 2}


def test_published_experiments_are_known_and_can_be_built():
    known = known_experiments()
    assert {"cifar10-inception", "cifar100-inception", "imagenet-resnet50", "digits-mlp-tf"} <= set(known)
    assert known["cifar100-inception"].archive_md5 == "f87218368528afa6e2407c8410f1ffa1"
    for experiment in known.values():
        build_model(experiment.architecture, **experiment.config)


def test_a_file_declares_an_experiment_of_a_users_own(tmp_path):
    experiment = Experiment.from_json("mine", RECORD, "test")
    experiment.write(tmp_path)
    assert find_experiment("mine", tmp_path / "absent", tmp_path) == experiment


def test_unknown_experiments_are_refused(tmp_path):
    with pytest.raises(ZooError, match=r"'mine' is not known: expected one of cifar10-inception.*experiment.json"):
        find_experiment("mine", tmp_path)


def test_a_file_cannot_redefine_a_known_experiment(tmp_path):
    (tmp_path / "experiment.json").write_text(json.dumps(RECORD))
    with pytest.raises(ZooError, match="declared by the package"):
        find_experiment("cifar10-inception", tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"dataset": 3}, "'dataset' of mine is 3"), ({"colour": 1}, "'colour' of mine is not known"),
     ({"train_examples": True}, "'train_examples' of mine")],
)  # fmt: skip
def test_bad_declarations_are_refused(tmp_path, change, message):
    (tmp_path / "experiment.json").write_text(json.dumps(RECORD | change))
    with pytest.raises(ZooError, match=message):
        find_experiment("mine", tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"dataset": "d"}', "\xff"])
def test_unreadable_declarations_are_refused(tmp_path, text):
    (tmp_path / "experiment.json").write_text(text, encoding="latin-1")
    with pytest.raises(ZooError, match=r"experiment\.json: "):
        find_experiment("mine", tmp_path)
