"""The scripts of examples/: short, and each prints its figure, within what the digits are known to give."""

import ast
import itertools
import re
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from heldout_torch.cli import main
from heldout_torch.stats import RunTable, influence, memorization
from heldout_torch.training.subsets import draw_subset

FOLDER = Path(__file__).parent.parent / "examples"
FIGURES = {  # what the first number that is printed lies between
    "membership_inference": (0.52, 0.7),
    "pruning": (-0.02, 0.06),
    "attribution": (0.02, 0.3),
    "label_noise": (0.95, 1.0),
    "unlearning": (0.95, 1.0),
    "own_experiment": (0.9, 1.0),
}


def lines_of_code(path):
    """Return the lines of a script that are not blank and in no docstring."""
    text = path.read_text()
    tree = ast.parse(text)
    nodes = [tree, *(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))]
    told = {line for node in nodes if ast.get_docstring(node)
            for line in range(node.body[0].lineno, node.body[0].end_lineno + 1)}  # fmt: skip
    return [line for number, line in enumerate(text.splitlines(), 1) if line.strip() and number not in told]


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
    assert len(lines_of_code(FOLDER / f"{name}.py")) <= 15
    assert f"`{name}.py`" in (FOLDER / "README.md").read_text()


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("words", [[], ["--help"], ["ZOO", "more"]], ids=" ".join)
def test_an_example_says_how_it_is_used(name, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    if words == ["--help"]:
        assert stop.value.code in (None, 0)
    told = capsys.readouterr().out if words == ["--help"] else stop.value.code
    assert f"python examples/{name}.py ZOO" in told
    assert not list(tmp_path.iterdir())


READS = ["attribution", "membership_inference", "pruning", "unlearning"]  # runs that are there; the others train
BAD = [*itertools.product(READS, ["nowhere", "one run", "two runs"]), *((name, "a file") for name in FIGURES)]


@pytest.mark.parametrize(("name", "place"), BAD)
def test_a_place_without_enough_runs_is_one_line(name, place, zoo, tmp_path, monkeypatch, capsys):
    """It was a traceback, and pruning went on without runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a file").touch()
    for runs, few in enumerate(["one run", "two runs"], 1):
        for run in range(runs):
            shutil.copytree(zoo / f"digits-mlp/0.7/{run}", tmp_path / few / f"digits-mlp/0.7/{run}")
    monkeypatch.setattr(sys, "argv", [f"{name}.py", place])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    line = capsys.readouterr().err if stop.value.code == 1 else f"{stop.value.code}\n"
    assert re.fullmatch(f"error: .*{place if 'run' not in place else ''}.*\n", line)


def test_influence_in_60_lines_is_the_packages(capsys):
    path = FOLDER / "influence_in_60_lines.py"
    found = runpy.run_path(str(path))
    mask, right, test_right, memorized, influences = found["main"]()
    table = RunTable.from_arrays(mask, right, test_right)
    np.testing.assert_allclose(memorized, memorization(table), atol=1e-6)
    np.testing.assert_allclose(influences.T, influence(table), atol=1e-6)
    np.testing.assert_array_equal(np.flatnonzero(mask[5]), np.sort(draw_subset(5, mask.shape[1], found["RATIO"])))
    assert right[mask].mean() > 0.99
    assert right[~mask].mean() > 0.93
    assert "memorized at 0.25 or more" in capsys.readouterr().out
    modules = {line.split()[1] for line in path.read_text().splitlines() if line.startswith(("import ", "from "))}
    assert modules == {"numpy", "pathlib", "torch"}
    assert len(lines_of_code(path)) <= 60
