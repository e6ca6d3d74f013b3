"""`heldout stats` writes what the functions compute, in the order of the original files.

Also of cli/keep.py, cli/tables.py, stats/kept_tables.py.
"""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from unittest import mock

import numpy as np
import pandas
import pytest
import torch

from heldout_torch import list_runs, load_dataset, load_run
from heldout_torch.cli import main, options
from heldout_torch.data import load_npz
from heldout_torch.errors import DataError
from heldout_torch.experiments import known_experiments
from heldout_torch.stats import (
    RunTable,
    consistency,
    influence,
    influence_pairs,
    load_classwise,
    load_indices,
    load_pairs,
    load_published_indices,
    load_scores,
    memorization,
    memorization_error,
    memorization_interval,
    run_accuracies,
)
from heldout_torch.zoo import sample_zoo
from heldout_torch.zoo.folder import FolderZoo
from tests.stats.test_run_table import aux_of

N, M, RUNS = 60, 30, 12


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


def original(values, zoo):
    """Values by published index, in the order of the file: row i of the file has index `train__index[i]`."""
    return values[zoo[3]["train__index"]]


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
        known = ~np.isnan(one.influence)
        assert ((one.low <= one.influence) & (one.influence <= one.high))[known].all()

    assert run(zoo, "pairs", tmp_path / "pairs.npz", "--subset-ratio", "0.5", "--min-influence", "0.3") == 0
    pairs = load_pairs(tmp_path / "pairs.npz")
    labels = zoo[2].train.labels.numpy(), zoo[2].test.labels.numpy()
    assert len(pairs) == len(influence_pairs(zoo[1][0.5], *labels, min_influence=0.3)) > 10
    np.testing.assert_array_equal(pairs.influence, matrix[pairs.test_index, pairs.train_index])
    assert (zoo[3]["train__label"][pairs.train_index] == zoo[3]["test__label"][pairs.test_index]).all()
    assert (
        run(zoo, "pairs", tmp_path / "any.npz", "--subset-ratio", "0.5", "--min-influence", "0.3", "--any-class") == 0
    )
    everything = load_pairs(tmp_path / "any.npz")
    assert len(everything) > len(pairs)
    expected = influence_pairs(zoo[1][0.5], min_influence=0.3, same_class=False)
    for name in ("low", "high", "p_value", "false_discovery_rate"):
        np.testing.assert_array_equal(getattr(everything, name), getattr(expected, name))


@pytest.mark.parametrize("end", [[], ["--highest"], ["--lowest"]])
def test_kept_indices_fit_a_subset_of_the_originals_and_say_how_they_count(zoo, tmp_path, end):
    by = ["--by", "consistency", "--fraction", "0.25", *end]
    assert run(zoo, "keep", tmp_path / "kept.npz", *by) == 0
    kept, order = load_indices(tmp_path / "kept.npz")
    assert order == "original"
    scores = original(consistency(zoo[1]).scores, zoo)
    ascending = np.argsort(scores, kind="stable")
    best = ascending[:15] if end == ["--lowest"] else ascending[-15:]
    assert kept.tolist() == sorted(best.tolist())
    assert len(torch.utils.data.Subset(zoo[3]["train__label"], kept.tolist())) == 15
    assert run(zoo, "keep", tmp_path / "index.npz", *by, "--order", "published") == 0
    published, order = load_indices(tmp_path / "index.npz")
    assert order == "published"
    assert published.tolist() == sorted(zoo[3]["train__index"][kept].tolist())
    index = zoo[2].original_index("train").numpy()
    for name in ("kept.npz", "index.npz"):  # either may be trained on: they are the same examples
        assert sorted(load_published_indices(tmp_path / name, N, index)) == published.tolist()


