"""The scripts of examples/: short, and each prints its figure, within what the digits are known to give."""

import ast
import re
import runpy
import sys
from pathlib import Path

import pytest

from heldout_torch.cli import main

FOLDER = Path(__file__).parent.parent / "examples"
FIGURES = {  # what the first number that is printed lies between
    "membership_inference": (0.52, 0.7),
    "pruning": (-0.02, 0.06),
    "attribution": (0.02, 0.3),
    "label_noise": (0.95, 1.0),
    "unlearning": (0.95, 1.0),
    "own_experiment": (0.9, 1.0),
}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """The zoo of examples/README.md."""
    folder = tmp_path_factory.mktemp("examples") / "ZOO"
    assert main(["train", "digits-mlp", "--subset-ratio", "0.7", "--runs", "0-59", "--zoo", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("name", FIGURES)
def test_an_example_prints_its_figure(name, zoo, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", str(zoo)])
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    *_, line = capsys.readouterr().out.splitlines()
    low, high = FIGURES[name]
    assert low <= float(re.search(r"[-+]?\d+\.\d+", line)[0]) <= high, line


@pytest.mark.parametrize("name", FIGURES)
def test_an_example_is_short(name):
    text = (FOLDER / f"{name}.py").read_text()
    docstring = ast.parse(text).body[0]
    lines = [line for line in text.splitlines()[docstring.end_lineno :] if line.strip()]
    assert len(lines) <= 15, len(lines)
    assert f"`{name}.py`" in (FOLDER / "README.md").read_text()
