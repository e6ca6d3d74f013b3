"""A bucket that may be read and not be listed is like a web server."""

import pytest

from heldout_torch import ZooError, list_runs
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
    assert open_zoo(bucket, offline=True).keys() == KEYS  # as offline nothing is listed
    remove_file(f"{bucket}/manifest.json")
    for experiment in (None, "digits-mlp-tf"):
        with pytest.raises(ZooError, match=r"access is refused \(Access Denied\)"):
            open_zoo(bucket).keys(experiment)
