"""`heldout stats keep`: options that the scores have no use for, and examples that were never held out."""

import numpy as np

from heldout_torch.cli import main
from heldout_torch.zoo import sample_zoo


def keep(out, *words):
    return main(["stats", "keep", *map(str, words), "--out", str(out)])


def test_zero_for_examples_that_were_never_held_out_is_a_score(tmp_path, capsys):
    words = [sample_zoo(), "--experiment", "digits-mlp-tf", "--by", "consistency", "--fraction", "1", "--runs", "0-1"]
    assert keep(tmp_path / "kept.npz", *words) == 1
    assert "examples have no score" in capsys.readouterr().err
    assert keep(tmp_path / "kept.npz", *words, "--empty-zero") == 0
    with np.load(tmp_path / "kept.npz") as file:
        assert any(len(file[name]) == 1437 for name in file.files if file[name].ndim)


def test_what_counts_over_runs_is_refused_for_scores_that_are_given(tmp_path, capsys):
    (tmp_path / "SCORES.CSV").write_text("index,score\n0,0.5\n1,0.25\n")
    about_runs = (["--empty-zero"], ["--runs", "0"], ["--subset-ratio", "0.7"], ["--experiment", "digits-mlp-tf"])
    about_data = (["--table", tmp_path / "t"], ["--data", tmp_path / "none"], ["--labels", "none.npz"], ["--download"])
    for option in (*about_runs, *about_data):
        for scores, what in (("cifar10-cscores", "a published score"), (tmp_path / "SCORES.CSV", "a file")):
            assert keep(tmp_path / "kept.npz", "--by", scores, "--fraction", "0.5", *option) == 1
            assert capsys.readouterr().err == f"error: {scores} is {what}; leave out {option[0]}\n"
    assert not (tmp_path / "kept.npz").exists()
