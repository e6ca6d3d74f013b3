"""`heldout published`, and published names where other verbs take scores or files."""

from pathlib import Path

import numpy as np
import pytest

from heldout_torch import DataError
from heldout_torch.cli import main
from heldout_torch.data import tfds_order
from heldout_torch.stats import fetch_published, list_published, load_indices, load_published_indices
from heldout_torch.stats.published_files import as_file
from heldout_torch.zoo import sample_zoo
from tests.helpers.published import N


def test_the_verb_lists_fetches_and_gives_paths(published_server, capsys):
    assert main(["published", "fetch", "cifar10-cscores", "cifar100-pairs"]) == 0
    capsys.readouterr()
    assert main(["published", "list"]) == 0
    rows = [line.split("\t")[:3] for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == list(list_published())
    assert [row[0] for row in rows if row[2] == "kept"] == ["cifar10-cscores", "cifar100-pairs"]
    assert main(["published", "path", "cifar10-cscores"]) == 0
    assert Path(capsys.readouterr().out.strip()) == fetch_published("cifar10-cscores")
    asked = sum(published_server.requests.values())
    assert main(["published", "fetch", "imagenet-index", "cifar10"]) == 1
    assert "'cifar10' is not a published file" in capsys.readouterr().err
    assert sum(published_server.requests.values()) == asked


def test_examples_are_kept_by_a_published_score_without_a_zoo(published_server, published_files, tmp_path, capsys):
    words = ["stats", "keep", "--by", "cifar10-cscores", "--fraction", "0.5", "--out"]
    assert main([*words, str(tmp_path / "kept.npz")]) == 0
    kept, order = load_indices(tmp_path / "kept.npz")
    scores = published_files[1]["cifar10-cscores-orig-order.npz"]["scores"]
    assert (order, sorted(kept)) == ("original", sorted(np.argsort(scores, kind="stable")[-(N // 2) :]))
    assert main([*words, str(tmp_path / "index.npz"), "--order", "published"]) == 0
    published, order = load_indices(tmp_path / "index.npz")
    assert (order, sorted(tfds_order("train", N)[published])) == ("published", sorted(kept))
    with pytest.raises(DataError, match="dataset cifar10, not cifar100"):  # of which there are as many
        load_published_indices(tmp_path / "kept.npz", N, tfds_order("train", N), dataset="cifar100")
    capsys.readouterr()
    assert main([*words, str(tmp_path / "no.npz"), "--experiment", "cifar10-inception"]) == 1
    assert "is a published score; leave out --experiment" in capsys.readouterr().err
    assert main(["stats", "keep", "--by", "consistency", "--fraction", "1", "--out", str(tmp_path / "no.npz")]) == 1
    assert "is estimated from runs; give ZOO" in capsys.readouterr().err


def test_labels_come_from_a_published_file_by_name_unless_a_path_has_it(
    published_server, tmp_path, monkeypatch, capsys
):
    words = ["stats", "memorization", str(sample_zoo()), "--experiment", "digits-mlp-tf", "--subset-ratio", "0.7"]
    words += ["--out", str(tmp_path / "no.npz"), "--labels"]
    assert main([*words, "cifar10-cscores"]) == 1
    assert "error: cifar10-cscores: is about cifar10, the runs are about digits" in capsys.readouterr().err
    assert as_file("cifar10-cscores", "cifar10").name == "cifar10-cscores-orig-order.npz"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cifar10-cscores").write_text("mine")
    assert main([*words, "cifar10-cscores"]) == 1
    assert "cifar10-cscores: is not a readable npz file" in capsys.readouterr().err
