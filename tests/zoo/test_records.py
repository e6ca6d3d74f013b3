"""A record beside each run: what the files are, and nothing in a foreign one is trusted.

Also of zoo/metadata.py.
"""

import copy
import json
import subprocess

import numpy as np
import pytest

from heldout_torch import ZooError, load_run
from heldout_torch.zoo.copy import check_runs, copy_runs
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.open import open_writable, open_zoo
from heldout_torch.zoo.records import MAX_RECORD, FileRecord, read_record, record_bytes
from tests.helpers.archives import EXPERIMENT
from tests.helpers.changes import changed_at
from tests.helpers.server import Server
from tests.helpers.zoos import export

KEY = RunKey(EXPERIMENT, 0.7, 1)


@pytest.fixture
def folder(tree, tmp_path):
    """The folder of an exported run."""
    export(tree, tmp_path / "zoo", runs=[1])
    return tmp_path / "zoo" / str(KEY)


def test_it_says_what_sha256sum_and_the_aux_arrays_say(folder):
    table = json.loads((folder / "run.json").read_bytes())
    assert list(table) == sorted(table) == ["accuracy", "files", "format_version", "metadata"]
    for name, (size, sha256) in table["files"].items():
        assert subprocess.check_output(["sha256sum", folder / name], text=True).split()[0] == sha256
        assert (folder / name).stat().st_size == size
        file, data = FileRecord(size, sha256), (folder / name).read_bytes()
        for other, good in ((data, True), (data + b"x", False), (data[:-1] + bytes([data[-1] ^ 1]), False)):
            assert file.matches(other) is good
    with np.load(folder / "aux_arrays.npz") as aux:
        accuracy = [aux[f"correctness_{part}"].mean() for part in ("train", "removed", "test")]
    assert table["accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert table["metadata"]["epoch"] == 30
    # Older versions read it: what there is nothing to say of is not there.
    assert not table["metadata"].keys() & {"ignored", "data_sha256", "dtype", "archive"}


def test_reading_gives_what_was_written(folder):
    data = (folder / "run.json").read_bytes()
    record, metadata = read_record(data, KEY, "run.json")
    assert (metadata.key, record.epoch, record.size) == (KEY, 30, sum(f.stat().st_size for f in folder.glob("*[!n]")))
    assert record_bytes(record, metadata) == data


@pytest.mark.parametrize(
    "change",
    [
        changed_at(("format_version",), 2),
        changed_at(("format_version",), None),
        changed_at(("files", "../../x"), [1, "0" * 64]),
        changed_at(("files", "aux_arrays.npz"), None),
        changed_at(("files", "aux_arrays.npz"), [-1, "0" * 64]),
        changed_at(("files", "aux_arrays.npz"), [True, "0" * 64]),
        changed_at(("files", "aux_arrays.npz"), [2**63, "0" * 64]),
        changed_at(("files", "aux_arrays.npz"), [1, None]),
        changed_at(("files", "aux_arrays.npz"), [1, "../" + "0" * 61]),
        changed_at(("files", "aux_arrays.npz"), [1, "0" * 65]),
        changed_at(("files", "aux_arrays.npz"), "xy"),
        changed_at(("files",), []),
        changed_at(("accuracy",), [1, 2, 3]),
        changed_at(("accuracy",), [float("nan"), None, None]),
        changed_at(("accuracy",), [1]),
        changed_at(("metadata",), None),
        changed_at(("metadata",), []),
        changed_at(("metadata", "experiment"), "../x"),
        changed_at(("metadata", "run"), 2),
        changed_at(("metadata", "run"), "1"),
        changed_at(("metadata", "subset_ratio"), 7),
        changed_at(("metadata", "config"), "x"),
        changed_at(("metadata", "config"), None),
        changed_at(("metadata", "epoch"), "x"),
        changed_at(("metadata", "global_step"), True),
        changed_at(("metadata", "dtype"), "float64"),
        changed_at(("metadata", "data_sha256"), 1),
        changed_at(("metadata", "ignored"), "model/ema/*"),
        changed_at(("metadata", "archive"), {}),
        changed_at(("metadata", "format_version"), 2),
        changed_at(("metadata", "nonsense"), 1),
        changed_at(("x" * MAX_RECORD,), 1),
    ],
)
def test_a_foreign_record_is_read_with_suspicion(folder, change):
    table = json.loads((folder / "run.json").read_bytes())
    read_record(json.dumps(table).encode(), KEY, "there")
    changed = copy.deepcopy(table)
    change(changed)
    with pytest.raises(ZooError, match=r"there: ") as error:
        read_record(json.dumps(changed).encode(), KEY, "there")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"{", b"\xff\xfe", b"[" * 60_000, b" " * 70_000])
def test_what_is_no_record_is_refused(data):
    with pytest.raises(ZooError, match=r"there: is not a readable record"):
        read_record(data, KEY, "there")


def test_a_run_that_was_filed_as_another_is_noticed_wherever_it_is_read(tree, tmp_path, monkeypatch):
    """The fault of whoever moved it: the record beside the model is of the folder, and fits its bytes."""
    export(tree, tmp_path / "zoo", runs=[1, 2])
    one, other = (tmp_path / "zoo" / EXPERIMENT / "0.7" / run for run in "12")
    for name in ("aux_arrays.npz", "model.safetensors"):
        (one / name).write_bytes((other / name).read_bytes())
    table, theirs = (json.loads((folder / "run.json").read_bytes()) for folder in (one, other))
    (one / "run.json").write_text(json.dumps({**theirs, "metadata": table["metadata"]}))
    line = r"model\.safetensors: says that it is .*/2, but is in the folder of .*/1$"
    zoo = open_zoo(tmp_path / "zoo")
    assert [outcome.error is None for outcome in check_runs(zoo, zoo.keys())] == [False, True]
    pushed = copy_runs(zoo, open_writable(tmp_path / "pushed"), zoo.keys())
    assert [outcome.error is None for outcome in pushed] == [False, True]
    open_writable(tmp_path / "zoo").index()
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path / "cache"))
    with Server(tmp_path / "zoo").running() as server:
        for place in (zoo, open_zoo(server.url)):
            for read in (place.files, place.state, lambda key, place=place: load_run(key, zoo=place)):
                with pytest.raises(ZooError, match=line):
                    read(KEY)
