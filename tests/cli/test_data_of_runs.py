"""Data that are not the ones that runs were trained on are refused by every verb that takes both, in one line."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

import heldout_torch.data
from heldout_torch import DataError, load_run
from heldout_torch.cli import main
from heldout_torch.data import ArrayDataset, load_npz
from heldout_torch.evaluation import evaluate, verify
from heldout_torch.stats import load_scores
from heldout_torch.zoo import sample_zoo

ANOTHER = r"error: data set digits is not the one that run digits-mlp/0\.7/\d was trained on: other images, labels or "


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A zoo of runs on the digits of `own.npz`, whose labels `flip.npz` has turned round."""
    root = tmp_path_factory.mktemp("data-of-runs")
    arrays = dict(np.load(Path(heldout_torch.data.__file__).with_name("digits.npz")))
    arrays["train__label"] = arrays["train__label"].copy()
    arrays["train__label"][:2] = 1 - arrays["train__label"][:2] % 2  # two of the bundled digits' labels are others
    np.savez(root / "own.npz", **arrays)
    np.savez(root / "flip.npz", **arrays | {"train__label": 9 - arrays["train__label"]})
    (root / "quick.toml").write_text("epochs = 1\nbatch_size = 64\nlearning_rate = 0.1\n")
    words = ["train", "digits-mlp", "--recipe", str(root / "quick.toml"), "--data", str(root / "own.npz")]
    assert main([*words, "--subset-ratio", "0.7", "--runs", "0-3", "--zoo", str(root / "zoo"), "--device", "cpu"]) == 0
    return root


def refused(capsys):
    """Return whether a command was refused, in one line."""
    output = capsys.readouterr()
    lines = [line for line in output.err.splitlines() if "taking" not in line and "warning: runs at" not in line]
    return output.out == "" and len(lines) == 1 and re.match(ANOTHER, lines[0]) is not None


@pytest.mark.parametrize(
    "words",
    [
        ["verify", "ZOO", "--results", "OUT.jsonl", "--device", "cpu"],
        ["verify", "ZOO", "--results", "OUT.jsonl", "--device", "cpu", "--splits", "test"],
        ["evaluate", "ZOO", "--out", "OUT", "--device", "cpu"],
        ["stats", "memorization", "ZOO", "--out", "OUT.npz"],
        ["stats", "consistency", "ZOO", "--out", "OUT.csv"],
        ["stats", "pairs", "ZOO", "--out", "OUT.npz"],
        ["stats", "influence", "ZOO", "--out", "OUT.npz"],
        ["stats", "keep", "ZOO", "--by", "consistency", "--fraction", "0.5", "--empty-zero", "--out", "OUT.npz"],
        ["report", "ZOO", "--out", "OUT"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_other_data_are_refused_and_the_own_are_taken(place, tmp_path, capsys, words):
    command = [word.replace("ZOO", str(place / "zoo")).replace("OUT", str(tmp_path / "out")) for word in words]
    assert main([*command, "--data", str(place / "flip.npz")]) == 1
    assert refused(capsys)
    assert not list(tmp_path.iterdir())
    damaged = shutil.copytree(place / "zoo", tmp_path / "zoo")
    (damaged / "digits-mlp/0.7/0/run.json").write_bytes(b"{}")  # the next run says it as well
    assert main([word.replace(str(place / "zoo"), str(damaged)) for word in [*command, "--data", f"{place}/flip.npz"]])
    assert re.search(ANOTHER, capsys.readouterr().err)
    assert main([*command, "--data", str(place / "own.npz")]) == 0


def test_the_bundled_digits_give_no_labels_to_runs_on_others(place, tmp_path, capsys):
    out = str(tmp_path / "out.npz")
    assert main(["stats", "memorization", str(place / "zoo"), "--out", out]) == 0
    assert "warning: labels are left out: data set digits is not the one that run digits-mlp/0.7/0 was trained on" in (
        capsys.readouterr().err
    )
    assert load_scores(out).labels is None
    assert main(["stats", "pairs", str(place / "zoo"), "--out", out]) == 1  # they need labels
    assert "labels" in capsys.readouterr().err


def test_verify_in_python_says_so_and_evaluate_takes_what_it_is_given(place):
    own, flip = (load_npz(place / f"{name}.npz", "digits") for name in ("own", "flip"))
    run = load_run("digits-mlp", run=0, zoo=place / "zoo")
    for splits in (("train", "removed", "test"), ("test",)):
        with pytest.raises(DataError, match=r"is not the one that run digits-mlp/0\.7/0 was trained on"):
            verify(run, flip, splits)
    assert len(evaluate(run, flip, "train").correct) == 1437
    only_test = replace(own, train=replace(own.train, **{part: getattr(own.train, part)[:0] for part in (
        "images", "labels", "index", "original_index"
    )}))  # fmt: skip
    assert verify(run, only_test, ["test"]).mismatches == 0  # which of the whole it is part of, nobody can say


def test_a_digest_is_made_once_and_not_of_data_that_no_run_names(place, tmp_path):
    digest, made = ArrayDataset.digest, []

    def counted(dataset):
        if "_digest" not in vars(dataset):
            made.append(dataset)
        return digest(dataset)

    with mock.patch.object(ArrayDataset, "digest", counted):
        words = ["verify", str(place / "zoo"), "--data", str(place / "own.npz"), "--results", str(tmp_path / "log")]
        assert main([*words, "--device", "cpu"]) == 0
        assert len(made) == 1
        assert main(["stats", "memorization", str(sample_zoo()), "--out", str(tmp_path / "m.npz")]) == 0
        assert len(made) == 1
