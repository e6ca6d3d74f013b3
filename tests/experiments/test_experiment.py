"""What declares an experiment, and what a declaration may say.

Also of experiments/known.py, experiments/toml_files.py.
"""

import json
import pickle
import sys

import pytest

from heldout_torch import HeldoutError, ZooError, build_model
from heldout_torch.experiments import (
    Archive,
    Experiment,
    Recipe,
    declared_in,
    find_experiment,
    is_experiment_file,
    known_experiments,
    read_declaration,
)
from tests.helpers.zoos import declare

RECORD = {"dataset": "d", "architecture": "mlp", "config": {}, "train_examples": 8, "test_examples": 2}
OWN = """
dataset = "digits"
architecture = "mlp"
train_examples = 1437
test_examples = 360
[config]
widths = [16]
in_features = 64
[recipe]
epochs = 2
batch_size = 16
learning_rate = 0.1
[archive]
url = "https://example.com/own.tar.gz"
size_gb = 1.5
"""


def test_published_experiments_are_known_and_can_be_built():
    known = known_experiments()
    assert {"cifar10-inception", "cifar100-inception", "imagenet-resnet50", "digits-mlp-tf"} <= set(known)
    assert known["cifar100-inception"].archive == Archive(
        "https://storage.googleapis.com/gresearch/heldout-training-checkpoints/cifar100-inception.tar.gz",
        "f87218368528afa6e2407c8410f1ffa1",
        244,
    )
    for experiment in known.values():
        build_model(experiment.architecture, **experiment.config)


