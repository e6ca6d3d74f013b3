"""Export from an archive: equal to the export of the unpacked tree, whatever happens on the way.

Also of archives/convert.py, archives/one_pass.py.
"""

import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from heldout_torch import HeldoutError, ZooError
from heldout_torch.archives import one_pass
from heldout_torch.archives.build_index import build_index
from heldout_torch.archives.stream import export_archive
from heldout_torch.zoo.selection import Selection
from tests.helpers.archives import EXPERIMENT, contents, multiply, pack
from tests.helpers.zoos import export as export_tree
from tests.reference import run_reference

REPOSITORY = Path(__file__).parent.parent.parent


def export(archive, zoo, **options):
    with open(archive, "rb") as stream:
        return list(export_archive(stream, archive.name, zoo, workers=2, **options))


def problems(results):
    return [result.error for result in results if result.error is not None]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A tree of 300 small runs and two of SmallInception's size, its archive in shuffled order, and its export."""
    folder = tmp_path_factory.mktemp("runs")
    tree = multiply(folder / "tree", 300)
    run_reference("published_runs", tree, "cifar10-inception", "0.5", 7, 1234)
    assert not problems(export_tree(tree, folder / "zoo"))
    return tree, pack(tree, folder / "archive.tar.gz"), contents(folder / "zoo")


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """An archive of four small runs in order, and the export of its tree."""
    folder = tmp_path_factory.mktemp("few")
    tree = multiply(folder / "tree", 4)
    export_tree(tree, folder / "zoo")
    return pack(tree, folder / "few.tar.gz", seed=None), contents(folder / "zoo")


def test_a_shuffled_archive_gives_the_bytes_of_the_folder_export(runs, tmp_path):
    _, archive, expected = runs
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    seen = []
    results = export(archive, tmp_path / "zoo", md5=md5, progress=seen.append)
    assert not problems(results)
    assert len(results) == 302
    assert contents(tmp_path / "zoo") == expected
    assert sum(seen) == archive.stat().st_size
    for experiment in (EXPERIMENT, "cifar10-inception"):
        record = json.loads((tmp_path / "zoo" / experiment / "archive.json").read_bytes())
        assert record.pop("checked_by").startswith("MD5 of all its bytes; gzip's CRC-32;")
        assert record == {"name": archive.name, "md5": md5, "size": archive.stat().st_size, "verified": True}


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("kind", ["zoo", "beside", "aux arrays"])
def test_a_packed_zoo_is_told_as_one(few, tmp_path, seed, kind):
    """Somebody packed a zoo and names it as an archive: one line, not one a run."""
    archive, _ = few
    (tmp_path / "a" / "b").mkdir(parents=True)
    zoo = tmp_path / "a" / "b" if kind == "beside" else tmp_path / "a"
    export(archive, zoo)
    if kind == "aux arrays":
        for file in zoo.rglob("model.safetensors"):
            file.unlink()
    packed = pack(tmp_path / "a", tmp_path / "zoo.tar.gz", seed=seed)
    (problem,) = problems(export(packed, tmp_path / "out"))
    assert problem.startswith("zoo.tar.gz: holds a zoo (digits-mlp-tf/0.7/")
    assert problem.endswith("; unpack it, and name its folder")
    with pytest.raises(ZooError, match=r"zoo.tar.gz: holds a zoo"):
        build_index(packed)
    assert not list((tmp_path / "out").rglob("aux_arrays.npz"))


def test_a_file_of_a_zoo_among_an_archives_runs_is_no_obstacle(tmp_path):
    tree = multiply(tmp_path / "tree", 2)
    (tree / EXPERIMENT / "0.7" / "1" / "run.json").write_text("{}")
    assert not problems(export(pack(tree, tmp_path / "few.tar.gz", seed=None), tmp_path / "zoo"))


def test_a_pipe_gives_the_same(runs, tmp_path):
    _, archive, expected = runs
    command = [sys.executable, "tools/export_weights.py", "-", "--zoo", tmp_path / "zoo", "--experiment", EXPERIMENT]
    with subprocess.Popen(["cat", archive], stdout=subprocess.PIPE) as source:
        process = subprocess.run(command, stdin=source.stdout, capture_output=True, text=True, cwd=REPOSITORY)
    assert process.returncode == 0, process.stderr
    assert "exported 300 runs" in process.stdout
    assert contents(tmp_path / "zoo") == {n: data for n, data in expected.items() if n.startswith(EXPERIMENT)}


def test_what_is_there_is_skipped_unless_overwritten(few, tmp_path):
    archive, expected = few
    export(archive, tmp_path / "zoo", selection=Selection(runs=[1, 2]))
    results = export(archive, tmp_path / "zoo")
    assert sorted(result.key.run for result in results if result.skipped) == [1, 2]
    assert contents(tmp_path / "zoo") == expected
    (tmp_path / "zoo" / EXPERIMENT / "0.7/1/model.safetensors").write_bytes(b"")
    export(archive, tmp_path / "zoo", overwrite=True)
    assert contents(tmp_path / "zoo") == expected


