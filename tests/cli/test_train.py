"""`heldout train` and `heldout experiment`: what a user sees, whatever happens to the process.

Also of cli/experiment.py.
"""

import os
import random
import resource
import signal
import subprocess
import sys
import time

import fsspec
import numpy as np
import pytest
import torch

from heldout_torch import list_runs, load_run
from heldout_torch.cli import main
from heldout_torch.data import load_digits
from heldout_torch.evaluation import evaluate
from heldout_torch.stats import OutputTable, RunTable, load_pairs, load_scores, memorization, save_indices
from heldout_torch.storage.listing import list_files
from heldout_torch.storage.urls import read_file
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.manifest import Manifest
from heldout_torch.zoo.open import open_writable
from tests.helpers.process import started, wait_for

COMMAND = [sys.executable, "-m", "heldout_torch"]
QUICK = "epochs = 2\nbatch_size = 64\nlearning_rate = 0.1\n"


@pytest.fixture
def quick(tmp_path):
    path = tmp_path / "quick.toml"
    path.write_text(QUICK)
    return str(path)


def words(zoo, *more, verb="train", experiment="digits-mlp", ratio="0.7", runs="0-5"):
    return [verb, experiment, "--runs", runs, "--subset-ratio", ratio, "--zoo", str(zoo), "--device", "cpu", *more]


def contents(zoo):
    return {str(path.relative_to(zoo)): path.read_bytes() for path in sorted(zoo.rglob("*")) if path.is_file()}


def test_runs_are_trained_and_then_skipped(tmp_path, quick, capsys):
    assert main(words(tmp_path / "zoo", "--recipe", quick)) == 0
    output = capsys.readouterr()
    assert "trained 6 runs" in output.out
    assert output.err == ""
    assert main(words(tmp_path / "zoo", "--recipe", quick, runs="4-7")) == 0
    assert "trained 2 runs" in (output := capsys.readouterr().out)
    assert "skipped 2 already there" in output
    assert [key.run for key in list_runs(tmp_path / "zoo")] == list(range(8))


def test_several_devices_share_the_runs(tmp_path, quick, capsys):
    assert main(words(tmp_path / "zoo", "--recipe", quick, "--batch-of-runs", "2", "--device", "cpu", "cpu")) == 0
    assert "trained 6 runs" in capsys.readouterr().out
    assert [key.run for key in list_runs(tmp_path / "zoo")] == list(range(6))


def test_shards_together_are_the_whole(tmp_path, quick):
    for shard in ("0/3", "1/3", "2/3"):
        assert main(words(tmp_path / "shards", "--recipe", quick, "--shard", shard)) == 0
    assert main(words(tmp_path / "whole", "--recipe", quick, "--batch-of-runs", "4")) == 0
    for run in range(6):
        one, other = (load_run("digits-mlp", 0.7, run, tmp_path / zoo).model for zoo in ("shards", "whole"))
        torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=1e-3, atol=1e-4)


def test_an_order_of_no_subset_is_refused(tmp_path, capsys):
    assert main(words(tmp_path / "zoo", "--order", "original")) == 1
    assert "--order says how --subset counts" in capsys.readouterr().err


def test_a_subset_of_another_data_set_is_refused(tmp_path, capsys):
    save_indices(tmp_path / "mnist.npz", np.arange(700), "original", "mnist", 60000)
    command = ["train", "digits-mlp", "--runs", "0", "--subset", str(tmp_path / "mnist.npz"), "--name", "own"]
    assert main([*command, "--zoo", str(tmp_path / "zoo")]) == 1
    assert "is about a training set of dataset mnist, not digits" in capsys.readouterr().err


def test_a_subset_of_ones_own_is_filed_under_a_name_of_ones_own(tmp_path, quick, capsys):
    save_indices(tmp_path / "subset.npz", np.arange(200, 900), "original")
    command = ["train", "digits-mlp", "--runs", "0-1", "--subset", str(tmp_path / "subset.npz"), "--recipe", quick]
    command += ["--zoo", str(tmp_path / "zoo")]
    assert main(command) == 1
    assert "give --name NAME" in capsys.readouterr().err
    assert main([*command, "--name", "digits-mlp-tf"]) == 1  # neither the experiment's nor one's own
    assert "give --name NAME" in capsys.readouterr().err
    assert main([*command, "--name", "without-the-first"]) == 0
    keys = list_runs(tmp_path / "zoo")
    assert [(key.experiment, key.run) for key in keys] == [("without-the-first", 0), ("without-the-first", 1)]
    aux = load_run("without-the-first", keys[0].subset_ratio, 0, tmp_path / "zoo").aux
    assert np.array_equal(aux.subsample_idx, np.arange(200, 900))


