"""Every statistic and the report on aux arrays alone, of the published data sets' sizes, with no data set at hand."""

import numpy as np
import pytest

from heldout_torch import AuxArrays
from heldout_torch.cli import main
from heldout_torch.data import tfds_order
from heldout_torch.stats import (
    RunTable,
    load_classwise,
    load_indices,
    load_pairs,
    load_scores,
    memorization,
    save_imagenet_index,
)
from tests.report.read_page import read_script

RUNS, RATIO = 5, 0.7
SIZES = {
    "cifar10-inception": (50_000, 10_000, 10),
    "cifar100-inception": (50_000, 10_000, 100),
    "imagenet-resnet50": (1_281_167, 50_000, 1000),
}


def write_runs(zoo, experiment):
    """Five runs that know what they trained on, and of the rest all but few examples."""
    n, m, _ = SIZES[experiment]
    for run in range(RUNS):
        rng = np.random.RandomState(run)
        trained = rng.permutation(n) < int(n * RATIO)
        index_train, index_removed = np.flatnonzero(trained), np.flatnonzero(~trained)
        AuxArrays(
            correctness_train=np.ones(len(index_train), np.uint8),
            correctness_removed=(index_removed % 500 != 0).astype(np.uint8),
            correctness_test=(rng.rand(m) < 0.9).astype(np.uint8),
            index_train=index_train,
            index_removed=index_removed,
            index_test=np.arange(m),
            subsample_idx=index_train,
        ).write(zoo / experiment / str(RATIO) / str(run) / "aux_arrays.npz")


def write_labels(path, experiment):
    """Labels in published files: of both splits, class-wise influence for CIFAR and the index for ImageNet."""
    n, m, classes = SIZES[experiment]
    labels = np.random.RandomState(0).randint(classes, size=n), np.random.RandomState(1).randint(classes, size=m)
    if experiment == "imagenet-resnet50":
        names = [f"n{label:08d}_{i}.JPEG" for i, label in enumerate(labels[0])]
        test_names = [f"ILSVRC2012_val_{i:08d}.JPEG" for i in range(m)]
        save_imagenet_index(path, names, labels[0], np.zeros(n), test_names, labels[1])
        return labels
    np.savez(path, tr_labels=labels[0], tt_labels=labels[1])
    return tuple(row[tfds_order(split, len(row))] for split, row in zip(("train", "test"), labels, strict=True))


@pytest.mark.parametrize(
    "experiment", ["cifar10-inception", "cifar100-inception", pytest.param("imagenet-resnet50", marks=pytest.mark.slow)]
)
def test_aux_arrays_alone_are_enough(tmp_path, experiment, capsys):
    zoo, labels_file = tmp_path / "zoo", tmp_path / "labels.npz"
    write_runs(zoo, experiment)
    labels = write_labels(labels_file, experiment)
    n, _, classes = SIZES[experiment]
    table = RunTable.from_zoo(zoo, experiment, RATIO)
    original = np.arange(n) if experiment.startswith("imagenet") else tfds_order("train", n)

    def stats(statistic, name, *words):
        where = ["stats", statistic, str(zoo), "--experiment", experiment, "--out", str(tmp_path / name)]
        assert main([*where, "--table", str(tmp_path / "tables"), *words]) == 0, capsys.readouterr().err

    one = ["--subset-ratio", str(RATIO)]
    given = ["--labels", str(labels_file)]
    for words in ([], given):
        stats("memorization", "mem.npz", *one, *words)
        scores = load_scores(tmp_path / "mem.npz")
        assert scores.order == "original"
        np.testing.assert_array_equal(scores.scores[original], memorization(table))
        assert (scores.labels is None) == (not words)
        assert (scores.filenames is None) == (not words or not experiment.startswith("imagenet"))
        if words:
            np.testing.assert_array_equal(scores.labels[original], labels[0])
        stats("consistency", "cscores.npz", *words)
        assert load_scores(tmp_path / "cscores.npz").order == "original"
    stats("accuracy", "accuracy.csv")
    stats("keep", "kept.npz", "--by", "consistency", "--fraction", "0.5", "--empty-zero")
    assert load_indices(tmp_path / "kept.npz")[1] == "original"
    stats("pairs", "pairs.npz", *one, *given, "--min-influence", "0.9")
    pairs = load_pairs(tmp_path / "pairs.npz")
    assert pairs.order == "original"
    if not experiment.startswith("imagenet"):  # whose matrices are 65 million numbers
        stats("influence", "influence.npz", *one, *given)
        assert len(load_classwise(tmp_path / "influence.npz").classes) == classes

    for name, words in (("bare", []), ("labelled", given)):
        out = tmp_path / name
        assert main(["report", str(zoo), "--experiment", experiment, "--out", str(out), *words]) == 0
        assert "The images were not given" in (out / "index.html").read_text()
        assert read_script(out, "setup")["pictures"] == 0
    assert len(list((tmp_path / "labelled" / "data").glob("group-*.js"))) == classes + 1
