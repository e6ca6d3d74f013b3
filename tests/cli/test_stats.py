"""`heldout stats` writes what the functions compute, in the order of the original files."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from heldout_torch.cli import main
from heldout_torch.data import load_npz
from heldout_torch.stats import (
    RunTable,
    consistency,
    influence,
    influence_pairs,
    load_classwise,
    load_pairs,
    load_scores,
    memorization,
    memorization_error,
)
from heldout_torch.zoo import sample_zoo
from tests.stats.test_run_table import aux_of

N, M, RUNS = 60, 30, 12
FIELDS = ("trained_on", "correct_train", "correct_test")


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """Runs at two ratios of a data set whose published index is not the order of its files."""
    root = tmp_path_factory.mktemp("zoo") / "tiny-mlp"
    rng = np.random.default_rng(0)
    bits = {}
    for ratio in (0.5, 0.8):
        trained_on = np.array([rng.permutation(N) < int(N * ratio) for _ in range(RUNS)])
        bits[ratio] = (trained_on, rng.random((RUNS, N)) < 0.5, rng.random((RUNS, M)) < 0.5)
        for run, rows in enumerate(zip(*bits[ratio], strict=True)):
            aux_of(*rows).write(root / str(ratio) / str(run) / "aux_arrays.npz")
    declaration = {
        "dataset": "tiny", "architecture": "mlp", "config": {"in_features": 4, "num_classes": 3, "widths": [2]},
        "train_examples": N, "test_examples": M,
    }  # fmt: skip
    (root / "experiment.json").write_text(json.dumps(declaration))
    arrays = {}
    for split, n in (("train", N), ("test", M)):
        arrays[f"{split}__image"] = np.zeros((n, 2, 2), np.uint8)
        arrays[f"{split}__label"] = rng.integers(0, 3, n)
        arrays[f"{split}__index"] = rng.permutation(n)
    np.savez(root.parent / "tiny.npz", **arrays)
    tables = {ratio: RunTable.from_arrays(*arrays) for ratio, arrays in bits.items()}
    return root.parent, tables, load_npz(root.parent / "tiny.npz", "tiny"), arrays


def run(zoo, statistic, out, *words):
    where = ["--experiment", "tiny-mlp", "--data", str(zoo[0] / "tiny.npz"), "--out", str(out)]
    return main(["stats", statistic, str(zoo[0]), *where, *words])


def original(values, zoo, split="train"):
    """Values by published index, in the order of the file: row i of the file has index `<split>__index[i]`."""
    return values[zoo[3][f"{split}__index"]]


def test_memorization_and_consistency_are_written_in_original_order(zoo, tmp_path):
    assert run(zoo, "memorization", tmp_path / "mem.npz", "--subset-ratio", "0.8", "--empty-zero") == 0
    scores = load_scores(tmp_path / "mem.npz")
    np.testing.assert_array_equal(scores.scores, original(memorization(zoo[1][0.8], "zero"), zoo))
    np.testing.assert_array_equal(scores.standard_error, original(memorization_error(zoo[1][0.8]), zoo))
    np.testing.assert_array_equal(scores.labels, zoo[3]["train__label"])

    assert run(zoo, "consistency", tmp_path / "cscores.npz") == 0
    scores = load_scores(tmp_path / "cscores.npz")
    np.testing.assert_array_equal(scores.scores, original(consistency(zoo[1]).scores, zoo))
    assert run(zoo, "consistency", tmp_path / "one.npz", "--subset-ratio", "0.5") == 0
    np.testing.assert_array_equal(
        load_scores(tmp_path / "one.npz").scores, original(consistency(zoo[1][0.5]).scores, zoo)
    )


def test_influence_and_pairs_count_examples_as_the_original_files_do(zoo, tmp_path):
    assert run(zoo, "influence", tmp_path / "infl.npz", "--subset-ratio", "0.5") == 0
    matrix = influence(zoo[1][0.5])[zoo[3]["test__index"]][:, zoo[3]["train__index"]]  # (test, train), original order
    classes = load_classwise(tmp_path / "infl.npz")
    np.testing.assert_array_equal(classes.labels_test, zoo[3]["test__label"])
    np.testing.assert_array_equal(classes.memorization, original(memorization(zoo[1][0.5]), zoo))
    for one in classes.classes:
        assert (np.diff(one.train_index) > 0).all()
        np.testing.assert_array_equal(one.influence, matrix[np.ix_(one.test_index, one.train_index)].T)

    assert run(zoo, "pairs", tmp_path / "pairs.npz", "--subset-ratio", "0.5", "--min-influence", "0.3") == 0
    pairs = load_pairs(tmp_path / "pairs.npz")
    labels = zoo[2].train.labels.numpy(), zoo[2].test.labels.numpy()
    assert len(pairs) == len(influence_pairs(zoo[1][0.5], *labels, min_influence=0.3)) > 10
    np.testing.assert_array_equal(pairs.influence, matrix[pairs.test_index, pairs.train_index])
    assert (zoo[3]["train__label"][pairs.train_index] == zoo[3]["test__label"][pairs.test_index]).all()
    assert (
        run(zoo, "pairs", tmp_path / "any.npz", "--subset-ratio", "0.5", "--min-influence", "0.3", "--any-class") == 0
    )
    assert len(load_pairs(tmp_path / "any.npz")) > len(pairs)


@pytest.mark.parametrize("end", [[], ["--highest"], ["--lowest"]])
def test_kept_indices_fit_a_subset_of_the_originals_or_training(zoo, tmp_path, end):
    by = ["--by", "consistency", "--fraction", "0.25", *end]
    assert run(zoo, "keep", tmp_path / "kept.npy", *by) == 0
    kept = np.load(tmp_path / "kept.npy", allow_pickle=False)
    scores = original(consistency(zoo[1]).scores, zoo)
    best = np.argsort(scores if end == ["--lowest"] else -scores, kind="stable")[:15]
    assert kept.tolist() == sorted(best.tolist())
    assert len(torch.utils.data.Subset(zoo[3]["train__label"], kept.tolist())) == 15
    assert run(zoo, "keep", tmp_path / "index.npy", *by, "--order", "published") == 0
    published = np.load(tmp_path / "index.npy", allow_pickle=False)
    assert published.tolist() == sorted(zoo[3]["train__index"][kept].tolist())


def test_table_is_kept_and_used_again(zoo, tmp_path, capsys):
    words = ["--subset-ratio", "0.5", "--table", str(tmp_path / "tables")]
    assert run(zoo, "memorization", tmp_path / "one.npz", *words) == 0
    assert RunTable.load(tmp_path / "tables" / "tiny-mlp" / "0.5").runs == RUNS
    assert run(zoo, "memorization", tmp_path / "two.npz", *words) == 0
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    assert run(zoo, "memorization", tmp_path / "three.npz", *words, "--runs", "0-5") == 1
    assert "holds 12 runs, not the 6 asked for" in capsys.readouterr().err
    assert not (tmp_path / "three.npz").exists()


@pytest.mark.parametrize(
    ("statistic", "words", "message"),
    [
        ("memorization", ["--subset-ratio", "0.3"], "runs of tiny-mlp/0.3 are not in"),
        ("memorization", ["--subset-ratio", "0.5", "--runs", "3,99"], "runs 99 of tiny-mlp/0.5 are not in"),
        ("memorization", ["--subset-ratio", "0.5", "--runs", "3"], "run tiny-mlp/0.5/3 is the only one"),
        ("memorization", ["--subset-ratio", "0.5", "--experiment", "other"], "experiment 'other' is not known"),
        ("influence", ["--subset-ratio", "0.5", "--device", "meta"], "device 'meta' cannot count runs"),
        ("keep", ["--by", "memorization", "--fraction", "0.5"], "give --subset-ratio, one of 0.5, 0.8"),
        ("keep", ["--by", "consistency", "--fraction", "1.5"], "fraction is 1.5, expected 0"),
        ("keep", ["--by", "consistency", "--fraction", "1", "--runs", "0"], "examples have no score"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(zoo, tmp_path, capsys, statistic, words, message):
    assert run(zoo, statistic, tmp_path / "out", *words) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("error: ")
    assert message in lines[-1]
    assert not (tmp_path / "out").exists()


def test_data_set_of_another_size_is_refused(zoo, tmp_path, capsys):
    short = {name: array[: M - 1] if "test" in name else array for name, array in zoo[3].items()}
    short["test__index"] = np.arange(M - 1)
    np.savez(tmp_path / "short.npz", **short)
    assert (
        run(zoo, "memorization", tmp_path / "out", "--subset-ratio", "0.5", "--data", str(tmp_path / "short.npz")) == 1
    )
    assert "tiny has 60 training and 29 test examples, the runs are about 60 and 30" in capsys.readouterr().err


def test_sample_needs_no_data_option(tmp_path):
    command = [sys.executable, "-m", "heldout_torch.cli", "stats", "memorization", str(sample_zoo())]
    command += ["--experiment", "digits-mlp-tf", "--subset-ratio", "0.7", "--out", str(tmp_path / "mem.npz")]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "wrote memorization from" in process.stdout
    assert len(load_scores(tmp_path / "mem.npz").scores) == 1437
