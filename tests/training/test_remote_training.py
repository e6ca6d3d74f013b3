"""Training into a bucket: the same runs as into a folder, skipped, gone on with, refused and mended alike."""

from dataclasses import replace

import numpy as np
import pytest

from heldout_torch import ZooError, list_runs, load_run
from heldout_torch.data import load_digits
from heldout_torch.stats import RunTable
from heldout_torch.storage.listing import list_files
from heldout_torch.storage.urls import read_file, remove_file, write_file
from heldout_torch.training import Recipe, loop, train_runs
from heldout_torch.zoo.bucket import BucketZoo
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.open import open_zoo
from tests.helpers.server import Server
from tests.helpers.training import DIGITS, SHORT, train, work


def contents(zoo):
    """Files of a zoo, in a folder or a bucket, by name."""
    return {name: read_file(f"{zoo}/{name}") for name in list_files(str(zoo))}


def runs_in(zoo):
    """A zoo's files but its manifest, which tells of ETags and inodes."""
    return {name: data for name, data in contents(zoo).items() if name != "manifest.json"}


@pytest.fixture
def read(monkeypatch):
    """Names of the runs whose models are read for the manifest, as it happens."""
    runs, read = [], BucketZoo.read

    def note(self, name):
        if name.endswith("model.safetensors"):
            runs.append(int(name.split("/")[2]))
        return read(self, name)

    monkeypatch.setattr(BucketZoo, "read", note)
    return runs


def test_a_bucket_becomes_the_zoo_that_a_folder_becomes(bucket, tmp_path, read):
    results = train(f"{bucket}/zoo/", 4, replace(DIGITS, name="mine"), batch_of_runs=4)
    assert all(result.error is None and not result.skipped for result in results)
    train(tmp_path / "zoo", 4, replace(DIGITS, name="mine"), batch_of_runs=4)
    assert runs_in(f"{bucket}/zoo") == runs_in(tmp_path / "zoo")
    assert read == []
    keys = [RunKey("mine", 0.7, run) for run in range(4)]
    assert list_runs(f"{bucket}/zoo") == keys
    ours, theirs = (load_run("mine", 0.7, 2, zoo) for zoo in (f"{bucket}/zoo", tmp_path / "zoo"))
    assert ours.metadata == theirs.metadata
    assert np.array_equal(ours.aux.correct_test, theirs.aux.correct_test)


def test_runs_that_are_there_are_skipped_and_the_manifest_grows(bucket, read):
    train(bucket, 2)
    before = contents(bucket)
    results = train(bucket, 4)
    assert [result.key.run for result in results if result.skipped] == [0, 1]
    assert sorted(result.key.run for result in results if not result.skipped) == [2, 3]
    assert {name: data for name, data in contents(bucket).items() if name in before and "manifest" not in name} == {
        name: data for name, data in before.items() if "manifest" not in name
    }
    assert [key.run for key in list_runs(bucket)] == [0, 1, 2, 3]
    assert read == []


def test_a_lost_manifest_is_mended_by_calling_again(bucket, read):
    train(bucket, 3)
    manifest = read_file(f"{bucket}/manifest.json")
    remove_file(f"{bucket}/manifest.json")
    assert all(result.skipped for result in train(bucket, 3))
    assert read_file(f"{bucket}/manifest.json") == manifest
    assert read == []


def test_stopped_in_the_middle_it_names_what_is_there_and_goes_on(bucket, tmp_path):
    results = train_runs(work(8, recipe=replace(SHORT, epochs=20)), load_digits(), bucket, batch_of_runs=1)
    next(results)
    results.close()
    stopped_at = len(list_runs(bucket))
    assert 1 <= stopped_at < 8
    assert list_runs(bucket) == [RunKey("digits-mlp", 0.7, run) for run in range(8) if present(bucket, run)]
    finished = train(bucket, 8, DIGITS, replace(SHORT, epochs=20), batch_of_runs=1)
    assert sum(result.skipped for result in finished) == stopped_at
    train(tmp_path / "zoo", 8, DIGITS, replace(SHORT, epochs=20), batch_of_runs=1)
    assert runs_in(bucket) == runs_in(tmp_path / "zoo")


def present(zoo, run):
    return RunKey("digits-mlp", 0.7, run) in open_zoo(zoo)


def test_an_upload_that_breaks_between_aux_arrays_and_model_is_made_good(bucket, monkeypatch):
    def write(location, data):
        if location.endswith("0.7/1/model.safetensors"):
            raise ZooError(f"{location}: cannot be reached")
        write_file(location, data)

    with monkeypatch.context() as patch:
        patch.setattr("heldout_torch.zoo.bucket.write_file", write)
        with pytest.raises(ZooError, match=r"0.7/1/model.safetensors: cannot be reached"):
            train(bucket, 4, batch_of_runs=4)
    assert f"{RunKey('digits-mlp', 0.7, 1)}/aux_arrays.npz" in list_files(bucket)
    assert 1 not in [key.run for key in list_runs(bucket)]
    assert not next(result for result in train(bucket, 4) if result.key.run == 1).skipped
    assert [key.run for key in list_runs(bucket)] == [0, 1, 2, 3]
    assert load_run("digits-mlp", 0.7, 1, bucket).metadata.run == 1


def test_runs_of_another_recipe_or_subset_are_not_mixed(bucket):
    train(bucket, 2)
    with pytest.raises(ZooError, match=rf"in {bucket} was trained by another recipe"):
        train(bucket, 3, DIGITS, replace(SHORT, learning_rate=0.2))
    own = replace(DIGITS, name="mine")
    train(bucket, 1, own, SHORT, 100 / 1437, np.arange(100))
    assert [result.skipped for result in train(bucket, 1, own, SHORT, 100 / 1437, np.arange(100))] == [True]
    with pytest.raises(ZooError, match="another subset"):
        train(bucket, 1, own, SHORT, 100 / 1437, np.arange(100) + 1)