def test_another_subset_is_not_filed_under_the_same_name(tmp_path, quick, capsys):
    for name, first in (("half", 0), ("low", 719)):
        save_indices(tmp_path / f"{name}.npz", np.arange(first, first + 718), "original")
    command = ["train", "digits-mlp", "--name", "digits-half", "--recipe", quick, "--zoo", str(tmp_path / "zoo")]
    assert main([*command, "--subset", str(tmp_path / "half.npz"), "--runs", "0-1"]) == 0
    capsys.readouterr()
    assert main([*command, "--subset", str(tmp_path / "low.npz"), "--runs", "10-11"]) == 1
    assert "was trained on another subset; give the new runs another name: --name NAME" in capsys.readouterr().err
    assert main([*command, "--subset-ratio", "0.7", "--runs", "20"]) == 1
    assert "was trained on a given subset, not on the one that its number draws" in capsys.readouterr().err
    assert main([*command, "--subset", str(tmp_path / "half.npz"), "--runs", "0-2"]) == 0
    assert [key.run for key in list_runs(tmp_path / "zoo")] == [0, 1, 2]


def test_an_experiment_on_one_given_subset_is_refused_before_any_training(tmp_path, quick, capsys):
    save_indices(tmp_path / "subset.npz", np.arange(700), "original")
    command = ["experiment", "digits-mlp", "--subset", str(tmp_path / "subset.npz"), "--name", "own", "--runs", "0-3"]
    assert main([*command, "--recipe", quick, "--zoo", str(tmp_path / "zoo")]) == 1
    assert "one given subset say nothing of memorization and influence: use heldout train" in capsys.readouterr().err
    assert not (tmp_path / "zoo").exists()


def test_an_experiment_ends_in_statistics(tmp_path, quick, capsys):
    zoo, out = tmp_path / "zoo", tmp_path / "out"
    command = words(zoo, "0.5", "--recipe", quick, "--out", str(out), verb="experiment", ratio="0.7", runs="0-19")
    command.insert(command.index("0.7") + 1, command.pop(command.index("0.5")))
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "examples memorized at 0.25 or more, most, by original index: " in said
    assert sorted(path.name for path in out.iterdir()) == [
        "cscores.npz", "memorization-0.5.npz", "memorization-0.7.npz", "pairs-0.5.npz", "pairs-0.7.npz",
    ]  # fmt: skip
    table = RunTable.from_zoo(zoo, "digits-mlp", 0.5)
    assert table.runs == 20
    np.testing.assert_array_equal(load_scores(out / "memorization-0.5.npz").scores, memorization(table))
    assert len(load_scores(out / "cscores.npz").scores) == 1437
    assert load_pairs(out / "pairs-0.7.npz") is not None


