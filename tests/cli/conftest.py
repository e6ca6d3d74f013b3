"""Commands that find nothing of the machine they run on."""

import shutil

import pytest

from heldout_torch.zoo import sample_zoo
from tests.helpers.zoos import export


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Each test has a cache folder of its own, and no zoo is named for it."""
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HELDOUT_TORCH_ZOO", raising=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with the sample as `zoo`, and the model of one of its runs."""
    folder = tmp_path_factory.mktemp("made")
    export(sample_zoo(), folder / "zoo")
    shutil.copy(sorted((folder / "zoo").rglob("model.safetensors"))[0], folder / "model.safetensors")
    return folder
