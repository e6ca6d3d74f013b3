"""A run that is replaced in a bucket or on the Hub: who read the old one before reads the new one afterwards."""

import pytest

from heldout_torch.zoo import sample_zoo
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.open import open_writable, open_zoo
from tests.helpers.hub import Hub

KEY = RunKey("digits-mlp-tf", 0.7, 3)


@pytest.fixture(params=["s3", "hf"])
def location(request, tmp_path, monkeypatch):
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path / "cache"))
    if request.param == "s3":
        yield f"{request.getfixturevalue('bucket')}/zoo"
        return
    pytest.importorskip("huggingface_hub")  # the extra `hub`
    with Hub().serving(tmp_path / "home", monkeypatch) as hub:
        yield hub.location


def test_the_new_run_is_read_by_who_wrote_it_and_by_who_has_the_old_one_in_the_cache(location):
    source = open_zoo(sample_zoo())
    with open_writable(location) as zoo:
        zoo.put_files(source.files(KEY))
    zoo.fetch(KEY, lambda count: None)
    old = zoo.record(KEY)
    state = {name: tensor + 1 for name, tensor in source.state(KEY).items()}
    with zoo:
        assert zoo.put(source.metadata(KEY), state, source.aux(KEY), overwrite=True)
    for reader in (zoo, open_zoo(location)):
        assert reader.record(KEY) != old
        assert reader.state(KEY)["layers.0.bias"].equal(state["layers.0.bias"])