def test_a_bucket_is_filled_listed_and_counted_over(bucket, tmp_path, quick, capsys):
    zoo, out = f"{bucket}/zoo", tmp_path / "out"
    assert main(words(zoo, "--recipe", quick)) == 0
    assert f"trained 6 runs into {zoo}" in capsys.readouterr().out
    assert main(words(zoo, "--recipe", quick, "--out", str(out), verb="experiment", runs="4-19")) == 0
    assert "trained 14 runs" in (output := capsys.readouterr().out)
    assert "skipped 2 already there" in output
    table = RunTable.from_zoo(zoo, "digits-mlp", 0.7)
    assert table.runs == 20
    np.testing.assert_array_equal(load_scores(out / "memorization-0.7.npz").scores, memorization(table))
    assert main(["zoo", "list", zoo]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 21
    assert main(["zoo", "index", zoo]) == 0
    assert capsys.readouterr().out == f"indexed 20 runs in the manifest {zoo}/manifest.json, 0 damaged\n"
    command = ["stats", "consistency", zoo, "--experiment", "digits-mlp", "--out", str(tmp_path / "scores.npz")]
    assert main(command) == 0
    np.testing.assert_array_equal(load_scores(tmp_path / "scores.npz").scores, load_scores(out / "cscores.npz").scores)
    assert main(["zoo", "index", f"{bucket}/other"]) == 1
    assert "is not a zoo: no folder <experiment>/<subset_ratio>/<run> in it has a run.json" in capsys.readouterr().err


def test_statistics_of_a_url_need_a_folder_before_any_training(bucket, quick, capsys):
    assert main(words(bucket, "--recipe", quick, verb="experiment")) == 1
    assert f"error: {bucket} is a URL, but statistics are written into a folder; give --out DIR" in (
        capsys.readouterr().err
    )
    assert list_files(bucket) == {}


@pytest.mark.parametrize(
    ("more", "options", "expected"),
    [
        (["--device", "cuda:99"], {}, "device 'cuda:99' cannot be used"),
        ([], {"experiment": "digits-cnn"}, "'digits-cnn' is not known"),
        ([], {"experiment": "digits-mlp-tf"}, "no recipe is known for digits-mlp-tf: name the experiment's own file"),
        ([], {"experiment": "mnist-mlp"}, "mnist: give with --data the path"),
        ([], {"ratio": "0.01"}, "the subset has 14 examples, fewer than one batch of 32"),
        (["--recipe", "none.toml"], {}, "none.toml: cannot be read"),
        (["--name", "../away"], {}, "is not a name for an experiment"),
        (
            ["--name", "cifar10-inception"],
            {},
            "--name: cifar10-inception is an experiment of the package, whose dataset is",
        ),
        (["--name", "digits-mlp-tf"], {}, "whose config.widths is [64], not [128]; choose another name"),
        (["--shard", "9/10"], {}, "takes none of the 6 runs"),
        (["--data", "none.npz"], {}, "none.npz"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_1(tmp_path, capsys, more, options, expected):
    assert main(words(tmp_path / "zoo", *more, **options)) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert expected in errors[0]


@pytest.mark.parametrize("ratio", ["0", "1", "1.5", "-0.1", "half"])
def test_ratios_outside_0_and_1_are_wrong_usage(tmp_path, capsys, ratio):
    with pytest.raises(SystemExit) as status:
        main(words(tmp_path / "zoo", ratio=ratio))
    assert status.value.code == 2
    assert "subset" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("zoo", "expected"),
    [
        ("http://127.0.0.1:1/zoo", "http://127.0.0.1:1/zoo: is on a web server, which cannot be written"),
        ("nosuch://zoo", "nosuch://zoo: cannot be opened"),
        ("s3://no-such-server/zoo", "cannot be reached, tried 4 times"),
    ],
)
@pytest.mark.parametrize("experiment", ["digits-mlp", "digits-of-mine"])
def test_a_url_that_cannot_be_written_is_one_line(turn_off_server, capsys, zoo, expected, experiment):
    turn_off_server()
    assert main(words(zoo, experiment=experiment)) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert expected in errors[0]


def test_an_upload_that_fails_for_good_is_one_line(bucket, quick, monkeypatch, capsys):
    assert main(words(bucket, "--recipe", quick, runs="0-1")) == 0

    async def refuse(self, path, data, **options):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(fsspec.get_filesystem_class("s3"), "_pipe_file", refuse)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    capsys.readouterr()
    assert main(words(bucket, "--recipe", quick, runs="0-3")) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "cannot be written: " in errors[0]
    assert "(Access Denied)" in errors[0]
    assert [key.run for key in list_runs(bucket)] == [0, 1]


def test_a_diverging_run_is_exit_status_1(tmp_path, capsys):
    (tmp_path / "fast.toml").write_text(QUICK.replace("0.1", "1e6"))
    assert main(words(tmp_path / "zoo", "--recipe", str(tmp_path / "fast.toml"), runs="0-1")) == 1
    output = capsys.readouterr()
    assert "error: run digits-mlp/0.7/1: the loss diverged" in output.err
    assert "2 failed" in output.out
    assert contents(tmp_path / "zoo") == {}


@pytest.mark.parametrize("protocol", ["", "file://"])
def test_a_disk_that_takes_no_more_is_one_line(tmp_path, quick, protocol):
    """Writes really fail here: the process may make no file as large as a model's."""
    process = subprocess.run(
        [*COMMAND, *words(f"{protocol}{tmp_path}/zoo", "--recipe", quick, runs="0-1")],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)),
    )
    assert process.returncode == 1
    assert "Traceback" not in process.stderr
    assert process.stderr.splitlines()[-1].startswith("error: ")
    assert "cannot be written (File too large)" in process.stderr
    assert [name for name in contents(tmp_path / "zoo") if "model" in name or "partial" in name] == []
    assert protocol or contents(tmp_path / "zoo") == {}


def ended_by(number, command, has_begun):
    """Start a training, and send it a signal when it has begun; return its exit status and standard error."""
    with started([*COMMAND, *command], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        wait_for(has_begun)
        process.send_signal(number)
        errors = process.communicate(timeout=60)[1]
    assert "Traceback" not in errors
    assert "run the command again to continue" in errors
    return process.returncode


def test_an_interrupted_training_says_so_and_goes_on(tmp_path):
    command = words(tmp_path / "zoo", "--batch-of-runs", "2", runs="0-99")
    begun = lambda: list(tmp_path.glob("zoo/digits-mlp/0.7/*/model.safetensors"))  # noqa: E731
    assert ended_by(signal.SIGINT, command, begun) == 130
    done = len(list_runs(tmp_path / "zoo"))
    assert 0 < done < 100
    assert main(words(tmp_path / "zoo", runs=f"0-{done}")) == 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_training_into_a_bucket_that_is_ended_leaves_a_manifest_of_what_is_there(bucket, number, status):
    command = words(bucket, "--batch-of-runs", "2", runs="0-99")
    assert ended_by(number, command, lambda: list_runs(bucket)) == status
    done = {key.run for key in list_runs(bucket)}
    assert done == {key.run for key in Manifest.from_bytes(read_file(f"{bucket}/manifest.json"), "manifest").runs}
    assert 0 < len(done) < 100


@pytest.mark.slow
def test_a_training_killed_six_times_gives_the_same_zoo(tmp_path):
    """What one kill of two shows is missed by one call in sixty; `make soak` kills for hours."""
    command = words(tmp_path / "killed", "--batch-of-runs", "5", runs="0-199")
    moments, kills = random.Random(0), 0
    for _ in range(200):
        with subprocess.Popen([*COMMAND, *command], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
            folder = tmp_path / "killed" / "digits-mlp" / "0.7"
            before = len(os.listdir(folder)) if folder.is_dir() else 0
            deadline = time.monotonic() + 60
            while process.poll() is None and time.monotonic() < deadline and kills < 6:
                if folder.is_dir() and len(os.listdir(folder)) > before:  # it trains by now
                    time.sleep(moments.uniform(0, 0.6))
                    process.kill()
                    break
                time.sleep(0.01)
            status = process.wait(timeout=120)
        if status == 0:
            break
        assert status == -signal.SIGKILL
        kills += 1
    assert kills == 6
    assert main(words(tmp_path / "whole", runs="0-199")) == 0
    for run in range(200):
        one, other = (load_run("digits-mlp", 0.7, run, tmp_path / zoo) for zoo in ("killed", "whole"))
        torch.testing.assert_close(one.model.state_dict(), other.model.state_dict(), rtol=1e-3, atol=1e-4)
        for name, array in vars(one.aux).items():
            np.testing.assert_array_equal(array, getattr(other.aux, name))
    assert [key.run for key in list_runs(tmp_path / "killed")] == list(range(200))


def test_outputs_are_saved_with_the_runs_and_what_lacks_them_gets_them(tmp_path, quick, capsys):
    zoo = str(tmp_path / "zoo")
    assert main(words(zoo, "--recipe", quick)) == 0
    trained = {path: path.stat().st_mtime_ns for path in (tmp_path / "zoo").rglob("aux_arrays.npz")}
    capsys.readouterr()
    assert main(words(zoo, "--recipe", quick, "--save", "outputs")) == 0
    assert f"wrote outputs of 6 runs into {zoo}, skipped 0 already there, 0 failed\n" in capsys.readouterr().out
    assert trained == {path: path.stat().st_mtime_ns for path in (tmp_path / "zoo").rglob("aux_arrays.npz")}
    table = OutputTable.load(tmp_path / "zoo" / "digits-mlp" / "0.7" / "outputs")
    bits = RunTable.from_zoo(zoo, "digits-mlp", 0.7)
    assert table.keys == bits.keys
    np.testing.assert_array_equal(table.mask(), bits.mask())
    for margins, correct in ((table.margins_train, bits.correct("train")), (table.margins_test, bits.correct("test"))):
        assert correct[margins > 0].all()  # where its label has more than half of the probability
        assert not correct[margins < np.log(1 / 9)].any()  # less than one in ten classes has at least
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "zoo").rglob("*.npy")}
    assert main(words(zoo, "--recipe", quick, "--save", "outputs")) == 0
    assert "wrote outputs of 0 runs into" in (said := capsys.readouterr().out)
    assert "skipped 6 already there" in said
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "zoo").rglob("*.npy")}
    assert main(words("memory://bucket/zoo", "--recipe", quick, "--save", "outputs")) == 1
    assert "outputs are written into a folder on this machine" in capsys.readouterr().err
    assert not fsspec.filesystem("memory").find("/bucket/zoo")  # nothing was trained in vain


