"""Training on a real Ray cluster of this machine into a real S3 server, while one of the workers is killed."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from heldout_torch import HeldoutError, list_runs, load_run
from heldout_torch.data import load_digits
from heldout_torch.plugins import load_plugins
from heldout_torch.storage.urls import read_file, remove_file
from heldout_torch.training import Recipe, RunBatch, train_runs
from heldout_torch.zoo import known_experiments
from heldout_torch.zoo.open import open_writable, open_zoo
from tests.helpers.ray_cluster import PretendedRay, one_worker_killed

RUNS = 120


def work(runs=RUNS):
    return RunBatch(
        known_experiments()["digits-mlp"], known_experiments()["digits-mlp"].recipe, 0.7, tuple(range(runs))
    )


@pytest.mark.slow
def test_a_sweep_outlives_a_worker(bucket, cluster, tmp_path):  # the workers must know the server when they start
    # Some runs are there, and work is under way: the moment that hurts.
    with one_worker_killed(lambda: open_zoo(bucket).keys()):
        results = list(train_runs(work(), load_digits(), bucket, batch_of_runs=10, cluster=cluster))
    assert all(result.error is None for result in results)
    assert sorted(result.key.run for result in results) == list(range(RUNS))
    assert [key.run for key in list_runs(bucket)] == list(range(RUNS))
    manifest = read_file(f"{bucket}/manifest.json")
    remove_file(f"{bucket}/manifest.json")
    assert open_writable(bucket).index().manifest.to_bytes() == manifest
    list(train_runs(work(), load_digits(), tmp_path / "here"))
    for run in range(RUNS):
        one, other = (load_run("digits-mlp", 0.7, run, zoo) for zoo in (bucket, tmp_path / "here"))
        torch.testing.assert_close(one.model.state_dict(), other.model.state_dict(), rtol=1e-3, atol=1e-4)
        for name, array in vars(one.aux).items():
            np.testing.assert_array_equal(array, getattr(other.aux, name))


@pytest.mark.slow
def test_workers_import_the_plugins_of_who_asks(cluster, tmp_path):
    load_plugins(["tests.helpers.own_network"])
    config = {"channels": 2, "num_classes": 10}
    own = replace(known_experiments()["digits-mlp"], name="digits-own", architecture="own_net", config=config)
    one_epoch = RunBatch(own, Recipe(epochs=1, batch_size=32, learning_rate=0.01), 0.7, (0, 1))
    results = list(train_runs(one_epoch, load_digits(), tmp_path, cluster=cluster))
    assert sorted((result.key.run, result.error) for result in results) == [(0, None), (1, None)]


@pytest.mark.slow
def test_no_cluster_is_a_one_line_error(tmp_path, monkeypatch):
    services = pytest.importorskip("ray._private.services")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    # Or Ray finds the cluster of another session of the tests on this machine, joins it, and stays in it.
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr(services.psutil, "process_iter", lambda *_, **__: iter(()))
    with pytest.raises(HeldoutError, match=r"Ray cluster 'auto' cannot be reached") as error:
        list(train_runs(work(2), load_digits(), tmp_path, cluster="auto"))
    assert "\n" not in str(error.value)


def test_without_ray_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(HeldoutError, match=r"pip install ray$"):
        list(train_runs(work(2), load_digits(), tmp_path, cluster="auto"))


def test_ray_says_all_of_its_reason_in_one_line(tmp_path, monkeypatch):
    """What Ray's errors begin with is often a heading."""

    def init(**options):
        raise RuntimeError(
            "Version mismatch: The cluster was started with:\n    Ray: 2.9.0\nThis process:\n    Ray: 2.50.1"
        )

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    with pytest.raises(HeldoutError) as error:
        list(train_runs(work(2), load_digits(), tmp_path, cluster="auto"))
    line = "Version mismatch: The cluster was started with: Ray: 2.9.0 This process: Ray: 2.50.1"
    assert str(error.value) == f"Ray cluster 'auto' cannot be reached: {line}"


def test_this_machine_needs_no_gpu_for_those_of_a_cluster(tmp_path, monkeypatch):
    ray = PretendedRay({"CPU": 8.0, "GPU": 2.0})
    monkeypatch.setitem(sys.modules, "ray", ray)
    assert list(train_runs(work(120), load_digits(), tmp_path, "cuda", cluster="auto")) == []
    assert [(len(batch.runs), device) for batch, _, _, device in ray.called] == [(60, "cuda"), (60, "cuda")]
    assert ray.options == {"num_cpus": 0, "num_gpus": 1}
