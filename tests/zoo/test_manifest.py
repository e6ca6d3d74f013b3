"""The manifest: small, and nothing in a foreign one is trusted."""

import copy
import json

import pytest

from heldout_torch import ZooError
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
    manifest = Manifest.from_bytes(data, "manifest.json")
    assert [key.run for key in manifest.runs] == list(range(6))
    assert manifest.to_bytes() == data


RUN = ("experiments", EXPERIMENT, "runs", "0.7", "1")


@pytest.mark.parametrize(
    "change",
    [
        changed_at(("format_version",), 2),
        changed_at(("format_version",), None),
        changed_at(("experiments", "../x"), {"archive": None, "declaration": None, "runs": {"0.7": {"1": {}}}}),
        changed_at(("experiments", EXPERIMENT, "runs", "1.5"), {"1": {}}),
        changed_at(("experiments", EXPERIMENT, "runs", "../.."), {"1": {}}),
        changed_at(("experiments", EXPERIMENT, "runs", "0.7", "-1"), {}),
        changed_at(("experiments", EXPERIMENT, "runs", "0.7", "../x"), {}),
        changed_at((*RUN, "files", "../../x"), [1, "0" * 64]),
        changed_at((*RUN, "files", "aux_arrays.npz"), None),
        changed_at((*RUN, "files"), "x"),
        changed_at((*RUN, "files", "aux_arrays.npz"), [-1, "0" * 64]),
        changed_at((*RUN, "files", "aux_arrays.npz"), [True, "0" * 64]),
        changed_at((*RUN, "files", "aux_arrays.npz"), [1, "../" + "0" * 61]),
        changed_at((*RUN, "files", "aux_arrays.npz"), [1, 7]),
        changed_at((*RUN, "accuracy"), [1, 2, 3]),
        changed_at((*RUN, "accuracy"), ["a", None, None]),
        changed_at((*RUN, "epoch"), "x"),
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
