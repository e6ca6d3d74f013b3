"""`heldout report`: what a user sees."""

from dataclasses import replace

import numpy as np
import pytest

from heldout_torch.cli import main
from heldout_torch.data import load_digits
from heldout_torch.experiments import known_experiments
from heldout_torch.report import gather_statistics
from heldout_torch.stats import RunTable, memorization
from heldout_torch.training import RunBatch, train_runs
from heldout_torch.zoo import sample_zoo
from tests.report.read_page import read_examples

EXPERIMENT = "digits-mlp-tf"


def report(*words):
    return main(["report", str(sample_zoo()), "--experiment", EXPERIMENT, *map(str, words)])


@pytest.fixture
def table():
    return RunTable.from_zoo(sample_zoo(), EXPERIMENT, 0.7)


def test_a_zoo_becomes_a_page(tmp_path, capsys, table):
    assert report("--out", tmp_path / "out") == 0
    page = tmp_path / "out" / "index.html"
    said = capsys.readouterr().out
    assert f"report of 6 runs: {page}; 168 of 1437 examples have no memorization (NaN)\n" in said
    text = page.read_text()
    assert f"heldout report {sample_zoo()} --experiment {EXPERIMENT} --out {tmp_path / 'out'}" in text
    written = read_examples(tmp_path / "out", 1437, 1000)["memorization"]
    expected = memorization(table)
    np.testing.assert_array_equal(np.array(written, float).astype(np.float32), expected)


def test_saved_tables_and_class_names_are_taken(tmp_path, table):
    table.save(tmp_path / "table")
    (tmp_path / "names").write_text("".join(f"<b>{label}\n" for label in range(10)))
    words = ["--stats", tmp_path / "table", "--classes", tmp_path / "names", "--out"]
    assert report(*words, tmp_path / "given") == 0
    assert report("--classes", tmp_path / "names", "--out", tmp_path / "computed") == 0
    given, computed = ((tmp_path / name / "data" / "examples-1.js").read_bytes() for name in ("given", "computed"))
    assert given == computed
    page = (tmp_path / "given" / "index.html").read_text()
    assert "&lt;b&gt;3" in page
    assert f"--stats {tmp_path / 'table'}" in page


def test_trained_runs_are_said_to_have_been_trained(tmp_path):
    zoo = tmp_path / "zoo"
    runs = ["--runs", "0-2,5", "--subset-ratio", "0.5", "--zoo", str(zoo)]
    assert main(["train", "digits-mlp", *runs]) == 0
    assert main(["report", str(zoo), "--experiment", "digits-mlp", "--out", str(tmp_path / "out")]) == 0
    command = f"heldout train digits-mlp --subset-ratio 0.5 --runs 0-2,5 --zoo {zoo}"
    assert command in (tmp_path / "out" / "index.html").read_text()


def commands_of(page):
    return page.read_text().split('aria-label="Commands">')[1].split("</pre>")[0].splitlines()


def test_only_a_command_that_trained_the_runs_is_said_to_have_done_it(tmp_path):
    """With a recipe or a subset from a file, the command that was shown would have trained other runs, or none."""
    np.save(tmp_path / "subset.npy", np.arange(700))
    (tmp_path / "short.toml").write_text("epochs = 1\nbatch_size = 128\nlearning_rate = 0.1\n")
    subset = ["--subset", str(tmp_path / "subset.npy"), "--order", "published", "--name", "digits-part"]
    recipe = ["--subset-ratio", "0.5", "--recipe", str(tmp_path / "short.toml")]
    for name, words in (("digits-part", subset), ("digits-mlp", recipe)):
        zoo, out = str(tmp_path / name), tmp_path / f"{name}-report"
        assert main(["train", "digits-mlp", *words, "--runs", "0-1", "--zoo", zoo, "--quiet"]) == 0
        assert main(["report", zoo, "--out", str(out), "--quiet"]) == 0
        assert [command.split()[1] for command in commands_of(out / "index.html")] == ["report"]


