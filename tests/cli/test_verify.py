"""`heldout verify`, from TensorFlow's training to the verdict.

Also of cli/sweeps.py.
"""

import json
from dataclasses import replace

import numpy as np
import pytest

from heldout_torch.cli import main
from heldout_torch.data import load_dataset
from heldout_torch.evaluation import verify
from heldout_torch.zoo import AuxArrays, load_run
from tests.evaluation.trained import TEST, TRAIN, trained_run
from tests.helpers.devices import on_cuda


def run_verify(tmp_path, source, *options):
    return main(["verify", str(source), "--results", str(tmp_path / "log.jsonl"), *map(str, options)])


def flip(folder, count):
    """Write wrong correctness for some test examples of a run."""
    aux = AuxArrays.read(folder / "aux_arrays.npz")
    wrong = aux.correctness_test.copy()
    wrong[:count] = 1 - wrong[:count]
    replace(aux, correctness_test=wrong).write(folder / "aux_arrays.npz")


@pytest.mark.parametrize("precision", ["exact", "fast"])
def test_a_run_trained_and_evaluated_by_tensorflow_matches_everywhere(precision, tmp_path, capsys):
    source, zoo = trained_run(), tmp_path / "zoo"
    assert main(["export", str(source), "--zoo", str(zoo)]) == 0
    aux = AuxArrays.read(source / "cifar10-tiny" / "0.7" / "0" / "aux_arrays.npz")
    assert 0.05 < aux.correct_train.mean() < 0.98  # or any order of examples would do
    options = ["--experiment", "cifar10-tiny", "--subset-ratio", 0.7, "--runs", "0-0", "--precision", precision]
    assert run_verify(tmp_path, zoo, *options, "--data", source / "data", "--skip-checksums") == 0
    assert (
        f"run cifar10-tiny/0.7/0: {TRAIN + TEST} out of {TRAIN + TEST} predictions match\n" in capsys.readouterr().out
    )


def test_without_the_mapping_to_published_order_the_same_run_fails():
    source = trained_run()
    dataset = load_dataset("cifar10", source / "data", verify_checksums=False)
    run = load_run("cifar10-tiny", 0.7, 0, source)

    def unmapped(split):
        order = split.original_index.argsort()
        return replace(split, images=split.images[order], labels=split.labels[order])

    verification = verify(run, replace(dataset, train=unmapped(dataset.train), test=unmapped(dataset.test)))
    for name, part in verification.splits.items():
        share = getattr(run.aux, f"correctness_{name}").mean()
        by_chance = 2 * share * (1 - share) * part.examples  # how many mismatch in a random order
        assert by_chance > 5
        assert len(part.mismatched) - part.ties.sum() > 0.5 * by_chance


def test_mismatches_fail_unless_tolerated(tree, tmp_path, capsys):
    flip(tree / "digits-mlp-tf" / "0.7" / "2", 7)
    assert run_verify(tmp_path, tree, "--runs", "1-2") == 1
    output = capsys.readouterr().out
    assert "run digits-mlp-tf/0.7/1: 1797 out of 1797 predictions match\n" in output
    assert "run digits-mlp-tf/0.7/2: 1790 out of 1797 predictions match; mismatched: test 0 (margin " in output
    assert "and 2 more\n1 run verified, 1 with mismatches, 0 failed" in output
    assert run_verify(tmp_path, tree, "--runs", "1-2", "--tolerance", 6) == 1
    assert run_verify(tmp_path, tree, "--runs", "1-2", "--tolerance", 7) == 0
    assert run_verify(tmp_path, tree, "--runs", "2", "--splits", "train", "removed") == 0


