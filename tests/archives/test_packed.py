"""One run out of an archive: equal to the run of the unpacked tree, found without reading what lies before it.

Also of archives/indexed.py, archives/seek_index.py, archives/build_index.py, archives/ranges.py,
archives/hashed_stream.py.
"""

import gzip
import hashlib
import json
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from heldout_torch import HeldoutError, ZooError, list_runs, load_run
from heldout_torch.archives import ranges
from heldout_torch.archives.build_index import build_index
from heldout_torch.archives.seek_index import read_index
from heldout_torch.storage import retries, urls
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.open import open_zoo
from tests.helpers.archives import EXPERIMENT, multiply, pack
from tests.helpers.server import Server

SPACING = 2**16


@pytest.fixture(scope="module")
def indexed(tmp_path_factory):
    """A tree of 200 runs and its shuffled archive, indexed with many points."""
    folder = tmp_path_factory.mktemp("indexed")
    tree = multiply(folder / "tree", 200)
    archive = pack(tree, folder / "archive.tar.gz")
    seen = []
    index = build_index(archive, seen.append, SPACING)
    assert sum(seen) == archive.stat().st_size
    assert read_index(str(archive)) == index
    return tree, archive


def assert_same(run, tree):
    expected = load_run(EXPERIMENT, 0.7, run.metadata.run, tree)
    assert replace(run.metadata, archive=None) == expected.metadata
    for name, tensor in expected.model.state_dict().items():
        assert torch.equal(run.model.state_dict()[name], tensor)
    for name in vars(expected.aux):
        assert np.array_equal(getattr(run.aux, name), getattr(expected.aux, name))


def test_every_run_is_that_of_the_tree(indexed):
    tree, archive = indexed
    assert list_runs(archive) == list_runs(tree)
    for number in range(0, 200, 7):
        assert_same(load_run(EXPERIMENT, 0.7, number, archive), tree)


def test_points_lie_at_their_spacing_and_the_archive_is_named(indexed):
    _, archive = indexed
    index = read_index(str(archive))
    at = [point[1] for point in index.points]
    unpacked = int(subprocess.check_output(f"gzip -dc {archive} | wc -c", shell=True))
    assert min(np.diff(at)) >= SPACING
    assert len(at) > unpacked / (12 * SPACING)  # an eighth of the blocks end with a byte
    assert index.md5 == hashlib.md5(archive.read_bytes()).hexdigest()
    assert index.size == archive.stat().st_size
    assert index.etag is None


def test_a_run_says_which_archive_it_comes_from(indexed):
    _, archive = indexed
    said = {"size": archive.stat().st_size, "md5": hashlib.md5(archive.read_bytes()).hexdigest()}
    metadata = load_run(EXPERIMENT, 0.7, 4, archive).metadata
    assert metadata.archive == said
    assert hash(metadata) == hash(replace(metadata, archive=None))
    digest = hashlib.sha256(Path(f"{archive}.seek").read_bytes()).hexdigest()
    run = load_run(EXPERIMENT, 0.7, 4, archive, index=f"{archive}.seek#sha256={digest}")
    assert run.metadata.archive == said | {"index_sha256": digest}


def test_a_small_archive_needs_no_points(tmp_path):
    tree = multiply(tmp_path / "tree", 3)
    archive = pack(tree, tmp_path / "small.tgz")
    build_index(archive)
    assert_same(load_run(EXPERIMENT, 0.7, 2, archive), tree)


def test_an_index_takes_at_most_one_percent(indexed, tmp_path):
    _, archive = indexed
    shutil.copy(archive, tmp_path / "archive.tar.gz")
    build_index(tmp_path / "archive.tar.gz")
    assert (tmp_path / "archive.tar.gz.seek").stat().st_size < 0.01 * archive.stat().st_size


def test_an_archive_of_several_gzip_members_is_read(tmp_path):
    tree = multiply(tmp_path / "tree", 40)
    stream = gzip.decompress(pack(tree, tmp_path / "one.tar.gz").read_bytes())
    parts = [stream[start : start + 700_001] for start in range(0, len(stream), 700_001)]
    archive = tmp_path / "parts.tar.gz"
    archive.write_bytes(b"".join(map(gzip.compress, parts)))
    build_index(archive, spacing=2**18)
    for number in range(0, 40, 3):
        assert_same(load_run(EXPERIMENT, 0.7, number, archive), tree)


