"""`heldout evaluate`.

Also of cli/evaluate_file.py.
"""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

from heldout_torch.cli import main
from heldout_torch.data import load_dataset, load_digits
from heldout_torch.errors import UnwritableError
from heldout_torch.evaluation import evaluate
from heldout_torch.stats import OutputTable, save_indices
from heldout_torch.zoo import AuxArrays, load_run, sample_zoo
from heldout_torch.zoo.folder import FolderZoo

RUNS = Path("digits-mlp-tf") / "0.7"
SCRIPT = Path(__file__).parents[2] / "examples" / "lira.py"


def run_evaluate(source, out, *options):
    return main(["evaluate", str(source), "--out", str(out), *map(str, options)])


def assert_same(path, recorded):
    written, expected = AuxArrays.read(path), AuxArrays.read(recorded)
    for name in ("trained_on", "correct_train", "correct_test", "subsample_idx"):
        assert np.array_equal(getattr(written, name), getattr(expected, name))


def test_what_is_written_is_what_tensorflow_recorded(tmp_path, capsys):
    assert run_evaluate(sample_zoo(), tmp_path, "--runs", "0-3") == 0
    for run in range(4):
        path = RUNS / str(run) / "aux_arrays.npz"
        assert_same(tmp_path / path, sample_zoo() / path)
    assert "4 runs evaluated" in capsys.readouterr().out
    before = (tmp_path / RUNS / "0" / "aux_arrays.npz").stat()
    assert run_evaluate(sample_zoo(), tmp_path, "--runs", "0-4") == 0
    assert "1 run evaluated" in capsys.readouterr().out
    assert (tmp_path / RUNS / "0" / "aux_arrays.npz").stat() == before
    assert run_evaluate(sample_zoo(), tmp_path, "--runs", "0-1", "--overwrite") == 0
    assert "2 runs evaluated" in capsys.readouterr().out


def test_outputs_of_all_shards_lie_in_one_table_and_lira_reads_them(tmp_path):
    for shard in ("0/2", "1/2"):
        assert run_evaluate(sample_zoo(), tmp_path, "--save", "outputs", "--flips", "--shard", shard) == 0
    folder = tmp_path / RUNS / "outputs"
    table = OutputTable.load(folder)
    assert table.keys == tuple(f"digits-mlp-tf/0.7/{run}" for run in range(6))
    scores, mask = table.margins_train, table.mask()
    for run in range(6):
        assert np.array_equal(mask[run], load_run("digits-mlp-tf", 0.7, run).aux.trained_on)
    assert scores[mask].mean() > scores[~mask].mean()
    printed = subprocess.run([sys.executable, SCRIPT, folder], capture_output=True, text=True, check=True).stdout
    assert "6 runs, 1437 examples" in printed
    assert "at FPR 0.001" in printed


def test_outputs_are_the_log_odds_of_both_splits(tmp_path):
    assert run_evaluate(sample_zoo(), tmp_path, "--runs", "1-2", "--save", "outputs") == 0
    table = OutputTable.load(tmp_path / RUNS / "outputs")
    run = load_run("digits-mlp-tf", 0.7, 2)
    for split, margins in (("train", table.margins_train), ("test", table.margins_test)):
        np.testing.assert_array_equal(margins[1], evaluate(run.model, load_digits(), split).log_odds)
    np.testing.assert_array_equal(table.mask([1])[0], run.aux.trained_on)