def test_a_sweep_goes_on_where_it_stopped(tree, tmp_path, capsys):
    assert run_verify(tmp_path, tree, "--runs", "0-1") == 0
    lines = (tmp_path / "log.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "log.jsonl").write_bytes(lines[0] + lines[1][:50])  # as a killed process leaves it
    capsys.readouterr()
    assert run_verify(tmp_path, tree, "--runs", "0-2") == 0
    output = capsys.readouterr().out
    assert "0.7/0: 1797 out of 1797 predictions match (known)" in output
    assert output.count("(known)") == 1
    assert "3 runs verified" in output
    assert (
        len({json.loads(line)["run"] for line in (tmp_path / "log.jsonl").read_text().splitlines() if line[-1:] == "}"})
        == 3
    )
    flip(tree / "digits-mlp-tf" / "0.7" / "0", 1)  # a changed run is looked at again
    assert run_verify(tmp_path, tree, "--runs", "0-2") == 1


def test_an_interrupted_sweep_keeps_what_is_finished(tree, tmp_path, capsys, monkeypatch):
    import heldout_torch.evaluation.sweep as sweeping

    real, calls = sweeping.load_run, []

    def interrupted(key, **options):
        calls.append(key)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(key, **options)

    monkeypatch.setattr(sweeping, "load_run", interrupted)
    assert run_verify(tmp_path, tree) == 130
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2
    assert run_verify(tmp_path, tree) == 0
    assert capsys.readouterr().out.count("(known)") == 2


def test_shards_divide_the_runs(tree, tmp_path, capsys):
    for shard in ("0/2", "1/2"):
        assert run_verify(tmp_path, tree, "--shard", shard) == 0
    output = capsys.readouterr().out
    assert output.count("3 runs verified") == 2
    assert all(f"0.7/{run}: 1797 out of 1797" in output for run in range(6))


def test_bad_and_missing_runs_are_errors_and_the_others_are_verified(tree, tmp_path, capsys):
    (tree / "digits-mlp-tf" / "0.7" / "1" / "aux_arrays.npz").write_bytes(b"no npz")
    assert run_verify(tmp_path, tree, "--runs", "0-2,40") == 1
    output = capsys.readouterr()
    assert "error: run digits-mlp-tf/0.7/40: is not in" in output.err
    assert "error: run digits-mlp-tf/0.7/1: " in output.err
    assert "aux_arrays.npz: is not a readable npz file" in output.err
    assert "2 runs verified, 0 with mismatches, 2 failed" in output.out


def test_other_data_is_refused(tree, tmp_path, capsys):
    np.savez(
        tmp_path / "other.npz",
        **{f"{split}__image": np.zeros((9, 8, 8), np.uint8) for split in ("train", "test")},
        **{f"{split}__label": np.arange(9) for split in ("train", "test")},
        __num_classes=np.int64(10),
    )
    assert run_verify(tmp_path, tree, "--data", tmp_path / "other.npz", "--runs", 0) == 1
    assert (
        "error: run digits-mlp-tf/0.7/0: its aux arrays are about 360 test examples, the data set digits has 9; is"
        in capsys.readouterr().err
    )
    assert run_verify(tmp_path, tree / "no such") == 1
    assert run_verify(tmp_path, trained_run(), "--runs", "0") == 1
    assert "error: cifar10: give with --data the path of its folder" in capsys.readouterr().err


@on_cuda
def test_cuda_finds_what_the_cpu_finds(tmp_path, device):
    source = trained_run()
    for precision in ("exact", "fast"):
        options = ["--data", source / "data", "--skip-checksums", "--device", f"{device}:0", "--precision", precision]
        assert run_verify(tmp_path / precision, source, *options) == 0


def test_a_run_without_a_model_is_named_once(tmp_path, tree, capsys):
    assert main(["evaluate", str(tree), "--runs", "0", "--out", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    assert run_verify(tmp_path, tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert said.startswith("error: run digits-mlp-tf/0.7/0 in ")
    assert said.count("run digits-mlp-tf/0.7/0") == 1


def test_a_model_changed_on_the_disk_is_no_known_run(tree, tmp_path, capsys):
    zoo = tmp_path / "zoo"
    assert main(["export", str(tree), "--zoo", str(zoo), "--runs", "0-1"]) == 0
    assert run_verify(tmp_path, zoo) == 0
    model = zoo / "digits-mlp-tf" / "0.7" / "1" / "model.safetensors"
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(data)
    for options in ((), ("--results", tmp_path / "another.jsonl")):
        capsys.readouterr()
        assert run_verify(tmp_path, zoo, *options) == 1
        output = capsys.readouterr()
        assert "run digits-mlp-tf/0.7/1: " in output.err
        assert "model.safetensors not as recorded" in output.err
        assert "1 run verified, 0 with mismatches, 1 failed" in output.out


def test_a_file_of_something_else_is_told_before_anything_is_read(tmp_path, capsys):
    """It was appended to."""
    (tmp_path / "log.jsonl").write_text("my notes\n")
    assert run_verify(tmp_path, tmp_path / "nothing") == 1
    assert "log.jsonl: holds something else than results of verify" in capsys.readouterr().err
    assert (tmp_path / "log.jsonl").read_text() == "my notes\n"
