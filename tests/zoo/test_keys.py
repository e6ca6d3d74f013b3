"""Runs are found where the layout says, and named in one way."""

import pytest

from heldout_torch import ZooError
from heldout_torch.zoo.keys import RunKey, find_runs, make_key, parse_ratio, parse_runs, parse_shard, run_path


def make_run(folder, in_zoo=False):
    folder.mkdir(parents=True)
    (folder / ("model.safetensors" if in_zoo else "aux_arrays.npz")).touch()


def test_runs_are_found_in_order_whatever_the_ratios_spelling(tmp_path):
    for name in ("0.7/10", "0.70/9", "1e-1/2", "notes/1", "0.7/x", "0.7/.partial-1"):
        make_run(tmp_path / "exp" / name)
    expected = [RunKey("exp", 0.1, 2), RunKey("exp", 0.7, 9), RunKey("exp", 0.7, 10)]
    assert [run.key for run in find_runs(tmp_path)] == expected
    assert [run.key for run in find_runs(tmp_path / "exp")] == expected
    assert list(find_runs(tmp_path, "other")) == []


@pytest.mark.parametrize("name", ["0.70/3", "7e-1/3", "0.7/03"])
def test_a_zoo_spells_ratio_and_run_in_one_way(tmp_path, name):
    make_run(tmp_path / "exp" / name, in_zoo=True)
    with pytest.raises(ZooError, match=r"files this run under 0\.7/3"):
        list(find_runs(tmp_path))


def test_one_run_in_two_folders_is_refused(tmp_path):
    make_run(tmp_path / "exp" / "0.7" / "3")
    make_run(tmp_path / "exp" / "0.70" / "3")
    with pytest.raises(ZooError, match="holds the same run as"):
        list(find_runs(tmp_path))


BAD_KEYS = [
    ("../x", 0.7, 1), ("a/b", 0.7, 1), ("x", 1.0, 1), ("x", 0, 1), ("x", "0.7", 1), ("x", float("nan"), 1),
    ("x", 0.7, -1), ("x", 0.7, 1.0), ("x", 0.7, True),
]  # fmt: skip


@pytest.mark.parametrize("key", BAD_KEYS, ids=str)
def test_keys_that_could_leave_their_place_are_refused(key):
    with pytest.raises(ZooError):
        make_key(*key)


def test_paths_spell_ratios_as_python_does(tmp_path):
    assert run_path(tmp_path, make_key("x", 0.70, 12)) == tmp_path / "x" / "0.7" / "12"


@pytest.mark.parametrize(
    ("text", "ratio"), [("0.7", 0.7), ("7e-1", 0.7), ("0", None), ("1", None), ("x", None), ("nan", None)]
)
def test_ratios(text, ratio):
    assert parse_ratio(text) == ratio


def test_lists_of_runs():
    assert parse_runs("0-3,42,2") == [0, 1, 2, 3, 42]
    for text in ("", "a", "3-1", "1,,2", "-1"):
        with pytest.raises(ZooError, match="no list of runs"):
            parse_runs(text)


def test_shards():
    assert parse_shard("2/3") == (2, 3)
    for text in ("3/3", "1", "-1/3", "a/b"):
        with pytest.raises(ZooError, match="no shard"):
            parse_shard(text)