def test_a_file_of_scores_says_what_is_kept_and_how_it_counts(zoo, tmp_path, capsys):
    words = ["--subset-ratio", "0.5", "--empty-zero"]
    by = ["--by", "memorization", "--fraction", "0.5", "--lowest"]
    for suffix in (".npz", ".csv", ".parquet"):
        assert run(zoo, "memorization", tmp_path / f"scores{suffix}", *words) == 0
    assert run(zoo, "keep", tmp_path / "kept.npz", *words, *by) == 0
    np.save(tmp_path / "bare.npy", load_scores(tmp_path / "scores.npz").scores)
    capsys.readouterr()

    def keep(file, *more):
        out = ["--fraction", "0.5", "--lowest", "--out", str(tmp_path / "mine.npz")]
        return main(["stats", "keep", "--by", str(tmp_path / file), *out, *more])

    for file, order in (
        ("scores.npz", []),
        ("scores.csv", []),
        ("scores.parquet", []),
        ("scores.npz", ["--order", "original"]),
        ("bare.npy", ["--order", "original"]),
    ):
        assert keep(file, *order) == 0
        kept, said = load_indices(tmp_path / "mine.npz")
        assert (kept.tolist(), said) == (load_indices(tmp_path / "kept.npz")[0].tolist(), "original")
    assert f"of the lowest scores of {tmp_path / 'scores.npz'}, to" in capsys.readouterr().out
    for file, more, expected in (
        ("bare.npy", [], "does not say how it counts examples; give --order"),
        ("scores.npz", ["--order", "published"], "counts examples in original order"),
        ("scores.npz", ["--runs", "0"], "is a file; leave out --runs\n"),
        ("none.npz", [], "none.npz: "),
    ):
        assert keep(file, *more) == 1
        assert expected in capsys.readouterr().err
    with pytest.raises(SystemExit):
        keep("memorization.txt")
    with pytest.raises(SystemExit):
        main(["stats", "keep", "--by", "memorisation", *by[2:], "--out", str(tmp_path / "no.npz")])
    assert "nor a file that ends in .npz, .csv, .parquet, .npy; did you mean 'memorization'?" in capsys.readouterr().err


@pytest.mark.parametrize("share", ["0", "0.0001"])
def test_to_keep_nothing_is_refused_before_it_is_written(zoo, tmp_path, capsys, share):
    assert run(zoo, "keep", tmp_path / "kept.npz", "--by", "consistency", "--fraction", share, "--empty-zero") == 1
    assert re.search(r"--fraction \S+ keeps none of \d+ examples; ", capsys.readouterr().err)
    assert not (tmp_path / "kept.npz").exists()


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz"])
def test_pairs_are_not_scores(zoo, tmp_path, capsys, suffix):
    pairs, scores = (str(tmp_path / f"{name}{suffix}") for name in ("pairs", "scores"))
    words = ["--subset-ratio", "0.5", "--empty-zero"]
    assert run(zoo, "pairs", pairs, *words, "--min-influence", "-1", "--min-memorization", "-1") == 0
    assert run(zoo, "memorization", scores, *words) == 0
    assert main(["stats", "keep", "--by", pairs, "--fraction", "0.5", "--out", str(tmp_path / "kept.npz")]) == 1
    assert capsys.readouterr().err.endswith(f"{pairs}: holds pairs, not scores\n")
    with pytest.raises(DataError, match="holds scores, not pairs"):
        load_pairs(scores)


@pytest.mark.parametrize(
    ("statistic", "told", "said"),
    [
        ("influence", "npz file", ".npz"),
        ("accuracy", ".csv or .parquet file", "one of .csv, .parquet"),
        ("pairs", ".npz, .csv or .parquet file", "one of .npz, .csv, .parquet"),
    ],
)
def test_names_of_files_fit_what_the_help_of_a_statistic_says(zoo, tmp_path, capsys, statistic, told, said):
    with pytest.raises(SystemExit):
        main(["stats", statistic, "--help"])
    assert f"FILE {told} to write" in " ".join(capsys.readouterr().out.split())
    assert run(zoo, statistic, tmp_path / "x.txt") == 1
    assert capsys.readouterr().err.endswith(f"the file name must end in {said}\n")