def test_a_subset_under_the_package_s_own_name_is_not_taken_for_a_random_one(tmp_path):
    digits = known_experiments()["digits-mlp"]
    work = RunBatch(digits, digits.recipe, 0.5, (0, 1))
    for name, some in (("given", replace(work, subset_ratio=718 / 1437, subset=np.arange(718))), ("random", work)):
        assert not [run.error for run in train_runs(some, load_digits(), tmp_path / name) if run.error]
        assert main(["report", str(tmp_path / name), "--out", str(tmp_path / f"{name}-report"), "--quiet"]) == 0
    shown = [commands_of(tmp_path / f"{name}-report" / "index.html") for name in ("given", "random")]
    assert list(map(len, shown)) == [1, 2]


def test_the_command_of_a_report_names_its_plugins(tmp_path, monkeypatch):
    monkeypatch.setattr("heldout_torch.plugins.LOADED", [])
    assert report("--plugin", "tests.helpers.own_network", "--out", tmp_path / "out") == 0
    assert commands_of(tmp_path / "out" / "index.html")[-1].endswith(" --plugin tests.helpers.own_network")


def test_some_runs_are_shown(tmp_path, capsys):
    """Every other verb that reads runs could be told which."""
    assert report("--subset-ratio", 0.7, "--runs", "1-4", "--out", tmp_path / "out") == 0
    assert "report of 4 runs" in capsys.readouterr().out
    assert "--runs 1-4 --subset-ratio 0.7" in (tmp_path / "out" / "index.html").read_text()
    assert report("--subset-ratio", 0.5, "--out", tmp_path / "other") == 1
    assert "runs of digits-mlp-tf/0.5 are not in" in capsys.readouterr().err


def wrong_experiment(tmp_path, table):
    keys = [f"digits-mlp/0.7/{run}" for run in range(table.runs)]
    RunTable(tuple(keys), table.packed_trained_on, table.packed_correct_train, table.packed_correct_test).save(
        tmp_path / "other"
    )
    return ["--stats", tmp_path / "other", "--out", tmp_path / "out"]


def wrong_size(tmp_path, table):
    RunTable(table.keys, table.packed_trained_on[:9], table.packed_correct_train[:9], table.packed_correct_test).save(
        tmp_path / "small"
    )
    return ["--stats", tmp_path / "small", "--out", tmp_path / "out"]


def same_ratio_twice(tmp_path, table):
    table.save(tmp_path / "one")
    table.save(tmp_path / "two")
    return ["--stats", tmp_path / "one", tmp_path / "two", "--out", tmp_path / "out"]


def full_folder(tmp_path, _):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    return ["--out", tmp_path / "full"]


def few_names(tmp_path, _):
    (tmp_path / "names").write_text("cat\ndog\n")
    return ["--classes", tmp_path / "names", "--out", tmp_path / "out"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (wrong_experiment, "holds runs of digits-mlp, not of digits-mlp-tf: statistics of another experiment"),
        (wrong_size, "the runs are about 9 and 360"),
        (same_ratio_twice, "is the second table of subset ratio 0.7"),
        (lambda tmp, _: ["--stats", tmp, "--runs", "0", "--out", tmp / "out"], "mean nothing to saved tables"),
        (full_folder, "exists and is not an empty folder"),
        (few_names, "2 class names given, digits has 10 classes"),
        (lambda tmp, _: ["--classes", tmp / "none", "--out", tmp / "out"], "cannot be read as a text file"),
        (lambda tmp, _: ["--stats", tmp / "none", "--out", tmp / "out"], "expected the folder of a run table"),
        (lambda tmp, _: ["--data", tmp / "none.npz", "--out", tmp / "out"], "cannot be read (No such file"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(words, message, tmp_path, capsys, table):
    assert report(*words(tmp_path, table)) == 1
    error = capsys.readouterr().err
    assert message in error
    assert [line.startswith("error: ") for line in error.splitlines()] == [True]
    assert not (tmp_path / "out").exists()


def test_an_experiment_without_runs_is_named(tmp_path, capsys):
    words = ["report", str(sample_zoo()), "--experiment", "mnist-mlp", "--out", str(tmp_path / "out")]
    assert main(words) == 1
    assert "holds no runs of mnist-mlp" in capsys.readouterr().err


def test_the_function_gives_what_the_command_gives(table):
    from heldout_torch.data import load_digits

    np.testing.assert_array_equal(gather_statistics({0.7: table}, load_digits()).memorization, memorization(table))
