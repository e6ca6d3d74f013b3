"""A bucket that may be read and not be listed is like a web server; what writing to one leaves, and how it ends."""

import pytest

from heldout_torch import ZooError, list_runs
from heldout_torch.errors import UnwritableError
from heldout_torch.storage.listing import list_files
from heldout_torch.storage.urls import remove_file
from heldout_torch.zoo import sample_zoo
from heldout_torch.zoo.copy import copy_runs
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.open import open_writable, open_zoo

KEYS = [RunKey("digits-mlp-tf", 0.7, run) for run in range(2)]


def test_its_runs_are_those_of_the_manifest_and_without_one_it_is_told_why(bucket, monkeypatch, tmp_path):
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path / "cache"))
    list(copy_runs(open_zoo(sample_zoo()), open_writable(bucket), KEYS))

    def refuse(location):
        raise ZooError(f"{location}: access is refused (Access Denied)")

    monkeypatch.setattr("heldout_torch.zoo.bucket.list_files", refuse)
    assert list_runs(bucket) == list_runs(bucket, "digits-mlp-tf") == open_zoo(bucket).keys() == KEYS
    assert open_zoo(bucket).keys("other") == []
    monkeypatch.setattr("heldout_torch.zoo.bucket.list_files", lambda location: pytest.fail("the bucket is asked"))
    assert open_zoo(bucket, offline=True).keys() == KEYS
    monkeypatch.setattr("heldout_torch.zoo.bucket.list_files", refuse)
    remove_file(f"{bucket}/manifest.json")
    for experiment in (None, "digits-mlp-tf"):
        with pytest.raises(ZooError, match=r"access is refused \(Access Denied\)"):
            open_zoo(bucket).keys(experiment)


def test_a_block_leaves_no_probe_and_what_is_missing_keeps_its_order(bucket):
    with open_writable(bucket) as zoo:
        assert zoo.missing(KEYS[::-1]) == KEYS[::-1]
        zoo.put_files(open_zoo(sample_zoo()).files(KEYS[0]))
    folder = f"{KEYS[0]}/"
    assert {name.removeprefix(folder) for name in list_files(bucket)} == {
        "aux_arrays.npz", "model.safetensors", "run.json", "manifest.json",
    }  # fmt: skip


def test_a_bucket_that_takes_nothing_more_ends_a_copy(bucket, monkeypatch):
    def fail(location, data):
        raise ZooError(f"{location}: cannot be reached")

    target = open_writable(bucket)
    monkeypatch.setattr("heldout_torch.zoo.bucket.write_file", fail)
    with pytest.raises(UnwritableError, match="cannot be reached"):
        target.put_files(open_zoo(sample_zoo()).files(KEYS[0]))