def test_shards_share_the_runs(few, tmp_path):
    archive, expected = few
    for share in (0, 1, 2):
        assert not problems(export(archive, tmp_path / str(share), selection=Selection(shard=(share, 3))))
    parts = [contents(tmp_path / str(share)) for share in (0, 1, 2)]
    assert sum(map(len, parts)) == len(expected)
    assert {name: data for part in parts for name, data in part.items()} == expected


def test_a_wrong_md5_is_an_error_and_recorded(few, runs, tmp_path):
    archive, expected = few
    (error,) = problems(export(archive, tmp_path / "zoo", md5="0" * 32))
    assert "MD5 is" in error
    assert json.loads((tmp_path / "zoo" / EXPERIMENT / "archive.json").read_bytes())["verified"] is False
    assert contents(tmp_path / "zoo") == expected
    # Another archive of a published experiment is not the published one.
    selection = Selection(experiment="cifar10-inception")
    (error,) = problems(export(runs[1], tmp_path / "other", selection=selection))
    assert "expected bc3b75203381709f8224810946be14b1 (published for cifar10-inception" in error


def test_without_a_published_md5_none_is_claimed(few, tmp_path):
    export(few[0], tmp_path / "zoo")
    assert json.loads((tmp_path / "zoo" / EXPERIMENT / "archive.json").read_bytes())["verified"] is None


def test_memory_full_of_parts_puts_runs_off_until_the_next_call(runs, tmp_path, monkeypatch):
    _, archive, expected = runs
    monkeypatch.setattr(one_pass, "HELD", 4_000_000)
    selection = Selection(experiment=EXPERIMENT)
    put_off = problems(export(archive, tmp_path / "zoo", selection=selection))
    assert 0 < len(put_off) < 300
    assert all("postponed" in error for error in put_off)
    for _ in range(20):
        if not put_off:
            break
        before, put_off = len(put_off), problems(export(archive, tmp_path / "zoo", selection=selection))
        assert len(put_off) < before
    assert contents(tmp_path / "zoo") == {n: data for n, data in expected.items() if n.startswith(EXPERIMENT)}


def test_an_archive_without_a_run_asked_for_is_an_error(few, tmp_path):
    for selection in (Selection(runs=[99]), Selection(experiment="other"), Selection(subset_ratios=[0.1])):
        (error,) = problems(export(few[0], tmp_path / "zoo", selection=selection))
        assert error == "few.tar.gz: has none of the selected runs <experiment>/<subset_ratio>/<run>/"
    assert not (tmp_path / "zoo").exists()


def test_a_missing_package_is_asked_for(few, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "isal", None)
    with pytest.raises(HeldoutError, match=r"an archive needs isal, which is not installed: pip install isal$"):
        export(few[0], tmp_path / "zoo")


@pytest.mark.slow
def test_twenty_kills_leave_a_valid_zoo_that_the_next_call_completes(runs, tmp_path):
    _, archive, expected = runs
    zoo = tmp_path / "zoo"
    command = [sys.executable, "-m", "heldout_torch", "export", archive, "--zoo", zoo, "--workers", "1"]
    moments = random.Random(0)
    killed_between = 0
    for _ in range(20):
        before = len(contents(zoo))
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            deadline = time.monotonic() + 60
            while (
                len(list(zoo.glob("*/*/[0-9]*"))) * 3 <= before
                and process.poll() is None
                and time.monotonic() < deadline
            ):
                time.sleep(0.005)
            time.sleep(moments.uniform(0, 0.03))
            os.kill(process.pid, signal.SIGKILL)
        found = contents(zoo)
        assert found.items() <= expected.items()
        assert {Path(name).parent for name in found} == {
            Path(n).parent for n in found if n.endswith("model.safetensors")
        }
        killed_between += before < len(found) < len(expected)
    assert killed_between > 5
    selection = ["--experiment", EXPERIMENT]
    assert subprocess.run([*command, *selection], capture_output=True, check=False).returncode == 0
    subprocess.run(command, capture_output=True, check=False)
    assert contents(zoo) == expected


def test_interrupted_in_the_middle_the_finished_runs_stay(runs, tmp_path):
    _, archive, expected = runs
    with open(archive, "rb") as stream:
        results = export_archive(stream, archive.name, tmp_path / "zoo", workers=2)
        for _ in range(20):
            next(results)
        results.close()
    found = contents(tmp_path / "zoo")
    assert 40 <= len(found) < len(expected)
    assert found.items() <= expected.items()


def test_an_empty_stream_is_an_error(tmp_path):
    assert "damaged or cut off" in problems(export_archive(io.BytesIO(), "empty", tmp_path / "zoo"))[0]