def test_outputs_of_more_runs_are_added_to_those_that_are_there(tmp_path, quick, capsys):
    zoo = tmp_path / "zoo"
    assert main(words(zoo, "--recipe", quick, "--save", "outputs", runs="2-3")) == 0
    before = OutputTable.load(zoo / "digits-mlp" / "0.7" / "outputs")
    capsys.readouterr()
    assert main(words(zoo, "--recipe", quick, "--save", "outputs", runs="0-3")) == 0
    assert "wrote outputs of 2 runs" in (said := capsys.readouterr().out)
    assert "skipped 2 already there" in said.splitlines()[-1]
    table = OutputTable.load(zoo / "digits-mlp" / "0.7" / "outputs")
    assert table.keys == tuple(f"digits-mlp/0.7/{run}" for run in range(4))
    np.testing.assert_array_equal(table.margins_train[2:], before.margins_train)  # the old rows, still open
    assert main(words(zoo, "--recipe", quick, "--save", "outputs", runs="1")) == 0  # those of fewer runs stay
    assert OutputTable.load(zoo / "digits-mlp" / "0.7" / "outputs").keys == table.keys


def test_outputs_made_otherwise_are_refused_before_training_and_can_be_written_elsewhere(tmp_path, quick, capsys):
    zoo, other = tmp_path / "zoo", tmp_path / "other"
    assert main(words(zoo, "--recipe", quick, runs="0-1")) == 0
    assert main(["evaluate", str(zoo), "--out", str(zoo), "--save", "outputs", "--flips"]) == 0
    capsys.readouterr()
    assert main(words(zoo, "--recipe", quick, "--save", "outputs", runs="0-2")) == 1
    said = capsys.readouterr().err
    assert "has outputs made with" in said
    advice = "`heldout evaluate ZOO --out OTHER --save outputs`, and train without --save"
    assert said.endswith(f"{advice}\n")
    assert len(list_runs(zoo)) == 2  # the third was not trained in vain
    assert main(words(zoo, "--recipe", quick, runs="0-2")) == 0  # as advised
    assert main(["evaluate", str(zoo), "--out", str(other), "--save", "outputs"]) == 0
    assert len(OutputTable.load(other / "digits-mlp" / "0.7" / "outputs").keys) == 3


