"""What evaluations were made of, and what is left of it after a kill."""

import shutil

import pytest

from heldout_torch.errors import ZooError
from heldout_torch.evaluation.provenance import Provenance, run_digest
from heldout_torch.zoo import sample_zoo
from heldout_torch.zoo.keys import make_key
from heldout_torch.zoo.open import open_writable, open_zoo

KEY = make_key("digits-mlp-tf", 0.7, 2)


@pytest.fixture
def of_networks(tmp_path):
    """The provenance of evaluations of a network, and of another one under the same name, in one place."""
    other = shutil.copytree(sample_zoo(), tmp_path / "other")
    run = other / "digits-mlp-tf" / "0.7" / "2"
    for file in (other / "digits-mlp-tf" / "0.7" / "3" / "checkpoints").iterdir():
        shutil.copy(file, run / "checkpoints" / file.name)
    out = open_writable(tmp_path / "out")
    return [Provenance(open_zoo(zoo), out, "0" * 64, flips=None) for zoo in (sample_zoo(), other)]


def test_an_evaluation_is_of_one_network(of_networks):
    one, other = of_networks
    assert not one.differs(KEY)  # nothing is known
    with one.of(KEY):
        pass
    assert not one.differs(KEY)
    assert other.differs(KEY)


def test_what_a_kill_left_is_of_no_network(of_networks):
    """Whoever returns to the first network must not take for its own what the second one was about to write."""
    one, other = of_networks
    with one.of(KEY):
        pass
    with pytest.raises(KeyboardInterrupt), other.of(KEY):
        raise KeyboardInterrupt  # the files may be of either network now
    assert one.differs(KEY)
    assert other.differs(KEY)


def test_what_was_changed_on_the_disk_is_not_as_recorded(tmp_path):
    zoo, source = open_writable(tmp_path / "zoo"), open_zoo(sample_zoo())
    with zoo:
        zoo.put_files(source.files(KEY))
    assert run_digest(zoo, KEY) == run_digest(source, KEY)
    model = tmp_path / "zoo" / str(KEY) / "model.safetensors"
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(data)
    with pytest.raises(ZooError, match=r"model\.safetensors not as recorded"):
        run_digest(zoo, KEY)