def test_a_web_server_sends_only_what_lies_around_the_run(indexed, monkeypatch):
    tree, archive = indexed
    monkeypatch.setattr(ranges, "READ", 2**16)
    index = read_index(str(archive))
    places = [0, *(point[0] for point in index.points), index.size]
    around = 0  # of each member, from the point before it to the point behind it
    for offset, size in index.files(RunKey(EXPERIMENT, 0.7, 150)).values():
        before = [packed for packed, unpacked, _ in index.points if unpacked <= offset]
        behind = [packed for packed, unpacked, _ in index.points if unpacked >= offset + size]
        around += (behind or places)[0 if behind else -1] - (before or places)[-1 if before else 0]
    with Server(archive.parent).running() as server:
        assert_same(load_run(EXPERIMENT, 0.7, 150, f"{server.url}/{archive.name}"), tree)
        assert server.sent[archive.name] <= around + 100
        assert server.sent[archive.name] < index.size / 3  # its three files lie apart, points 0.1 to 0.7 MB of 7.7
        assert server.sent[archive.name + ".seek"] < archive.with_name("archive.tar.gz.seek").stat().st_size / 2
        server.ranges = False
        monkeypatch.setattr(retries, "WAITS", ())
        before = server.sent[archive.name]
        with pytest.raises(ZooError, match="does not answer range requests"):
            load_run(EXPERIMENT, 0.7, 150, f"{server.url}/{archive.name}")
        assert server.sent[archive.name] == before
        with pytest.raises(ZooError, match="does not answer range requests"):
            urls.check_ranges(f"{server.url}/{archive.name}", archive.stat().st_size)


def copied(indexed, folder):
    for ending in ("", ".seek"):
        shutil.copy(str(indexed[1]) + ending, folder)
    return folder / "archive.tar.gz"


def test_what_is_missing_is_named(indexed, tmp_path):
    archive = copied(indexed, tmp_path)
    with pytest.raises(
        ZooError, match=r"digits-mlp-tf/0.7/999 is not in .*archive.tar.gz; it has digits-mlp-tf/0.7 runs 0-199"
    ):
        load_run(EXPERIMENT, 0.7, 999, archive)
    (tmp_path / "archive.tar.gz.seek").unlink()
    with pytest.raises(ZooError, match=r"absent\.tar\.gz: there is no such archive"):
        load_run(EXPERIMENT, 0.7, 3, tmp_path / "absent.tar.gz")
    with pytest.raises(ZooError, match=r"no seek index; make it with: heldout archive index.* name it with index="):
        load_run(EXPERIMENT, 0.7, 9, archive)
    with pytest.raises(ZooError, match="No such file"):
        build_index(tmp_path / "absent.tar.gz")


def test_an_index_of_another_archive_is_refused(indexed, tmp_path):
    archive = copied(indexed, tmp_path)
    pack(indexed[0], archive, seed=1)
    with pytest.raises(ZooError, match="is the index of another archive"):
        load_run(EXPERIMENT, 0.7, 9, archive)
    shutil.copy(indexed[1], archive)
    assert load_run(EXPERIMENT, 0.7, 9, archive)
    with open(archive, "ab") as file:
        file.write(b"\0")  # the bytes that were the last are where they were
    with pytest.raises(ZooError, match="is the index of another archive"):
        load_run(EXPERIMENT, 0.7, 9, archive)


# What somebody may put into the rows of a table: what the archive is, its points, its runs.
FORGED = {
    "a point behind the archive's end": lambda head, points, runs: points[-1].__setitem__(0, head["size"] + 1),
    "points in no order": lambda head, points, runs: points.reverse(),
    "two points at a byte of the archive": lambda head, points, runs: points[1].__setitem__(0, points[0][0]),
    "two points at a byte of the contents": lambda head, points, runs: points[1].__setitem__(1, points[0][1]),
    "a negative place": lambda head, points, runs: points[0].__setitem__(1, -1),
    "half a place": lambda head, points, runs: points[0].__setitem__(0, 0.5),
    "true for a place": lambda head, points, runs: points[0].__setitem__(0, True),
    "no spacing": lambda head, points, runs: head.update(spacing=0),
    "an archive of 7 bytes": lambda head, points, runs: (head.update(size=7, points=0), points.clear()),
    "a run twice": lambda head, points, runs: runs.append([runs[0][0], {}]),
    "a run less": lambda head, points, runs: runs.pop(),
    "a run more": lambda head, points, runs: head.update(runs=len(runs) - 1),
    "a point more": lambda head, points, runs: head.update(points=len(points) - 1),
    "a run of another place": lambda head, points, runs: runs[0].__setitem__(0, "../0.7/1"),
    "a run of many files": lambda head, points, runs: runs[0][1].update({f"{i}.index": [0, 9] for i in range(64)}),
    "a file before the beginning": lambda head, points, runs: runs[0][1].update({"aux_arrays.npz": [-1, 9]}),
}


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED)
def test_a_table_that_cannot_be_is_no_index(indexed, tmp_path, change):
    path = copied(indexed, tmp_path).with_name("archive.tar.gz.seek")
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data, 8)
    head, *rows = map(json.loads, gzip.decompress(data[16 : 16 + length]).splitlines())
    points, runs = rows[: head["points"]], rows[head["points"] :]
    for changed, end in ((False, b"\n"), (False, b""), (True, b"\n")):
        if changed:
            change(head, points, runs)
        packed = gzip.compress(b"\n".join(json.dumps(row).encode() for row in (head, *points, *runs)) + end)
        path.write_bytes(data[:8] + struct.pack("<Q", len(packed)) + packed + data[16 + length :])
        if not changed and end:
            read_index(str(tmp_path / "archive.tar.gz"))
            continue
        with pytest.raises(ZooError, match="is not a readable seek index"):
            read_index(str(tmp_path / "archive.tar.gz"))