def test_outputs_need_a_folder(capsys):
    assert main(["evaluate", str(sample_zoo()), "--out", "memory://bucket/out", "--save", "outputs"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].endswith("written into a folder on this machine, not under a URL")


def test_a_run_whose_outputs_are_missing_is_evaluated_again(tmp_path, capsys):
    assert run_evaluate(sample_zoo(), tmp_path, "--runs", "0-1") == 0
    assert run_evaluate(sample_zoo(), tmp_path, "--runs", "0-1", "--save", "outputs") == 0
    assert "2 runs evaluated" in capsys.readouterr().out.splitlines()[-1]
    assert run_evaluate(sample_zoo(), tmp_path, "--runs", "0-2", "--save", "outputs") == 0
    assert "1 run evaluated" in capsys.readouterr().out.splitlines()[-1]
    assert len(OutputTable.load(tmp_path / RUNS / "outputs").keys) == 3


@pytest.fixture
def own(tmp_path):
    """A network of a user's own, and the subset that it was trained on."""
    run = load_run("digits-mlp-tf", 0.7, 5)
    save_file(run.model.state_dict(), tmp_path / "own.safetensors")
    np.save(tmp_path / "subset.npy", run.aux.subsample_idx)
    return tmp_path / "own.safetensors"


@pytest.mark.parametrize(
    "options",
    [
        ["--experiment", "digits-mlp-tf"],
        ["--architecture", "mlp", "--config", '{"in_features": 64, "widths": [64]}', "--dataset", "digits"],
    ],
)
def test_a_network_of_ones_own_gets_aux_arrays(options, own):
    out = own.parent / "aux_arrays.npz"
    assert run_evaluate(own, out, "--subset", own.parent / "subset.npy", "--order", "published", *options) == 0
    assert_same(out, sample_zoo() / RUNS / "5" / "aux_arrays.npz")


def test_a_network_is_not_evaluated_on_images_that_are_scaled_otherwise(own, capsys):
    digits, data = load_dataset("digits"), own.parent / "digits.npz"
    splits = {"train": digits.train, "test": digits.test}
    images = {f"{name}__image": rows.images[:, 0].numpy() for name, rows in splits.items()}
    np.savez(data, **images, **{f"{name}__label": rows.labels.numpy() for name, rows in splits.items()})
    options = ["--experiment", "digits-mlp-tf", "--subset", own.parent / "subset.npy", "--order", "published"]
    assert run_evaluate(own, own.parent / "out.npz", *options, "--data", data) == 1
    assert (
        "data set digits has divide_by 255, digits-mlp-tf 16; in an npz file, __data_scale is"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--experiment", "digits-mlp-tf"], "give --subset, and --experiment (a name or a file) or"),
        (["--subset", "SUBSET", "--architecture", "mlp"], "give --subset, and --experiment (a name or a file) or"),
        (["--subset", "SUBSET", "--experiment", "mine"], "or one that a file declares: mine.toml, or experiment.json"),
        (["--subset", "SUBSET", "--experiment", "digits-mlp-tf", "--save", "outputs"], "needs the runs of a zoo"),
        (["--subset", "SUBSET", "--experiment", "digits-mlp-tf", "--flips"], "--flips changes only outputs"),
        (["--subset", "OWN", "--experiment", "digits-mlp-tf"], "is a safetensors file, expected indices as .npz, .csv"),
        (["--subset", "SUBSET", "--experiment", "digits-mlp-tf"], "give --order original or published"),
        (["--subset", "NONE", "--experiment", "digits-mlp-tf"], "names no examples"),
        (["--subset", "MNIST", "--experiment", "digits-mlp-tf"], "dataset mnist, not digits"),
        (["--subset", "SUBSET", "--experiment", "cifar10-inception"], "do not fit small_inception"),
        (["--subset", "SUBSET", "--experiment", "digits-mlp-tf", "--device", "cpu", "cpu"], "not on cpu, cpu"),
        (["--subset", "SUBSET", "--experiment", "digits-mlp-tf", "--architecture", "resnet50"], "resnet50"),
        (["--subset", "SUBSET", "--experiment", "digits-mlp-tf", "--config", "{}"], "mlp cannot be built with {}"),
        (["--subset", "SUBSET", "--experiment", "digits-mlp-tf", "--dataset", "digitz"], "'digitz' is not known"),
    ],
)
def test_wrong_use_is_one_clear_line(options, message, own, capsys):
    words = {"SUBSET": str(own.parent / "subset.npy"), "OWN": str(own)}
    for word, indices, dataset in (("NONE", [], None), ("MNIST", [1, 2], "mnist")):
        words[word] = str(own.parent / f"{word}.npz")
        save_indices(words[word], np.array(indices, np.int64), "original", dataset)
    out = own.parent / "aux_arrays.npz"
    assert run_evaluate(own, out, *[words.get(option, option) for option in options]) == 1
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_folder_for_outputs_of_a_file_is_told_that_files_have_none(own, capsys):
    """It was told first to name an npz file."""
    options = ["--subset", own.parent / "subset.npy", "--experiment", "digits-mlp-tf", "--save", "outputs"]
    assert run_evaluate(own, own.parent / "folder", *options) == 1
    assert "--save outputs needs the runs of a zoo" in capsys.readouterr().err


