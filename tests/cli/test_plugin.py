"""`--plugin`: a network and a data set of a user's own from the command line, from its file to statistics."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from heldout_torch import load_run
from heldout_torch.cli import main
from tests.test_own_network import EXPERIMENT, MODULE

REPOSITORY = Path(__file__).parent.parent.parent


def heldout(*words):
    """Run a command in a process of its own, which knows of no plugin by itself."""
    process = subprocess.run(
        [sys.executable, "-m", "heldout_torch", *map(str, words)],
        cwd=REPOSITORY, env={**os.environ, "HELDOUT_PLUGIN": MODULE}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    return process.returncode, process.stdout, process.stderr


WORDS = """
from torch import nn
from heldout_torch.models import register_architecture

class Words(nn.Sequential):
    def forward(self, images):
        words = (images * 16).flatten(1).long() + self.training
        return super().forward(words)

register_architecture("words", lambda **_: Words(nn.Embedding(17, 3), nn.Flatten(), nn.Linear(192, 10)))
"""  # one word too few for training


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "digits-own.toml").write_text(EXPERIMENT)
    options = ["--subset-ratio", "0.7", "--runs", "0-3", "--zoo", folder / "zoo", "--plugin", MODULE]
    status, _, complaints = heldout("train", folder / "digits-own.toml", *options)
    assert (status, "Traceback" in complaints) == (0, False), complaints
    return folder / "zoo"


@pytest.mark.parametrize(
    ("dataset", "message"),
    [("own-digits", "data set 'own-digits' is not known"), ("digits", "architecture 'own_net' is not known")],
)
def test_training_needs_the_plugin(tmp_path, dataset, message):
    (tmp_path / "digits-own.toml").write_text(EXPERIMENT.replace("own-digits", dataset))
    words = ["train", tmp_path / "digits-own.toml", "--subset-ratio", "0.7", "--runs", "0", "--zoo", tmp_path / "zoo"]
    status, _, complaints = heldout(*words)
    assert status == 1
    assert f"error: {message}, expected one of" in complaints
    assert "or one of your own with --plugin MODULE" in complaints
    assert not (tmp_path / "zoo").exists()


def test_every_verb_takes_runs_of_the_network(zoo, tmp_path, capsys):
    ours = ["--plugin", MODULE]
    assert main(["verify", str(zoo), "--results", str(tmp_path / "log.jsonl"), *ours]) == 0
    assert main(["evaluate", str(zoo), "--out", str(tmp_path / "out"), *ours]) == 0
    which = ["--experiment", "digits-own", "--subset-ratio", "0.7"]
    assert main(["stats", "memorization", str(zoo), *which, "--out", str(tmp_path / "scores.npz"), *ours]) == 0
    assert main(["report", str(zoo), "--experiment", "digits-own", "--out", str(tmp_path / "report"), *ours]) == 0
    assert "error" not in capsys.readouterr().err
    assert load_run("digits-own", 0.7, 3, zoo).metadata.architecture == "own_net"


@pytest.mark.parametrize("verb", ["verify", "evaluate"])
def test_a_network_that_nobody_knows_is_told_once_not_for_every_run(zoo, tmp_path, verb):
    status, said, complaints = heldout(verb, zoo, *(["--out", tmp_path / "out"] if verb == "evaluate" else []))
    assert (status, said) == (1, "")
    assert complaints.startswith("error: architecture 'own_net' is not known, expected one of ")
    assert complaints.count("\n") == 1
    assert "or one of your own with --plugin MODULE" in complaints


def test_a_fault_of_the_plugin_is_not_called_one_of_the_package(tmp_path, monkeypatch):
    (tmp_path / "plug_words.py").write_text(WORDS)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    ours = ["--plugin", "plug_words", "--zoo", tmp_path / "zoo", "--runs", "0", "--subset-ratio", "0.5"]
    (tmp_path / "digits-words.toml").write_text(EXPERIMENT.replace("own-digits", "digits").replace("own_net", "words"))
    status, _, complaints = heldout("train", tmp_path / "digits-words.toml", *ours)
    assert status == 1
    assert complaints.splitlines()[-1] == "The error arose in your plugin plug_words, line 8."
    assert "IndexError: index out of range" in complaints
    assert "Please report" not in complaints


def test_a_plugin_that_cannot_be_imported_ends_the_command(capsys):
    assert (
        main(["train", "digits-mlp", "--runs", "0", "--subset-ratio", "0.5", "--zoo", "z", "--plugin", "no.such"]) == 1
    )
    assert "error: plugin no.such cannot be imported" in capsys.readouterr().err
