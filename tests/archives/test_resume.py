"""An export by URL that is ended at any moment goes on near there, with the same runs in the end.

Also of archives/archive_record.py.
"""

import base64
import gzip
import io
import json
import random
import shutil
import struct
from contextlib import suppress

import pytest

from heldout_torch.archives.resume import Marks
from heldout_torch.archives.stream import export_archive
from heldout_torch.cli import main
from heldout_torch.zoo.open import open_writable
from heldout_torch.zoo.selection import Selection
from tests.archives.test_unforeseen import EXTRA, add_variables, run_folder
from tests.helpers.archives import EXPERIMENT, archive_record, contents, multiply, pack
from tests.helpers.scripted import Script, serving


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """An archive of 200 runs in order, one of which cannot be converted, and the contents of its export."""
    folder = tmp_path_factory.mktemp("packed")
    tree = multiply(folder / "tree", 200)
    add_variables(run_folder(tree, 10), EXTRA)
    archive = pack(tree, folder / "runs.tar.gz", seed=None)
    with open(archive, "rb") as stream:
        assert sum(outcome.error is None for outcome in export_archive(stream, "runs.tar.gz", folder / "zoo")) == 199
    return archive.read_bytes(), contents(folder / "zoo")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "exports"


class Ended(BaseException):
    """The end of a process, as far as a test can raise it."""


class Stream(io.BytesIO):
    """An archive from some byte on, of which reading ends the process after so many bytes."""

    def __init__(self, data, start, bytes_left):
        super().__init__(data)
        self.seek(start)
        self._left = bytes_left

    def read(self, size=-1):
        data = super().read(size)
        self._left -= len(data)
        if self._left < 0:
            raise Ended
        return data


def export(data, zoo, bytes_left=10**9, options=(), told=None, **more):
    """Export as the command does; returns what became of the runs, and the bytes read."""
    shard = more.get("selection", Selection()).shard
    tell = (told if told is not None else []).append
    marks = Marks.of("http://x/a", len(data), '"one"', open_writable(zoo), shard, options, tell)
    start = marks.start.point.packed if marks.start else 0
    read = []
    outcomes = []
    with suppress(Ended):
        stream = Stream(data, start, bytes_left)
        outcomes.extend(export_archive(stream, "runs.tar.gz", zoo, progress=read.append, marks=marks, **more))
    return outcomes, sum(read)


