"""`heldout verify`, `evaluate` and `train` on a real Ray cluster of this machine give what they give in process.

Also of cluster.py and evaluation/cluster.py.
"""

import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from heldout_torch import list_runs, load_run
from heldout_torch.cli import main
from heldout_torch.experiments import known_experiments
from heldout_torch.zoo import sample_zoo
from tests.cli.test_verify import flip
from tests.helpers.ray_cluster import PretendedRay, one_worker_killed
from tests.helpers.zoos import declare, files_below

RUNS = 48


@pytest.fixture
def zoo(tmp_path):
    """A zoo of many runs, one of which has a wrong record and one of which is damaged."""
    tree, zoo = tmp_path / "tree" / "digits-mlp-tf" / "0.7", tmp_path / "zoo"
    for run in range(RUNS):
        shutil.copytree(sample_zoo() / "digits-mlp-tf" / "0.7" / str(run % 6), tree / str(run))
    flip(tree / "5", 3)
    assert main(["export", str(tmp_path / "tree"), "--zoo", str(zoo)]) == 0
    (zoo / "digits-mlp-tf" / "0.7" / "7" / "model.safetensors").write_bytes(b"damaged")
    return zoo


@pytest.mark.slow
def test_verification_outlives_a_worker_and_finds_what_is_found_here(zoo, cluster, tmp_path, capsys):
    def verify(log, *options):
        capsys.readouterr()
        status = main(["verify", str(zoo), "--results", str(log), *options])
        return status, sorted(capsys.readouterr().out.splitlines()), sorted(log.read_text().splitlines())

    here, there = tmp_path / "here.jsonl", tmp_path / "there.jsonl"
    expected = verify(here)
    assert expected[0] == 1
    assert len(expected[2]) == RUNS - 1
    assert "46 runs verified, 1 with mismatches, 1 failed" in expected[1]
    with one_worker_killed(lambda: there.exists() and there.stat().st_size):
        found = verify(there, "--cluster", cluster)
    assert found == expected
    assert {len(json.loads(line)["splits"]["test"]["mismatched"]) for line in found[2]} == {0, 3}


@pytest.mark.slow
def test_what_a_cluster_writes_is_what_is_written_here(zoo, cluster, tmp_path, monkeypatch, capsys):
    def evaluate(out, *options):
        capsys.readouterr()
        status = main(["evaluate", "tree", "--out", out, "--save", "outputs", "--runs", "0-19", *options])
        return status, sorted(capsys.readouterr().out.replace(out, "OUT").splitlines())

    monkeypatch.chdir(tmp_path)  # where the workers are not
    assert evaluate("there.zoo", "--cluster", cluster) == evaluate("here.zoo")
    assert len(files_below(tmp_path / "here.zoo")) > 60
    assert files_below(tmp_path / "there.zoo") == files_below(tmp_path / "here.zoo")