def test_the_bound_of_the_error_is_a_number(zoo, tmp_path, capsys):
    assert run(zoo, "memorization", tmp_path / "mem.npz", "--subset-ratio", "0.5", "--json") == 0
    bound = json.loads(capsys.readouterr().out)["error_bound"]
    assert bound == pytest.approx((2 / RUNS + 2 / RUNS + np.exp(-RUNS / 32) / 2) ** 0.5)


def test_the_summary_says_how_many_examples_are_kept_by_their_index_alone(zoo, tmp_path, capsys):
    by = ["--subset-ratio", "0.5", "--by", "memorization", "--fraction", "0.5", "--empty-zero"]
    assert run(zoo, "keep", tmp_path / "kept.npz", *by, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    scores = original(memorization(zoo[1][0.5], "zero"), zoo)
    least = np.sort(scores)[-30]
    ties, alike = 30 - int((scores > least).sum()), int((scores == least).sum())
    assert (said["by_index_alone"], said["of_the_same_score"]) == ((ties, alike) if ties < alike else (0, 0))
    assert ties < alike
    assert run(zoo, "keep", tmp_path / "kept.npz", *by) == 0
    assert f"; {ties} of them by index alone, among {alike} examples of the same score" in capsys.readouterr().out


def test_statistics_of_all_kinds_have_an_order_and_the_suffix_decides_the_format(zoo, tmp_path):
    for statistic, words in (
        ("memorization", ["--subset-ratio", "0.5"]),
        ("consistency", []),
        ("pairs", ["--subset-ratio", "0.5"]),
        ("influence", ["--subset-ratio", "0.5"]),
        ("keep", ["--by", "memorization", "--fraction", "0.5", "--subset-ratio", "0.5"]),
    ):
        assert run(zoo, statistic, tmp_path / f"{statistic}.npz", *words) == 0
        with np.load(tmp_path / f"{statistic}.npz") as npz:
            assert (npz["order"].shape, npz["order"].item()) == ((), "original")
        for suffix in (".csv", ".parquet"):
            assert run(zoo, statistic, tmp_path / f"{statistic}{suffix}", *words) == (statistic == "influence")
    frame = pandas.read_csv(tmp_path / "memorization.csv")
    scores = load_scores(tmp_path / "memorization.npz")
    np.testing.assert_array_equal(frame["score"].to_numpy(np.float32), scores.scores)
    np.testing.assert_array_equal(frame["published_index"], zoo[3]["train__index"])
    ends = [original(end, zoo) for end in memorization_interval(zoo[1][0.5])]
    np.testing.assert_array_equal((scores.low, scores.high), ends)
    kept = pandas.read_parquet(tmp_path / "keep.parquet")["original_index"]
    np.testing.assert_array_equal(kept, load_indices(tmp_path / "keep.npz")[0])


@pytest.mark.parametrize("name", ["mem.txt", "mem", ".", "mem.npy"])
def test_names_of_other_formats_are_refused_before_the_work(zoo, tmp_path, capsys, monkeypatch, name):
    monkeypatch.setattr(RunTable, "from_zoo", lambda *_: pytest.fail("runs were read"))
    assert run(zoo, "memorization", tmp_path / name, "--subset-ratio", "0.5") == 1
    assert "the file name must end in one of .npz, .csv, .parquet" in capsys.readouterr().err
    assert run(zoo, "memorization", "s3://bucket/mem.npz", "--subset-ratio", "0.5") == 1
    assert "is a URL" in capsys.readouterr().err


def without_data(zoo, statistic, out, *words):
    return main(["stats", statistic, str(zoo[0]), "--experiment", "tiny-mlp", "--out", str(out), *words])


def test_labels_and_order_come_from_a_file_or_are_left_out(zoo, tmp_path, capsys):
    words = ["--subset-ratio", "0.5"]
    assert run(zoo, "memorization", tmp_path / "data.npz", *words) == 0
    labels = {name: array for name, array in zoo[3].items() if "image" not in name}
    np.savez(tmp_path / "labels.npz", **labels)
    for statistic in ("memorization", "pairs", "influence"):
        assert run(zoo, statistic, tmp_path / "data.npz", *words) == 0
        assert (
            without_data(zoo, statistic, tmp_path / "given.npz", *words, "--labels", str(tmp_path / "labels.npz")) == 0
        )
        assert (tmp_path / "data.npz").read_bytes() == (tmp_path / "given.npz").read_bytes()
    assert without_data(zoo, "memorization", tmp_path / "bare.npz", *words) == 0
    scores = load_scores(tmp_path / "bare.npz")
    assert (scores.order, scores.labels) == ("published", None)
    np.testing.assert_array_equal(scores.scores, memorization(zoo[1][0.5]))
    assert without_data(zoo, "pairs", tmp_path / "any.npz", *words, "--any-class") == 0
    assert load_pairs(tmp_path / "any.npz").order == "published"
    capsys.readouterr()
    for statistic, more, message in (
        ("pairs", [], "pairs within classes (--any-class finds all) need labels of the training set: give the data"),
        ("influence", [], "influences within classes need labels of the training set: give the data set (--data)"),
        ("keep", ["--by", "memorization", "--fraction", "1"], "give --data, or --order published"),
        ("memorization", ["--labels", "x", "--data", "y"], "give only one of them"),
        ("memorization", ["--download"], "--download, --skip-checksums and --allow-missing need a data set"),
    ):
        assert without_data(zoo, statistic, tmp_path / "none.npz", *words, *more) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "none.npz").exists()