def test_damage_to_the_index_is_found_wherever_it_is(indexed, tmp_path):
    archive = copied(indexed, tmp_path)
    path = archive.with_name("archive.tar.gz.seek")
    data = path.read_bytes()
    for place in (0, 9, 40, 300, read_index(str(archive)).windows_at - 5):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(ZooError, match="seek"):
            load_run(EXPERIMENT, 0.7, 9, archive)
    path.write_bytes(data[:16])
    with pytest.raises(ZooError, match="not a readable seek index"):
        load_run(EXPERIMENT, 0.7, 9, archive)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ZooError, match=r"not a readable seek index \(it is a pointer of Git LFS"):
        load_run(EXPERIMENT, 0.7, 9, archive)
    start = read_index(str(indexed[1])).windows_at
    path.write_bytes(data[:start] + bytes(len(data) - start))
    with pytest.raises(ZooError, match="is damaged near byte"):
        load_run(EXPERIMENT, 0.7, 9, archive)


def test_a_claimed_size_beyond_any_run_is_refused(indexed, tmp_path):
    archive = copied(indexed, tmp_path)
    index = archive.with_name("archive.tar.gz.seek")
    data = index.read_bytes()
    (length,) = struct.unpack_from("<Q", data, 8)
    table = gzip.decompress(data[16 : 16 + length]).replace(b",720]", b",99999999999]")
    packed = gzip.compress(table)
    index.write_bytes(data[:8] + struct.pack("<Q", len(packed)) + packed + data[16 + length :])
    with pytest.raises(ZooError, match="is larger than a run of digits-mlp-tf can be"):
        load_run(EXPERIMENT, 0.7, 9, archive)


def test_the_folders_above_an_index_are_made(indexed, tmp_path):
    """Those of `export --index` were not."""
    index = build_index(indexed[1], out=tmp_path / "new/folder/x.seek")
    assert read_index(str(indexed[1]), str(tmp_path / "new/folder/x.seek")) == index


def test_a_file_name_longer_than_any_is_refused(indexed, tmp_path):
    """The epoch in it was more digits than Python reads."""
    archive = copied(indexed, tmp_path)
    index = archive.with_name("archive.tar.gz.seek")
    data = index.read_bytes()
    (length,) = struct.unpack_from("<Q", data, 8)
    table = gzip.decompress(data[16 : 16 + length]).replace(b'"ckpt-30.index"', b'"ckpt-%s.index"' % (b"9" * 5000), 1)
    packed = gzip.compress(table)
    index.write_bytes(data[:8] + struct.pack("<Q", len(packed)) + packed + data[16 + length :])
    with pytest.raises(ZooError, match="is not a readable seek index"):
        open_zoo(archive).record(list_runs(archive)[0])


def test_a_run_far_from_every_point_is_refused(indexed, monkeypatch):
    """An index that lacks points would have everything before a run inflated, a hundred gigabytes perhaps."""
    _, archive = indexed
    monkeypatch.setattr("heldout_torch.archives.packed.REACH", SPACING // 2)
    refused = []
    for number in range(20):
        try:
            load_run(EXPERIMENT, 0.7, number, archive)
        except ZooError as error:
            refused.append(str(error))
    assert refused
    assert all("the seek index has no access point near it; make the index again" in line for line in refused)


def test_a_damaged_archive_gives_no_index_and_no_run(indexed, tmp_path):
    archive = copied(indexed, tmp_path)
    data = bytearray(archive.read_bytes())
    for place in range(len(data) // 3, len(data) * 2 // 3):
        data[place] = 0
    archive.write_bytes(data)
    failed = 0
    for number in range(0, 200, 20):
        try:
            assert_same(load_run(EXPERIMENT, 0.7, number, archive), indexed[0])
        except HeldoutError:
            failed += 1
    assert failed > 0
    index = Path(str(archive) + ".seek")
    index.unlink()
    with pytest.raises(ZooError, match="damaged or cut off"):
        build_index(archive)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive.tar.gz"]