def test_a_file_of_a_network_that_is_none_is_named_before_anything_is_written(own, capsys):
    options = ["--subset", own.parent / "subset.npy", "--order", "published", "--experiment", "digits-mlp-tf"]
    (own.parent / "page.safetensors").write_bytes(b"<html>no</html>")
    for source, out, message in (
        ("absent.safetensors", "a.npz", "absent.safetensors: there is no such file"),
        ("page.safetensors", "a.npz", "page.safetensors: is not a readable safetensors file, but "),
        (own.name, "a.csv", "a.csv: "),
    ):
        assert run_evaluate(own.parent / source, own.parent / out, *options) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {own.parent / message}")
        assert not (own.parent / out).exists()


def test_the_data_set_of_a_file_is_called_as_its_npz_file(own, capsys):
    digits, out = load_digits(), own.parent / "aux_arrays.npz"
    arrays = {}
    for split in ("train", "test"):
        arrays[f"{split}__image"] = getattr(digits, split).images.numpy()[:, 0]
        arrays[f"{split}__label"] = digits.labels(split).numpy()
    np.savez(own.parent / "shades.npz", __data_scale=16, **arrays)
    config = '{"in_features": 64, "widths": [64], "num_classes": 10}'
    which = ["--architecture", "mlp", "--config", config, "--data", own.parent / "shades.npz", "--order", "published"]
    assert run_evaluate(own, out, "--subset", own.parent / "subset.npy", *which) == 0
    known = load_run("digits-mlp-tf", 0.7, 5).aux
    np.testing.assert_array_equal(AuxArrays.read(out).correct_train, known.correct_train)


@pytest.mark.parametrize(("config", "message"), [("{", "is not JSON"), ("[]", "expected a JSON object")])
def test_options_that_are_no_json_are_wrong_usage(config, message, own, capsys):
    with pytest.raises(SystemExit) as stop:
        run_evaluate(own, own.parent / "aux_arrays.npz", "--config", config)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("option", [("--dataset", "digits"), ("--order", "original")])
def test_options_for_a_file_are_refused_for_a_zoo(option, tmp_path, capsys):
    assert run_evaluate(sample_zoo(), tmp_path, *option) == 1
    assert "need a .safetensors file" in capsys.readouterr().err


def test_a_bad_run_leaves_the_others_evaluated(tmp_path, capsys):
    tree = shutil.copytree(sample_zoo(), tmp_path / "tree")
    (tree / RUNS / "1" / "aux_arrays.npz").unlink()
    assert run_evaluate(tree, tmp_path / "out", "--runs", "0-2") == 1
    assert (tmp_path / "out" / RUNS / "2" / "aux_arrays.npz").is_file()
    assert not (tmp_path / "out" / RUNS / "1").exists()
    assert "error: run digits-mlp-tf/0.7/1: " in capsys.readouterr().err


def test_a_zoo_that_takes_no_more_ends_the_work(tmp_path, capsys, monkeypatch):
    """More runs would be evaluated in vain."""
    evaluated = []

    def full(self, run, overwrite=False):
        evaluated.append(run.metadata.key.run)
        raise UnwritableError(f"{self.location}: cannot be written ({os.strerror(errno.ENOSPC)})")

    monkeypatch.setattr(FolderZoo, "put_files", full)
    assert run_evaluate(sample_zoo(), tmp_path) == 1
    assert evaluated == [0]
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line == f"error: {tmp_path}: cannot be written (No space left on device)"


def test_images_that_are_missing_are_noticed_before_anything_is_evaluated(tmp_path, capsys, monkeypatch):
    digits = load_digits()
    monkeypatch.setattr(type(digits), "missing", lambda self, split: ["a.JPEG"] * 3, raising=False)
    save_file(load_run("digits-mlp-tf", 0.7, 3).model.state_dict(), tmp_path / "mine.safetensors")
    np.save(tmp_path / "mine.npy", np.arange(1000))
    file = ("--experiment", "digits-mlp-tf", "--subset", tmp_path / "mine.npy", "--order", "published")
    for source, out, more in ((sample_zoo(), "out", ()), (tmp_path / "mine.safetensors", "out.npz", file)):
        assert run_evaluate(source, tmp_path / out, *more) == 1
        assert (
            "3 images of train are missing, such as a.JPEG, and aux arrays need all of them" in capsys.readouterr().err
        )
        assert not (tmp_path / out).exists()
    assert main(["verify", str(sample_zoo()), "--results", str(tmp_path / "results")]) == 0