def end_half_way(data, zoo, cache):
    """End an export on its way, as often as it takes until it has left a mark: converting may lag behind reading."""
    for _ in range(20):
        export(data, zoo, len(data) // 2)
        if list(cache.glob("*.json")):
            return
    raise AssertionError("no mark was left")


def errors(outcomes):
    return [outcome.error for outcome in outcomes if outcome.error is not None]


def test_ends_at_any_moment_cost_little_and_the_zoo_is_the_same(packed, tmp_path):
    data, expected = packed
    moments, total, ends = random.Random(0), 0, 0
    while not (tmp_path / "zoo" / EXPERIMENT / "archive.json").exists():
        outcomes, read = export(data, tmp_path / "zoo", moments.randrange(10**6, len(data) // 2))
        total, ends = total + read, ends + 1
    assert ends >= 3
    # What a read gave is searched when all of it is used; blocks of 33 kB, an eighth of which will do, lie in it.
    assert total < len(data) + 2.5e6 * ends
    assert contents(tmp_path / "zoo") == expected
    (error,) = errors(outcomes)  # in whatever call it came
    assert "2 variables do not belong to mlp" in error
    assert len(outcomes) == 200
    assert archive_record(tmp_path / "zoo") == {
        "name": "runs.tar.gz", "size": len(data), "md5": None, "verified": None,
        "checked_by": "gzip's CRC-32; the CRC-32C of each tensor; no MD5, since it was read in several calls",
    }  # fmt: skip


def test_what_came_to_its_end_leaves_no_mark(packed, tmp_path, cache):
    data, _ = packed
    end_half_way(data, tmp_path / "zoo", cache)
    export(data, tmp_path / "zoo")
    assert list(cache.iterdir()) == []
    end_half_way(data, tmp_path / "zoo", cache)
    chosen = Selection(EXPERIMENT, [0.7], [0, 1])
    assert errors(export(data, tmp_path / "two", selection=chosen, options=("two",))[0]) == []
    assert len(list(cache.iterdir())) == 1  # of the other


def test_marks_count_only_while_the_runs_before_them_are_there(packed, tmp_path, cache):
    data, expected = packed
    end_half_way(data, tmp_path / "zoo", cache)
    there = sorted(path.parent for path in (tmp_path / "zoo").glob("*/*/*/model.safetensors"))
    assert len(there) > 5
    shutil.rmtree(there[0])
    told = []
    outcomes, read = export(data, tmp_path / "zoo", told=told)
    assert read == len(data)
    assert len(errors(outcomes)) == 1
    assert f"lacks run {EXPERIMENT}/0.7/0, which was exported before; the archive is read from its start" in told[0]
    assert contents(tmp_path / "zoo") == expected
    assert archive_record(tmp_path / "zoo")["md5"] is not None


def test_runs_put_off_are_read_again(packed, tmp_path, monkeypatch):
    """A mark behind them would lose them."""
    data, expected = packed
    monkeypatch.setattr("heldout_torch.archives.one_pass.HELD", 60_000)
    put_off = 0
    for _ in range(3):
        outcomes, _ = export(data, tmp_path / "zoo", len(data) * 2 // 3, workers=3)
        put_off += any("postponed" in error for error in errors(outcomes))
    monkeypatch.undo()
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path / "cache"))
    export(data, tmp_path / "zoo")
    assert contents(tmp_path / "zoo") == expected


def test_shards_count_the_same_runs_after_an_end(packed, tmp_path):
    data, expected = packed
    for share in range(3):
        zoo, chosen = tmp_path / str(share), Selection(shard=(share, 3))
        export(data, zoo, len(data) // 2, selection=chosen)
        export(data, zoo, selection=chosen)
    parts = [contents(tmp_path / str(share)) for share in range(3)]
    assert sum(map(len, parts)) == len(expected)
    assert {name: file for part in parts for name, file in part.items()} == expected


def test_a_shard_goes_on_from_a_mark_of_its_own(packed, tmp_path, cache):
    data, _ = packed
    one, other = (Selection(shard=(share, 2)) for share in (0, 1))
    for _ in range(20):
        export(data, tmp_path / "zoo", len(data) // 2, selection=one)
        if list(cache.glob("*.json")):
            break
    told = []
    assert export(data, tmp_path / "zoo", told=told, selection=other)[1] == len(data)
    assert export(data, tmp_path / "zoo", told=told, selection=one)[1] < len(data)
    assert told == []


def test_an_archive_is_the_same_however_its_url_is_signed_and_no_other_is(packed, tmp_path, cache):
    data, _ = packed
    end_half_way(data, tmp_path / "zoo", cache)

    def start(url, more=0):
        return Marks.of(url, len(data) + more, '"one"', open_writable(tmp_path / "zoo"), (0, 1), ()).start

    assert start("http://me:secret@x/a?signature=2#part") is not None
    assert [start("http://x/b"), start("http://y/a"), start("http://x/a", 1)] == [None] * 3


@pytest.mark.parametrize("place", ["half", "end"])
def test_damage_is_found_after_an_end_and_the_next_call_begins_anew(packed, tmp_path, cache, place):
    data, _ = packed
    damaged = bytearray(data)
    damaged[-6 if place == "end" else len(data) * 3 // 4] ^= 1
    end_half_way(bytes(damaged), tmp_path / "zoo", cache)
    outcomes, _ = export(bytes(damaged), tmp_path / "zoo")
    assert any("is damaged or cut off" in error or "damaged" in error for error in errors(outcomes))
    if place == "end":
        assert any(
            "the CRC-32 or the size after the compressed stream does not match" in error for error in errors(outcomes)
        )
    assert list(cache.iterdir()) == []
    assert not (tmp_path / "zoo" / EXPERIMENT / "archive.json").exists()


def test_a_damaged_file_of_marks_is_none(packed, tmp_path, cache, monkeypatch):
    data, expected = packed
    end_half_way(data, tmp_path / "zoo", cache)
    (file,) = cache.iterdir()
    kept = file.read_bytes()
    record = json.loads(kept)
    wrong = (
        b"", b"[" * 100_000, kept[:-5], b"{}", b"[1]",
        json.dumps(record | {"window": 3}).encode(), json.dumps(record | {"window": "%"}).encode(),
        json.dumps(record | {"header": -1}).encode(),
        json.dumps(record | {"point": [1, 2, 3]}).encode(), json.dumps(record | {"met": ["x"]}).encode(),
        json.dumps(record | {"failed": {f"{EXPERIMENT}/0.5/0": "x"}}).encode(),
        json.dumps(record | {"version": 1}).encode(),
        json.dumps(record | {"point": [record["point"][0], record["header"] + 1, 0, 0]}).encode(),
        json.dumps(record | {"point": [*record["point"][:3], record["point"][1] + 1]}).encode(),
        json.dumps(record | {"point": [True, *record["point"][1:]]}).encode(),
        json.dumps(record | {"window": base64.b64encode(bytes(2**15 + 1)).decode()}).encode(),
        json.dumps(record | {"met": 3}).encode(),
    )  # fmt: skip
    for content in wrong:
        file.write_bytes(content)
        assert Marks(file, len(data)).start is None
    file.write_bytes(kept)
    assert Marks(file, len(data)).start is not None
    with monkeypatch.context() as patch:
        patch.setattr("heldout_torch.archives.resume.MARK", len(kept) - 1)
        assert Marks(file, len(data)).start is None
    file.write_bytes(b"{}")
    _, read = export(data, tmp_path / "zoo")
    assert read == len(data)
    assert contents(tmp_path / "zoo") == expected


def test_a_wrong_window_is_an_error_and_no_wrong_run(packed, tmp_path, cache):
    data, expected = packed
    end_half_way(data, tmp_path / "zoo", cache)
    (file,) = cache.iterdir()
    record = json.loads(file.read_bytes())
    file.write_bytes(
        json.dumps(record | {"window": "0" * (len(record["window"]) - 4) + record["window"][-4:]}).encode()
    )
    outcomes, _ = export(data, tmp_path / "zoo")
    assert len(errors(outcomes)) > 1
    assert contents(tmp_path / "zoo").items() <= expected.items()
    export(data, tmp_path / "zoo")
    assert contents(tmp_path / "zoo") == expected


def test_an_archive_of_all_aux_arrays_first_is_read_again(packed, tmp_path):
    """No mark lies before all runs that are not dealt with."""
    tree = multiply(tmp_path / "tree", 60)
    data = pack(tree, tmp_path / "shuffled.tar.gz", seed=3).read_bytes()
    export(data, tmp_path / "zoo", len(data) // 2)
    outcomes, _ = export(data, tmp_path / "zoo")
    assert errors(outcomes) == []
    assert len(contents(tmp_path / "zoo")) == 180


def test_the_command_goes_on_and_says_so(packed, tmp_path, capsys, cache):
    data, expected = packed
    zoo = tmp_path / "zoo"
    with serving(script := Script(data)) as url:
        command = ["export", url, "--zoo", str(zoo)]
        for _ in range(20):
            script.steps = [{"cut": len(data) * 2 // 3}, {"status": 403}]
            assert main(command) == 1
            if list(cache.iterdir()):
                break
        script.steps = []
        assert main(command) == 1
        out, err = capsys.readouterr()
    assert "going on at byte" in err
    assert "2 variables do not belong to mlp" in err
    assert contents(zoo) == expected
    assert archive_record(zoo)["md5"] is None
    skipped = int(out.splitlines()[-1].split("skipped ")[1].split(" ")[0])
    assert skipped > 5


@pytest.mark.parametrize("change", ["etag", "options", "target", "no etag"])
def test_another_export_begins_at_the_start(packed, tmp_path, capsys, cache, change):
    data, _ = packed
    with serving(script := Script(data)) as url:
        for _ in range(20):
            script.steps = [{"cut": len(data) * 2 // 3}, {"status": 403}]
            assert main(["export", url, "--zoo", str(tmp_path / "zoo")]) == 1
            if list(cache.iterdir()):
                break
        script.steps = []
        script.asked.clear()
        more = ["--ignore", "model/ema/*"] if change == "options" else []
        zoo = tmp_path / ("other" if change == "target" else "zoo")
        if change.endswith("etag"):
            script.etag = '"two"' if change == "etag" else None
        main(["export", url, "--zoo", str(zoo), *more])
    assert script.asked[0][0] == 0
    assert ("sends no version (ETag)" in capsys.readouterr().err) == (change == "no etag")


def test_an_index_of_the_same_pass_is_that_of_a_pass_of_its_own(packed, tmp_path):
    data, expected = packed
    (tmp_path / "runs.tar.gz").write_bytes(data)
    index = ["--index", str(tmp_path / "mine.seek"), "--spacing", "500k"]
    assert main(["archive", "index", str(tmp_path / "runs.tar.gz"), "--spacing", "500k"]) == 0
    alone = (tmp_path / "runs.tar.gz.seek").read_bytes()
    assert main(["export", str(tmp_path / "runs.tar.gz"), "--zoo", str(tmp_path / "zoo"), *index]) == 1
    assert (tmp_path / "mine.seek").read_bytes() == alone
    assert contents(tmp_path / "zoo") == expected
    with serving(Script(data)) as url:
        chosen = ["--experiment", EXPERIMENT, "--subset-ratio", "0.7", "--runs", "0"]  # all the same is read to its end
        assert main(["export", url, "--zoo", str(tmp_path / "url"), *index, *chosen]) == 0
    by_url = (tmp_path / "mine.seek").read_bytes()
    assert table(by_url)[0] == table(alone)[0] | {"etag": '"one"'}
    assert table(by_url)[1:] == table(alone)[1:]


def test_an_archive_that_cannot_be_read_leaves_no_index(packed, tmp_path):
    data, _ = packed
    (tmp_path / "runs.tar.gz").write_bytes(data[: len(data) // 2])
    index = ["--index", str(tmp_path / "mine.seek")]
    assert main(["export", str(tmp_path / "runs.tar.gz"), "--zoo", str(tmp_path / "zoo"), *index]) == 1
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "cache") == ["runs.tar.gz", "zoo"]


def table(index):
    (length,) = struct.unpack_from("<Q", index, 8)
    return [json.loads(line) for line in gzip.decompress(index[16 : 16 + length]).splitlines()]