def test_runs_that_did_not_fit_are_warned_of_and_accuracies_are_a_table(zoo, tmp_path, capsys):
    assert run(zoo, "memorization", tmp_path / "mem.npz", "--subset-ratio", "0.5") == 0
    found = run_accuracies(zoo[1][0.5]).train.mean()
    warning = f"warning: runs at subset ratio 0.5 classify only {found:.1%} of the examples that they trained on"
    assert warning in capsys.readouterr().err
    assert run(zoo, "accuracy", tmp_path / "accuracy.csv") == 0
    lines = capsys.readouterr().out.splitlines()
    frame = pandas.read_csv(tmp_path / "accuracy.csv")
    assert frame["subset_ratio"].tolist() == [0.5, 0.8]
    for line, ratio, runs, mean in zip(lines, (0.5, 0.8), frame["runs"], frame["test_mean"], strict=True):
        assert line.startswith(f"{ratio}: {runs} runs, train ")
        assert f"test {mean:.4f} ± " in line
        assert mean == pytest.approx(run_accuracies(zoo[1][ratio]).test.mean())


def test_table_is_kept_and_used_again(tmp_path, capsys):
    """As long as the records beside the runs say that they are the same."""
    zoo = tmp_path / "zoo"
    trained = ["train", "digits-mlp", "--subset-ratio", "0.5", "--runs", "0-5", "--zoo", str(zoo)]
    assert main(trained) == 0

    def memorize(name, *words):
        where = [str(zoo), "--experiment", "digits-mlp", "--subset-ratio", "0.5", "--table", str(tmp_path / "tables")]
        return main(["stats", "memorization", *where, "--out", str(tmp_path / name), *words])

    assert memorize("one.npz") == 0
    kept = tmp_path / "tables" / "digits-mlp" / "0.5"
    assert RunTable.load(kept).runs == 6
    with mock.patch.object(RunTable, "from_zoo", side_effect=AssertionError("runs were read again")):
        assert memorize("two.npz") == 0
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    assert memorize("three.npz", "--runs", "0-4") == 1
    assert "holds 6 runs, not the 5 asked for" in capsys.readouterr().err
    assert not (tmp_path / "three.npz").exists()

    run = load_run("digits-mlp", 0.5, 3, zoo)
    changed = replace(run.aux, correctness_removed=1 - run.aux.correctness_removed)
    with FolderZoo(zoo) as writable:
        assert writable.put(run.metadata, run.model.state_dict(), changed, overwrite=True)
    assert memorize("four.npz") == 0
    np.testing.assert_array_equal(
        load_scores(tmp_path / "four.npz").scores, memorization(RunTable.from_zoo(zoo, "digits-mlp", 0.5))
    )
    assert (tmp_path / "one.npz").read_bytes() != (tmp_path / "four.npz").read_bytes()