def test_a_persons_file_declares_an_experiment(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(OWN)
    assert is_experiment_file(path)
    experiment = find_experiment(str(path))
    assert (experiment.name, experiment.config) == ("own", {"widths": [16], "in_features": 64})
    assert experiment.recipe == Recipe(2, 16, 0.1)
    assert experiment.archive == Archive("https://example.com/own.tar.gz", None, 1.5)
    assert pickle.loads(pickle.dumps(experiment)) == experiment


def test_a_zoo_keeps_neither_archive_nor_recipe(tmp_path):
    (tmp_path / "own.toml").write_text(OWN)
    experiment = find_experiment(tmp_path / "own.toml")
    assert json.loads(experiment.to_bytes()).keys() == RECORD.keys() | {"preprocessing"}
    kept = read_declaration("own", experiment.to_bytes())
    assert (kept.archive, kept.recipe) == (None, None)
    assert kept == experiment  # their runs can be compared
    assert hash(kept) == hash(experiment)


@pytest.mark.parametrize("address", [None, "https://example.com/other.tar.gz"])
def test_the_archive_that_an_older_zoo_names_is_not_taken(address):
    record = RECORD | {"archive_url": address, "archive_md5": address}
    assert read_declaration("own", json.dumps(record).encode()).archive is None
    known = known_experiments()["cifar10-inception"]
    record = known.to_record() | {"archive_url": address, "archive_md5": address}
    assert read_declaration(known.name, json.dumps(record).encode()).archive == known.archive


def test_a_file_in_a_zoo_declares_an_experiment_of_a_users_own(tmp_path):
    experiment = Experiment.from_json("mine", RECORD, "test")
    declare(experiment, tmp_path)
    assert declared_in("mine", tmp_path) == experiment


def test_experiments_differ_in_what_only_one_of_them_says():
    one, other = (Experiment.from_json("mine", RECORD | {"config": config}, "test") for config in ({"a": None}, {}))
    assert one.difference(other) == "config.a is None, not absent"
    assert (other.difference(one), one.difference(one)) == ("config.a is absent, not None", "")


def test_unknown_experiments_are_refused(tmp_path):
    with pytest.raises(ZooError, match=r"'mine' is not known: expected one of .*cifar10-inception.*experiment.json"):
        declared_in("mine", tmp_path)
    with pytest.raises(ZooError, match=r"did you mean 'cifar10-inception'\?"):
        find_experiment("cifar10-inceptio")


def test_a_name_from_elsewhere_opens_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.toml").write_text(OWN)
    with pytest.raises(ZooError, match=r"'own.toml' is not known"):
        read_declaration("own.toml", None)
    with pytest.raises(ZooError, match=r"'own.toml' is not known"):
        declared_in("own.toml", tmp_path)


def test_a_known_name_costs_no_listing_of_a_zoo(tmp_path):
    watching, listed = True, []

    def watch(event, arguments):
        if watching and event in ("os.scandir", "os.listdir"):
            listed.append(str(arguments[0]))

    sys.addaudithook(watch)  # which stays until the process ends
    try:
        assert declared_in("digits-mlp", tmp_path / "digits-mlp") is known_experiments()["digits-mlp"]
    finally:
        watching = False
    assert not [path for path in listed if path.startswith(str(tmp_path))]


def test_a_file_cannot_redefine_a_known_experiment(tmp_path):
    (tmp_path / "experiment.json").write_text(json.dumps(RECORD))
    with pytest.raises(ZooError, match="is an experiment of the package"):
        declared_in("cifar10-inception", tmp_path)
    (tmp_path / "digits-mlp.toml").write_text(OWN)
    with pytest.raises(
        ZooError, match=r"digits-mlp.toml: .* is an experiment of the package, whose .* not .*; choose another"
    ):
        find_experiment(tmp_path / "digits-mlp.toml")


DEEP = "[" * 9 + "]" * 9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": 3}, "'dataset' of mine is 3"),
        ({"colour": 1}, "'colour' of mine is not known"),
        ({"achitecture": "mlp"}, "did you mean 'architecture'?"),
        ({"train_examples": True}, "'train_examples' of mine"),
        ({"train_examples": 0}, "'train_examples' of mine is out of 1 ... 2147483647"),
        ({"test_examples": 10**20}, "'test_examples' of mine is out of 0 ... 2147483647"),
        ({"config": {"a": json.loads(DEEP)}}, "'config' of mine is nested too deeply"),
        (
            {"config": {"a": float("nan")}},
            "'config' of mine is nested too deeply, or has values that JSON does not have",
        ),
        ({"preprocessing": {"a": float("inf")}}, "'preprocessing' of mine is nested too deeply, or has values"),
        ({"recipe": {"epochs": 1}}, "'recipe' of mine is not known"),
        ({"archive": {"url": "u"}}, "'archive' of mine is not known"),
        ({"dataset": ["x" * 60_000]}, "which is of the wrong type"),
    ],
)
def test_bad_declarations_are_refused(tmp_path, change, message):
    (tmp_path / "experiment.json").write_text(json.dumps(RECORD | change))
    with pytest.raises(ZooError) as error:
        declared_in("mine", tmp_path)
    assert message in str(error.value)
    assert len(str(error.value)) < 400 + len(str(tmp_path))


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"dataset": "d"}',
        "\xff",
        "[" * 60_000,
        '{"a":' * 10_000,
        '{"config": ' + "[" * 30_000,
        " " * 70_000,
        json.dumps(RECORD) + " " * 70_000,
    ],
    ids=lambda text: text[:6],
)
def test_unreadable_declarations_are_refused(tmp_path, text):
    (tmp_path / "experiment.json").write_text(text, encoding="latin-1")
    with pytest.raises(ZooError, match=r"experiment\.json: "):
        declared_in("mine", tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("own", OWN.replace("epochs = 2", "epochs = 0"), "'epochs' of a recipe is 0"),
        ("own", OWN.replace("size_gb = 1.5", "size = 1.5"), "'size' of [archive] is unknown"),
        ("own", OWN.replace("size_gb = 1.5", "size_gb = true"), "'size_gb' of [archive] is unknown or of the wrong"),
        ("own", OWN.replace('"https://example.com/own.tar.gz"', "3"), "'url' of [archive]"),
        ("own", OWN.replace("widths = [16]", "widths = 2020-01-01"), "has values that JSON does not have"),
        ("own", OWN.replace("widths = [16]", "widths = " + DEEP), "is nested too deeply"),
        ("own", OWN.replace("widths = [16]", "widths = " + 3000 * "[" + 3000 * "]"), "is not a TOML file"),
        ("own", "recipe = 1\n" + OWN.partition("[recipe]")[0], "a recipe must be a table"),
        ("own", "archive = 1\n" + OWN.partition("[recipe]")[0], "[archive] must be a table"),
        ("own", OWN + "#" * 70_000, "longer than 64 kB"),
        ("own", "dataset", "is not a TOML file"),
        ("o wn", OWN, "'o wn' is not a name for an experiment"),
        (".own", OWN, "'.own' is not a name for an experiment"),
        ("manifest.json", OWN, "is not a name for an experiment, expected another one than that of a zoo's file"),
        ("readme.md", OWN, "expected another one than that of a zoo's file"),
    ],
)
def test_bad_files_of_a_person_are_one_line(tmp_path, name, text, message):
    path = tmp_path / f"{name}.toml"
    path.write_text(text)
    with pytest.raises(HeldoutError) as error:
        find_experiment(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path):
    (tmp_path / "experiment.json").mkdir()
    with pytest.raises(ZooError, match=r"experiment\.json: cannot be read \(Is a directory"):
        declared_in("mine", tmp_path)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(HeldoutError, match="cannot be read"):
        find_experiment(tmp_path / "own.toml")
