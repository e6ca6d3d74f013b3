"""Blocks of writing to the Hub: what is held back and when it is sent, and what a refusal leaves."""

import shutil
import tarfile

import pytest

pytest.importorskip("huggingface_hub")  # the extra `hub`

from heldout_torch import ZooError, list_runs, load_run
from heldout_torch.cli import main
from heldout_torch.zoo import hub as zoo_hub
from heldout_torch.zoo import sample_zoo
from heldout_torch.zoo.copy import copy_runs
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.open import open_writable, open_zoo
from tests.helpers.hub import Hub
from tests.helpers.training import train

SOURCE = open_zoo(sample_zoo())
KEYS = [RunKey("digits-mlp-tf", 0.7, run) for run in range(3)]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path / "cache"))
    with Hub().serving(tmp_path / "home", monkeypatch) as serving:
        yield serving


def put(zoo, *keys):
    return [zoo.put_files(SOURCE.files(key)) for key in keys]


def test_without_a_block_a_run_and_a_file_are_there_at_once(hub):
    zoo = open_writable(hub.location)
    assert put(zoo, KEYS[0]) == [True]
    zoo.write("digits-mlp-tf/archive.json", b"{}")
    assert [len(commit) for commit in hub.commits] == [3, 1]
    assert put(zoo, KEYS[0]) == [False]


def test_a_block_sends_a_file_at_its_end_though_no_run_was_put(hub):
    zoo = open_writable(hub.location)
    with zoo:
        put(zoo, KEYS[0])
    before = len(hub.commits)
    with zoo:
        zoo.write("digits-mlp-tf/archive.json", b"{}")
        assert zoo.read("digits-mlp-tf/archive.json") == b"{}"
        assert len(hub.commits) == before
    assert hub.files["digits-mlp-tf/archive.json"] == b"{}"


def test_what_others_wrote_between_two_blocks_is_seen_in_the_second(hub):
    zoo = open_writable(hub.location)
    with zoo:
        put(zoo, KEYS[0])
        assert zoo.missing(KEYS) == KEYS[1:]
    assert zoo.keys() == KEYS[:1]
    put(open_writable(hub.location), KEYS[1])
    with zoo:
        assert zoo.missing(KEYS) == KEYS[2:]
        assert put(zoo, *KEYS) == [False, False, True]
    assert zoo.keys() == KEYS
    del hub.files[f"{KEYS[1]}/run.json"], hub.files[f"{KEYS[1]}/model.safetensors"]
    assert zoo.missing(KEYS) == [KEYS[1]]


def test_half_a_run_is_not_there_and_is_completed(hub):
    zoo = open_writable(hub.location)
    put(zoo, *KEYS[:2])
    for name in ("run.json", "aux_arrays.npz"):
        del hub.files[f"{KEYS[0]}/{name}"]
    assert zoo.missing(KEYS) == [KEYS[0], KEYS[2]]
    with zoo:
        assert put(zoo, KEYS[0]) == [True]
    assert open_zoo(hub.location).files(KEYS[0]) == SOURCE.files(KEYS[0])


def test_a_token_that_may_only_read_is_refused_before_any_work(hub):
    hub.writable = False
    with pytest.raises(ZooError, match=r"access is refused \(403"), open_writable(hub.location):
        pytest.fail("the block began")


def test_a_refusal_at_the_end_is_told_and_the_next_block_begins_anew(hub):
    zoo = open_writable(hub.location)

    def work(error=None):
        with zoo:
            put(zoo, KEYS[0])
            zoo.write("digits-mlp-tf/archive.json", b"{}")
            hub.refused = 403
            if error is not None:
                raise error

    with pytest.raises(ZooError, match="access is refused"):
        work()
    hub.refused = None
    with pytest.raises(ArithmeticError):  # what happened first is told
        work(ArithmeticError())
    hub.refused = None
    with zoo:
        put(zoo, KEYS[1])
    assert open_zoo(hub.location).keys() == [KEYS[1]]
    assert "digits-mlp-tf/archive.json" not in hub.files


def test_a_call_that_was_refused_can_be_made_again(hub):
    """All later ones outside of a block were refused with it."""
    zoo = open_writable(hub.location)
    hub.refused = 403
    for act in (lambda: put(zoo, KEYS[0]), lambda: zoo.write("digits-mlp-tf/archive.json", b"{}")):
        with pytest.raises(ZooError, match="access is refused"):
            act()
    hub.refused = None
    assert put(zoo, KEYS[0]) == [True]
    assert open_zoo(hub.location).files(KEYS[0]) == SOURCE.files(KEYS[0])
    assert "digits-mlp-tf/archive.json" not in hub.files


def test_the_hub_may_be_busy_for_longer_at_the_end_of_hours_of_work(hub, slept):
    hub.waits = [0] * 8
    put(open_writable(hub.location), KEYS[0])
    assert not hub.waits


@pytest.mark.parametrize(
    ("revision", "written"),
    [("v1.2", "v1.2"), ("refs/pr/7", "refs/pr/7"), ("refs/pr/7", "refs%2Fpr%2F7"), ("my/try", "my%2Ftry")],
)
def test_a_revision_is_read_and_written_and_no_other_one(hub, monkeypatch, tmp_path, revision, written):
    hub.revision = revision
    location = f"{hub.location}@{written}"
    monkeypatch.setattr(zoo_hub, "HELD", 1)  # files are sent ahead of their commit
    assert not [outcome for outcome in copy_runs(SOURCE, open_writable(location), KEYS) if outcome.error]
    assert list_runs(location) == KEYS
    assert load_run(KEYS[2], zoo=location).metadata == SOURCE.metadata(KEYS[2])
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(ZooError, match=r"manifest.json: there is no such file"):
        list_runs(hub.location)


def test_a_folder_is_listed_once_for_all_runs_that_may_be_missing(hub):
    zoo = open_writable(hub.location)
    put(zoo, KEYS[0])
    hub.requests.clear()
    assert zoo.missing(KEYS) == KEYS[1:]
    assert hub.requests["tree"] == 1
    assert zoo.missing([]) == []


def test_a_new_data_set_takes_what_an_archive_holds_and_what_is_trained(hub, tmp_path, capsys):
    """Both were refused for the lack of a manifest."""
    assert open_writable(hub.location).keys() == []
    with tarfile.open(tmp_path / "digits-mlp-tf.tar.gz", "w:gz") as archive:
        archive.add(sample_zoo(), "sample")
    assert main(["export", str(tmp_path / "digits-mlp-tf.tar.gz"), "--zoo", hub.location, "--runs", "0-2"]) == 0
    capsys.readouterr()
    assert open_zoo(hub.location).keys() == KEYS
    hub.files.clear()
    assert [result.error for result in train(hub.location, 2)] == [None, None]
    del hub.files["manifest.json"]
    names = [str(key) for key in open_zoo(hub.location).keys("digits-mlp")]
    assert names == ["digits-mlp/0.7/0", "digits-mlp/0.7/1"]
    assert open_zoo(hub.location).keys("another") == []