def test_experiment_and_stats_write_equal_files(tmp_path):
    zoo, out = tmp_path / "zoo", tmp_path / "experiment"
    ratios = ["--subset-ratio", "0.5", "0.7"]
    with mock.patch.object(options, "load_data", wraps=options.load_data) as load:
        words = ["--runs", "0-3", "--zoo", str(zoo), "--out", str(out)]
        assert main(["experiment", "digits-mlp", *ratios, *words]) == 0
    assert load.call_count == 1
    for statistic, name, words in (
        ("memorization", "memorization-0.5.npz", ["--subset-ratio", "0.5"]),
        ("pairs", "pairs-0.7.npz", ["--subset-ratio", "0.7"]),
        ("consistency", "cscores.npz", []),
    ):
        other = tmp_path / name
        words = [str(zoo), "--experiment", "digits-mlp", *words, "--out", str(other)]
        assert main(["stats", statistic, *words]) == 0
        assert other.read_bytes() == (out / name).read_bytes()
        with np.load(other) as npz:
            assert npz["order"].item() == "original"
            assert "standard_error" in npz.files


@pytest.mark.parametrize(
    ("statistic", "words", "message"),
    [
        ("memorization", ["--subset-ratio", "0.3"], "runs of tiny-mlp/0.3 are not in"),
        ("memorization", ["--subset-ratio", "0.5", "--runs", "3,99"], "runs 99 of tiny-mlp/0.5 are not in"),
        ("memorization", ["--subset-ratio", "0.5", "--runs", "3"], "run tiny-mlp/0.5/3 is the only one"),
        ("memorization", ["--subset-ratio", "0.5", "--experiment", "other"], "experiment 'other' is not known"),
        ("influence", ["--subset-ratio", "0.5", "--device", "meta"], "device 'meta' cannot be used here"),
        ("pairs", ["--subset-ratio", "0.3", "--device", "cdua"], "did you mean 'cuda'?"),  # before runs are looked for
        ("keep", ["--by", "memorization", "--fraction", "0.5"], "give --subset-ratio, one of 0.5, 0.8"),
        ("keep", ["--by", "consistency", "--fraction", "1", "--runs", "0"], "examples have no score"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(zoo, tmp_path, capsys, statistic, words, message):
    assert run(zoo, statistic, tmp_path / "out.npz", *words) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("error: ")
    assert message in lines[-1]
    assert not (tmp_path / "out.npz").exists()


def test_data_set_of_another_size_is_refused(zoo, tmp_path, capsys):
    short = {name: array[: M - 1] if "test" in name else array for name, array in zoo[3].items()}
    short["test__index"] = np.arange(M - 1)
    np.savez(tmp_path / "short.npz", **short)
    assert (
        run(zoo, "memorization", tmp_path / "out.npz", "--subset-ratio", "0.5", "--data", str(tmp_path / "short.npz"))
        == 1
    )
    assert "has 60 training and 29 test examples, the runs are about 60 and 30" in capsys.readouterr().err


def test_sample_needs_no_data_option(tmp_path):
    command = [sys.executable, "-m", "heldout_torch", "stats", "memorization", str(sample_zoo())]
    command += ["--experiment", "digits-mlp-tf", "--subset-ratio", "0.7", "--out", str(tmp_path / "mem.npz")]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "wrote memorization from" in process.stdout
    assert len(load_scores(tmp_path / "mem.npz").scores) == 1437


def test_an_experiment_without_runs_is_answered_by_what_is_there_and_the_nearest_name(tmp_path, capsys):
    words = ["--experiment", "digits-mlp", "--subset-ratio", "0.7", "--out", str(tmp_path / "m.npz")]
    assert main(["stats", "memorization", str(sample_zoo()), *words]) == 1
    said = capsys.readouterr().err
    assert "holds no runs of digits-mlp; it has digits-mlp-tf/0.7 runs 0-5; did you mean 'digits-mlp-tf'?" in said


def test_examples_without_a_score_are_answered_by_an_option(tmp_path, capsys):
    words = ["--experiment", "digits-mlp-tf", "--by", "memorization", "--fraction", "0.5", "--runs", "0-1"]
    assert main(["stats", "keep", str(sample_zoo()), *words, "--out", str(tmp_path / "keep.npz")]) == 1
    said = capsys.readouterr().err
    assert "examples have no score (NaN); estimate scores from more runs, or with --empty-zero" in said


def test_the_only_experiment_and_the_only_ratio_need_no_naming(zoo, tmp_path, capsys):
    where = [str(zoo[0]), "--data", str(zoo[0] / "tiny.npz"), "--out"]
    assert main(["stats", "consistency", *where, str(tmp_path / "a.npz")]) == 0
    said = capsys.readouterr()
    assert "taking tiny-mlp, the only one there" in said.err
    assert "over 2 subset ratios to" in said.out
    assert main(["stats", "consistency", *where, str(tmp_path / "a.npz"), "--subset-ratio", "0.5"]) == 0
    assert "over 1 subset ratio to" in capsys.readouterr().out
    assert main(["stats", "memorization", *where, str(tmp_path / "a.npz")]) == 1
    ratios = ", ".join(map(repr, sorted(zoo[1])))
    assert f"give --subset-ratio, one of {ratios}" in capsys.readouterr().err

    one = str(sample_zoo())
    for statistic, more in (
        ("memorization", []),
        ("keep", ["--by", "memorization", "--fraction", "0.5", "--empty-zero"]),
        ("influence", []),
        ("pairs", []),
    ):
        assert main(["stats", statistic, one, "--out", str(tmp_path / "one.npz"), *more]) == 0
        assert "taking digits-mlp-tf, the only one there" in capsys.readouterr().err
    assert main(["stats", "memorization", one, "--out", str(tmp_path / "quiet.npz"), "--quiet"]) == 0
    assert "taking" not in capsys.readouterr().err
    named = ["--experiment", "digits-mlp-tf", "--subset-ratio", "0.7"]
    assert main(["stats", "memorization", one, "--out", str(tmp_path / "named.npz"), *named]) == 0
    assert "taking" not in capsys.readouterr().err
    assert (tmp_path / "named.npz").read_bytes() == (tmp_path / "quiet.npz").read_bytes()


def test_of_several_experiments_one_must_be_named(tmp_path, capsys):
    for name in ("one", "two"):
        shutil.copytree(sample_zoo() / "digits-mlp-tf", tmp_path / name)
        (tmp_path / name / "experiment.json").write_bytes(known_experiments()["digits-mlp-tf"].to_bytes())
    for words in (
        ["stats", "memorization", str(tmp_path), "--out", str(tmp_path / "a.npz")],
        ["report", str(tmp_path), "--out", str(tmp_path / "r")],
    ):
        assert main(words) == 1
        assert "give --experiment, one of one, two" in capsys.readouterr().err
    (tmp_path / "none").mkdir()
    assert main(["stats", "accuracy", str(tmp_path / "none")]) == 1
    assert "holds no runs" in capsys.readouterr().err


def read_kept(path):
    return np.load(path)["indices"] if path.endswith(".npz") else pandas.read_csv(path)["original_index"].to_numpy()


@pytest.mark.parametrize("suffix", [".npz", ".csv"])
def test_what_is_kept_can_be_trained_on_whatever_its_suffix(tmp_path, suffix):
    kept = str(tmp_path / f"kept{suffix}")
    keep = ["--by", "memorization", "--fraction", "0.5", "--empty-zero", "--out", kept]
    assert main(["stats", "keep", str(sample_zoo()), *keep, "--quiet"]) == 0
    train = ["--name", "half", "--runs", "0", "--zoo", str(tmp_path / "zoo"), "--quiet"]
    assert main(["train", "digits-mlp", "--subset", kept, *train]) == 0
    (key,) = list_runs(tmp_path / "zoo")
    original = load_dataset("digits").original_index("train").numpy()
    assert set(original[load_run(key, zoo=tmp_path / "zoo").aux.index_train]) == set(read_kept(kept))


def test_a_bad_fraction_is_seen_before_anything_is_fetched_or_read(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HELDOUT_TORCH_OFFLINE", "1")
    for zoo in ([], [str(tmp_path / "none")]):
        by = "memorization" if zoo else "cifar10-cscores"
        words = ["--by", by, "--fraction", "50", "--out", str(tmp_path / "kept.npz")]
        with pytest.raises(SystemExit) as status:
            main(["stats", "keep", *zoo, *words])
        assert status.value.code == 2
        assert "--fraction: '50' is not a number from 0 to 1" in capsys.readouterr().err


def test_published_labels_of_another_data_set_are_refused_before_they_are_fetched(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HELDOUT_TORCH_OFFLINE", "1")
    words = ["--labels", "cifar100-influence", "--out", str(tmp_path / "out.npz")]
    assert main(["stats", "memorization", str(sample_zoo()), *words]) == 1
    assert "cifar100-influence: is about cifar100, the runs are about digits" in capsys.readouterr().err


@pytest.mark.parametrize("statistic", ["pairs", "memorization", "consistency", "accuracy", "report"])
@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (["--experiment", "cifar10-inception"], "holds no runs of cifar10-inception; it has digits-mlp-tf/0.7"),
        (["--experiment", "digits-mlp-tf", "--subset-ratio", "0.3"], "runs of digits-mlp-tf/0.3 are not in"),
        (["--experiment", "digits-mlp-tf", "--runs", "7"], "runs 7 of digits-mlp-tf/0.7 are not in"),
    ],
)
def test_runs_that_are_not_there_are_told_before_any_data_are_looked_for(tmp_path, capsys, statistic, asked, expected):
    words = [statistic] if statistic == "report" else ["stats", statistic]
    if statistic == "report" and len(asked) > 2:
        return  # it is about all runs
    command = [*words, str(sample_zoo()), *asked, "--data", str(tmp_path / "none"), "--out", str(tmp_path / "out.csv")]
    if statistic == "report":
        command[-1] = str(tmp_path / "out")
    assert main(command) == 1
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("statistic", "missing"), [("memorization", 168), ("influence", 168), ("pairs", 168), ("consistency", 165)]
)
def test_examples_without_a_score_are_counted_and_said(tmp_path, capsys, statistic, missing):
    command = ["stats", statistic, str(sample_zoo()), "--out", str(tmp_path / "out.npz")]
    assert main(command) == 0
    assert f"; {missing} of 1437 examples have no score (NaN)\n" in capsys.readouterr().out
    if statistic in ("memorization", "consistency"):
        assert np.isnan(load_scores(tmp_path / "out.npz").scores).sum() == missing
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["without_score"] == missing
    assert main([*command, "--empty-zero"]) == 0
    assert "have no score" not in capsys.readouterr().out


@pytest.mark.parametrize("statistic", ["memorization", "influence", "pairs"])
def test_a_statistic_without_any_estimate_is_refused_before_it_is_written(tmp_path, capsys, statistic):
    zoo = shutil.copytree(sample_zoo(), tmp_path / "zoo")
    for number in range(1, 6):  # runs that all trained on the same examples
        source, target = (zoo / "digits-mlp-tf/0.7" / str(run) / "aux_arrays.npz" for run in (0, number))
        shutil.copyfile(source, target)
    words = [str(zoo), "--out", str(tmp_path / "out.npz")]
    assert main(["stats", statistic, *words]) == 1
    assert "no example has memorization or influence: all 6 runs, such as digits-mlp-tf/0.7/0, trained on the same" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "out.npz").exists()
    assert main(["stats", "consistency", *words]) == 0  # what they held out has a score
    assert "; 1005 of 1437 examples have no score (NaN)" in capsys.readouterr().out
    assert main(["report", str(zoo), "--out", str(tmp_path / "report")]) == 0
    assert "; 1437 of 1437 examples have no memorization (NaN)" in capsys.readouterr().out
