"""The manifest: small, and nothing in a foreign one is trusted."""

import copy
import json

import pytest

from heldout_torch import ZooError
from heldout_torch.zoo import manifest
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.manifest import Manifest
from heldout_torch.zoo.records import FileRecord, RunRecord
from tests.helpers.archives import EXPERIMENT
from tests.helpers.changes import changed_at
from tests.helpers.zoos import export


@pytest.fixture
def data(tree, tmp_path):
    """The manifest of a zoo of the sample's six runs."""
    export(tree, tmp_path / "zoo")
    return (tmp_path / "zoo/manifest.json").read_bytes()


def test_reading_gives_what_was_written(data):
    found = Manifest.from_bytes(data, "manifest.json")
    assert [key.run for key in found.runs] == list(range(6))
    assert found.to_bytes() == data


def test_equal_manifests_are_equal_bytes_in_whatever_order_they_were_made(data):
    found = Manifest.from_bytes(data, "manifest.json")
    found.runs = dict(reversed(found.runs.items()))
    assert found.to_bytes() == data


def test_what_cannot_be_read_may_as_well_not_be_there(data):
    assert Manifest.if_readable(data) == Manifest.from_bytes(data, "manifest.json")
    assert Manifest.if_readable(None) == Manifest.if_readable(data[:-9]) == Manifest()


def renamed(table, old, new):
    """Put what lies under a key under another."""
    table[new] = table.pop(old)


def twice(table, old, new):
    """Put what lies under a key under another, too."""
    table[new] = table[old]


RUN = ("experiments", EXPERIMENT, "runs", "0.7", "1")


@pytest.mark.parametrize(
    "change",
    [
        changed_at(("format_version",), 2),
        changed_at(("format_version",), None),
        lambda table: renamed(table["experiments"], EXPERIMENT, "../x"),
        lambda table: renamed(table["experiments"], EXPERIMENT, "/x"),
        lambda table: renamed(table["experiments"][EXPERIMENT]["runs"], "0.7", "1.5"),
        lambda table: renamed(table["experiments"][EXPERIMENT]["runs"], "0.7", "../.."),
        lambda table: renamed(table["experiments"][EXPERIMENT]["runs"]["0.7"], "1", "-1"),
        lambda table: renamed(table["experiments"][EXPERIMENT]["runs"]["0.7"], "1", "../x"),
        lambda table: twice(table["experiments"][EXPERIMENT]["runs"]["0.7"], "1", "01"),
        lambda table: twice(table["experiments"][EXPERIMENT]["runs"], "0.7", "0.70"),
        changed_at((*RUN, "files", "../../x"), [1, "0" * 64]),
        changed_at((*RUN, "files", "aux_arrays.npz"), None),
        changed_at((*RUN, "files"), "x"),
        changed_at((*RUN, "files", "aux_arrays.npz"), [-1, "0" * 64]),
        changed_at((*RUN, "files", "aux_arrays.npz"), [True, "0" * 64]),
        changed_at((*RUN, "files", "aux_arrays.npz"), [1, "../" + "0" * 61]),
        changed_at((*RUN, "files", "aux_arrays.npz"), [1, 7]),
        changed_at((*RUN, "files", "aux_arrays.npz"), [1, "0" * 65]),
        changed_at((*RUN, "accuracy"), [1, 2, 3]),
        changed_at((*RUN, "accuracy"), ["a", None, None]),
        changed_at((*RUN, "epoch"), "x"),
        changed_at((*RUN, "dtype"), "float64"),
        changed_at(("experiments",), []),
    ],
)
def test_a_foreign_manifest_is_read_with_suspicion(data, change):
    table = json.loads(data)
    Manifest.from_bytes(json.dumps(table).encode(), "there")
    changed = copy.deepcopy(table)
    change(changed)
    with pytest.raises(ZooError):
        Manifest.from_bytes(json.dumps(changed).encode(), "there")


def test_a_foreign_state_of_a_runs_files_is_no_state(data):
    table = json.loads(data)
    changed_at((*RUN, "seen"), [1])(table)
    assert len(Manifest.from_bytes(data, "there").seen) == 6
    assert len(Manifest.from_bytes(json.dumps(table).encode(), "there").seen) == 5


def test_a_manifest_larger_than_any_is_not_parsed(data, monkeypatch):
    monkeypatch.setattr(manifest, "MAX_MANIFEST", len(data))
    Manifest.from_bytes(data, "there")
    with pytest.raises(ZooError, match=r"there: is not a readable manifest \(ValueError: more than"):
        Manifest.from_bytes(data + b" ", "there")


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"{", b"\xff\xfe", b"[" * 10**6])
def test_what_is_no_manifest_is_refused(data):
    with pytest.raises(ZooError, match=r"there: is not a readable manifest"):
        Manifest.from_bytes(data, "there")


def test_twenty_thousand_runs_fit():
    record = RunRecord(
        {name: FileRecord(7_600_000, "0123456789abcdef" * 4) for name in ("model.safetensors", "aux_arrays.npz")},
        80,
        (0.987654, 0.876543, 0.865432),
    )
    runs = {RunKey("cifar10-inception", ratio / 10, run): record for ratio in range(1, 10) for run in range(2223)}
    data = Manifest(runs).to_bytes()
    assert len(runs) > 20_000
    assert len(data) < 6_500_000
    assert Manifest.from_bytes(data, "manifest.json").runs == runs