def test_a_run_that_came_while_it_was_trained_stays(bucket, tmp_path):
    """As when a worker dies after it put some runs of its batch, and the batch is trained once more."""
    list(train_runs(work(2), load_digits(), tmp_path / "other", batch_of_runs=1))

    def come(runs, loss):
        for name in ("aux_arrays.npz", "model.safetensors", "run.json"):
            file = f"{RunKey('digits-mlp', 0.7, 1)}/{name}"
            write_file(f"{bucket}/{file}", read_file(f"{tmp_path}/other/{file}") + b"x" * (name[0] == "a"))

    results = train(bucket, 2, batch_of_runs=2, progress=come)
    assert all(result.error is None for result in results)
    assert read_file(f"{bucket}/{RunKey('digits-mlp', 0.7, 1)}/aux_arrays.npz")[-1:] == b"x"


def test_a_long_training_goes_on_from_its_state_in_the_bucket(bucket, monkeypatch):
    recipe = Recipe(2, 24, 0.01, ramp=0.2, decay="linear", augmentation="crop-flip")
    some = replace(work(1, recipe=recipe), runs=(7,))
    undisturbed = list(train_runs(some, load_digits(), f"{bucket}/a"))

    class KilledError(Exception):
        pass

    def kill(runs, loss):
        steps.append(runs)
        if len(steps) == 60:
            raise KilledError

    steps = []
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0)
    with pytest.raises(KilledError):
        list(train_runs(some, load_digits(), f"{bucket}/b", progress=kill))
    (name,) = list_files(f"{bucket}/b")
    assert name.startswith("digits-mlp/0.7/.training-")
    monkeypatch.setattr(loop, "SAVE_SECONDS", 1e9)
    shares = []
    progress = lambda runs, loss: shares.append(runs)  # noqa: E731
    assert list(train_runs(some, load_digits(), f"{bucket}/b", progress=progress)) == undisturbed
    assert shares[0] == pytest.approx(59 * shares[1])
    assert contents(f"{bucket}/b") == contents(f"{bucket}/a")


def test_where_every_run_diverges_nothing_is_left(bucket):
    (result,) = train(bucket, 1, DIGITS, replace(SHORT, learning_rate=1e6))
    assert "the loss diverged" in result.error
    assert list_files(bucket) == {}


def test_a_run_table_of_a_bucket_is_the_folders_without_its_models(bucket, tmp_path):
    for ratio in (0.5, 0.7):
        train(tmp_path / "zoo", 3, replace(DIGITS, name="mine"), SHORT, ratio)
        train(bucket, 3, replace(DIGITS, name="mine"), SHORT, ratio)
    ours, theirs = (RunTable.from_zoo(zoo, "mine", 0.5) for zoo in (bucket, tmp_path / "zoo"))
    assert ours.keys == theirs.keys
    for name in ("packed_trained_on", "packed_correct_train", "packed_correct_test"):
        assert np.array_equal(getattr(ours, name), getattr(theirs, name))
    assert RunTable.from_zoo(bucket, "mine", 0.5, [2, 0]).keys == ("mine/0.5/2", "mine/0.5/0")
    with pytest.raises(ZooError, match=r"runs 3 of mine/0.5 are not in s3://"):
        RunTable.from_zoo(bucket, "mine", 0.5, [3])
    assert list(tmp_path.glob("cache/*/mine/0.5/*/aux_arrays.npz"))
    assert not list(tmp_path.rglob("cache/**/model.safetensors"))


def test_aux_arrays_are_checked_and_fetched_once(tmp_path, monkeypatch):
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path / "cache"))
    train(tmp_path / "zoo", 3)
    with Server(tmp_path / "zoo").running() as server:
        table = RunTable.from_zoo(server.url, "digits-mlp", 0.7)
        again = RunTable.from_zoo(server.url, "digits-mlp", 0.7)
        files = {f"digits-mlp/0.7/{run}/aux_arrays.npz": 1 for run in range(3)}
        assert server.requests == {"manifest.json": 2, **files}
        assert np.array_equal(table.packed_correct_test, again.packed_correct_test)
        (damaged,) = tmp_path.glob("cache/*/digits-mlp/0.7/1/aux_arrays.npz")
        damaged.write_bytes(b"")
        server.faults["digits-mlp/0.7/1/aux_arrays.npz"] = ["wrong"]
        with pytest.raises(ZooError, match="does not have the recorded SHA-256"):
            RunTable.from_zoo(server.url, "digits-mlp", 0.7)
        RunTable.from_zoo(server.url, "digits-mlp", 0.7)
        before = server.requests.total()
        monkeypatch.setenv("HELDOUT_TORCH_OFFLINE", "1")
        assert np.array_equal(
            RunTable.from_zoo(server.url, "digits-mlp", 0.7).packed_correct_test, table.packed_correct_test
        )
        assert server.requests.total() == before


def test_what_cannot_be_written_is_one_line_before_any_training(monkeypatch):
    def trained(runs, loss):
        raise AssertionError("it trains")

    with pytest.raises(ZooError, match=r"http://127.0.0.1:1/zoo: is on a web server, which cannot be written"):
        train("http://127.0.0.1:1/zoo", progress=trained)
    with pytest.raises(ZooError, match="nosuch"):
        train("nosuch://zoo", progress=trained)
    monkeypatch.setenv("HELDOUT_TORCH_OFFLINE", "1")
    with pytest.raises(ZooError, match="HELDOUT_TORCH_OFFLINE"):
        train("s3://bucket/zoo", progress=trained)