@pytest.mark.slow
def test_what_a_cluster_trains_is_what_is_trained_here(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the workers are not
    (tmp_path / "quick.toml").write_text("epochs = 2\nbatch_size = 64\nlearning_rate = 0.01\nramp = 0.2\n")
    known = known_experiments()["digits-mlp"]
    convolutions = {"in_channels": 1, "num_classes": 10}
    declare(replace(known, name="conv", architecture="small_inception", config=convolutions), tmp_path / "conv")
    for name, runs, together in (("digits-mlp", "0-5", "2"), ("conv", "0-1", "1")):
        for zoo, options in (("there.zoo", ["--cluster", cluster]), ("here.zoo", [])):
            if name == "conv":
                shutil.copytree(tmp_path / "conv", tmp_path / zoo / "conv")
            words = ["train", name, "--runs", runs, "--subset-ratio", "0.5", "0.1", "--recipe", "quick.toml"]
            assert main([*words, "--batch-of-runs", together, "--zoo", zoo, *options]) == 0
    keys = list_runs("here.zoo")
    assert len(keys) == 16
    assert list_runs("there.zoo") == keys
    for key in keys:
        one, other = (load_run(key, zoo=zoo) for zoo in ("there.zoo", "here.zoo"))
        torch.testing.assert_close(one.model.state_dict(), other.model.state_dict(), rtol=1e-3, atol=1e-4)
        for part, array in vars(one.aux).items():
            np.testing.assert_array_equal(array, getattr(other.aux, part), part)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "work on a cluster needs ray, which is not installed: pip install ray"),
        (
            ["--device", "cuda:0"],
            "device 'cuda:0' cannot be chosen on a cluster, expected cpu or cuda; a task uses one GPU",
        ),
        (
            ["--device", "cuda", "cpu"],
            "device 'cuda cpu' cannot be chosen on a cluster, expected cpu or cuda; a task uses one GPU",
        ),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.setitem(sys.modules, "ray", None)
    for command in (["verify"], ["evaluate", "--out", str(tmp_path / "out")]):
        assert main([command[0], str(sample_zoo()), *command[1:], "--cluster", "auto", *options]) == 1
        assert capsys.readouterr().err == f"error: {message}\n"
    assert not (tmp_path / "out").exists()


def test_a_file_is_no_work_for_a_cluster(tmp_path, capsys):
    arguments = ["evaluate", "network.safetensors", "--out", str(tmp_path / "aux.npz"), "--cluster", "auto"]
    assert main(arguments) == 1
    assert capsys.readouterr().err == "error: --cluster is for the runs of a zoo: a .safetensors file is one network\n"


@pytest.mark.parametrize(
    ("resources", "options", "device", "tasks"),
    [
        ({"CPU": 8.0, "GPU": 2.0}, [], "cuda", [3, 3]),
        ({"CPU": 3.0}, [], "cpu", [2, 2, 2]),
        ({"CPU": 3.0, "GPU": 2.0}, ["--device", "cpu"], "cpu", [2, 2, 2]),
    ],
)
def test_a_cluster_s_gpus_are_used_though_this_machine_has_none(monkeypatch, resources, options, device, tasks):
    ray = PretendedRay(resources)
    ray.get = lambda task: ([], 0)
    monkeypatch.setitem(sys.modules, "ray", ray)
    assert main(["verify", str(sample_zoo()), "--cluster", "auto", *options]) == 0
    assert [(len(runs), where) for runs, *_, where in ray.called] == [(count, device) for count in tasks]
    assert ray.options == {"num_cpus": int(device == "cpu"), "num_gpus": int(device == "cuda")}


def test_a_cluster_without_gpus_is_told_so(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", PretendedRay({"CPU": 3.0}))
    assert main(["verify", str(sample_zoo()), "--cluster", "auto", "--device", "cuda"]) == 1
    assert capsys.readouterr().err == "error: Ray cluster 'auto' has no GPU, expected one for --device cuda\n"


def test_outputs_of_trained_runs_are_computed_on_the_cluster_too(tmp_path, monkeypatch, capsys):
    recipe = tmp_path / "quick.toml"
    recipe.write_text('epochs = 1\nbatch_size = 128\nlearning_rate = 0.1\ndecay = "constant"\n')
    train = ["train", "digits-mlp", "--runs", "0-2", "--subset-ratio", "0.7", "--zoo", str(tmp_path / "zoo")]
    train += ["--recipe", str(recipe)]
    assert main(train) == 0
    ray = PretendedRay({"CPU": 8.0, "GPU": 2.0})
    ray.get = lambda task: ([], 0)
    monkeypatch.setitem(sys.modules, "ray", ray)
    assert main([*train, "--save", "outputs", "--cluster", "auto", "--device", "cuda"]) == 0, capsys.readouterr().err
    assert [(len(runs), where) for runs, *_, where in ray.called] == [(2, "cuda"), (1, "cuda")]
