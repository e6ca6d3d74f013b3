"""A folder as a zoo: what a block of writing holds and leaves, and folders that are none of its own."""

import errno
import io
from dataclasses import replace

import pytest

from heldout_torch.errors import UnwritableError, ZooError
from heldout_torch.zoo import folder, known_experiments, sample_zoo
from heldout_torch.zoo.folder import FolderZoo
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.open import open_zoo

KEY = RunKey("digits-mlp-tf", 0.7, 3)


@pytest.fixture
def zoo(tmp_path):
    made = FolderZoo(tmp_path / "zoo")
    made.put_files(open_zoo(sample_zoo()).files(KEY))
    return made


def test_space_is_held_as_long_as_it_is_needed_and_a_full_disk_is_told(zoo, monkeypatch):
    held, asked = io.BytesIO(), []
    monkeypatch.setattr(folder, "reserve", lambda *given: asked.append(given) or held)
    with zoo.space(7):
        assert not held.closed
    assert held.closed
    assert asked == [(zoo.root, 7)]

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(folder, "reserve", full)
    with pytest.raises(UnwritableError, match=r"zoo: cannot be written \(No space left"), zoo.space(7):
        pytest.fail("the work began")


def test_a_folder_that_was_made_for_nothing_goes_and_one_that_was_there_stays(tmp_path):
    for there in (False, True):
        place = tmp_path / "new"
        if there:
            place.mkdir()
        with FolderZoo(place):
            assert place.is_dir()
        assert place.exists() == there


@pytest.mark.parametrize("other", ["0.70/3", "0.7/03"])
def test_a_run_under_another_spelling_is_told_how_a_zoo_calls_it(zoo, other):
    wrong = zoo.root / "digits-mlp-tf" / other
    wrong.parent.mkdir(exist_ok=True)
    (zoo.root / str(KEY)).rename(wrong)
    with pytest.raises(ZooError, match=r"a zoo stores this run under 0.7/3; rename the folder"):
        zoo.keys()
    for path in wrong.iterdir():
        path.unlink()
    assert zoo.keys() == []  # an empty folder is no run, whatever its name


def test_what_lies_below_a_file_is_not_there(zoo):
    assert zoo.read(f"{KEY}/run.json/more.json") is None
    (zoo.root / str(KEY) / "model.safetensors").unlink()
    (zoo.root / str(KEY) / "model.safetensors").mkdir()
    with pytest.raises(ZooError, match=r"model.safetensors: (cannot be read|is a folder)"):
        zoo.state(KEY)


def test_names_that_differ_by_capitals_are_not_mixed_on_a_disk_that_ignores_them(zoo, monkeypatch):
    named = [replace(known_experiments()[KEY.experiment], name=name) for name in ("mine", "Mine")]
    for experiment in named:
        zoo.declare(experiment)  # two folders, where there are capitals
    (zoo.root / "Mine/experiment.json").unlink()
    (zoo.root / "Mine").rmdir()
    exists = type(zoo.root).exists
    monkeypatch.setattr(type(zoo.root), "exists", lambda path: path.name == "Mine" or exists(path))
    with pytest.raises(ZooError, match=r"zoo: has mine, and Mine would be the same folder, .* choose another name"):
        zoo.declare(named[1])
    zoo.declare(named[0])