def test_outputs_of_all_shards_lie_in_one_table(tmp_path, quick):
    for shard in ("0/2", "1/2"):
        assert main(words(tmp_path / "zoo", "--recipe", quick, "--save", "outputs", "--shard", shard)) == 0
    table = OutputTable.load(tmp_path / "zoo" / "digits-mlp" / "0.7" / "outputs")
    assert table.keys == tuple(f"digits-mlp/0.7/{run}" for run in range(6))
    for run in (0, 3, 5):
        network = load_run("digits-mlp", 0.7, run, tmp_path / "zoo")
        np.testing.assert_array_equal(table.mask([run])[0], network.aux.trained_on)
        margins = evaluate(network.model, load_digits(), "test").log_odds
        np.testing.assert_allclose(table.margins_test[run], margins, atol=1e-4)


def test_outputs_of_a_run_that_was_replaced_are_made_anew(tmp_path, quick):
    zoo = tmp_path / "zoo"
    assert main(words(zoo, "--recipe", quick, "--save", "outputs")) == 0
    before = OutputTable.load(zoo / "digits-mlp" / "0.7" / "outputs").margins_test.copy()
    one, other = (RunKey("digits-mlp", 0.7, run) for run in (3, 5))
    with open_writable(zoo) as place:
        place.put(place.metadata(one), place.state(other), place.aux(one), overwrite=True)
    assert main(words(zoo, "--recipe", quick, "--save", "outputs")) == 0
    after = OutputTable.load(zoo / "digits-mlp" / "0.7" / "outputs").margins_test
    assert (before == after).all(1).tolist() == [True, True, True, False, True, True]
    margins = evaluate(load_run("digits-mlp", 0.7, 3, zoo).model, load_digits(), "test").log_odds
    np.testing.assert_allclose(after[3], margins, atol=1e-4)
