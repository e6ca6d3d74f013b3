"""Small archives and small indexes that would fill the memory: refused with one line, at the cost of few megabytes."""

import gzip
import io
import json
import struct
import tarfile

import pytest

from heldout_torch.archives.build_index import build_index
from tests.helpers.archives import EXPERIMENT, multiply, pack
from tests.helpers.memory import growth

WALK = """
from isal import igzip
from heldout_torch.archives.tar_stream import read_members
"""
READ_ALL = """
with igzip.open(folder / "x.tar.gz") as stream:
    for member in read_members(stream, "x.tar.gz"):
        if member.refused: print(member.refused)
"""


def header(name, kind=tarfile.REGTYPE, size=0):
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.USTAR_FORMAT)


def record(key, value):
    rest = f" {key}={value}\n".encode()
    length = len(rest)
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


def padded(data):
    return data + bytes(-len(data) % 512)


def write(folder, pieces):
    with gzip.open(folder / "x.tar.gz", "wb", compresslevel=6) as file:
        for piece in pieces:
            file.write(piece)
        file.write(bytes(1024))


@pytest.mark.parametrize(
    "name", ["checkpoints/ckpt-30.index", "checkpoints/ckpt-30.data-00000-of-00001", "aux_arrays.npz"]
)
def test_of_an_unpacked_archive_no_larger_files_are_read(name, tmp_path):
    """They are holes: a terabyte of it takes no space on the disk."""
    tree = multiply(tmp_path / "tree", 2)
    with open(tree / EXPERIMENT / "0.7/0" / name, "r+b") as file:
        file.truncate(2**40)
    keys = [f"{EXPERIMENT}/0.7/{run}" for run in (0, 1)]
    code = f"for outcome in copy_runs(folder / 'tree', folder / 'zoo', {keys}): print(outcome.error)"
    megabytes, printed = growth(tmp_path, "from heldout_torch.zoo.copy import copy_runs", code)
    assert "bytes, the largest size expected" in printed
    assert printed.splitlines()[-1] == "None"
    assert megabytes < 100


def test_a_map_of_a_sparse_file_is_not_held(tmp_path):
    """0.1 MB of it took 1 GB."""
    said = record("GNU.sparse.major", 1) + record("GNU.sparse.minor", 0) + record("GNU.sparse.name", "x")
    numbers = 2**25
    body = f"{numbers}\n".encode() + b"0\n" * (2 * numbers)
    write(
        tmp_path,
        [header("pax", b"x", len(said)), padded(said), header("GNUSparseFile.0/x", size=len(body)), padded(body)],
    )
    assert (tmp_path / "x.tar.gz").stat().st_size < 2**18
    megabytes, printed = growth(tmp_path, WALK, READ_ALL)
    assert printed == "sparse file"
    assert megabytes < 60


def test_global_headers_are_not_held(tmp_path):
    """10,000 of them took 0.6 GB."""

    def pieces():
        for number in range(10_000):
            said = record(f"comment{number}", "x" * 60_000)
            yield header("pax", b"g", len(said)) + padded(said) + header("x")

    write(tmp_path, pieces())
    megabytes, printed = growth(tmp_path, WALK, READ_ALL)
    assert printed == ""
    assert megabytes < 60


@pytest.mark.parametrize("kind", [tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_extended_headers_without_end_are_refused(tmp_path, kind):
    said = record("comment", "x" * 60_000) if kind != tarfile.GNUTYPE_LONGNAME else b"x" * 60_000
    write(tmp_path, [header("x", kind, len(said)) + padded(said)] * 3_000)
    megabytes, printed = growth(tmp_path, WALK, READ_ALL)
    assert "DamagedError" in printed or kind == tarfile.XGLTYPE
    assert megabytes < 60


def test_an_index_of_runs_without_end_is_refused(tmp_path):
    """600,000 of them took 0.5 GB."""
    name = "x" * 60 + "/" + EXPERIMENT + "/0.7/%d/aux_arrays.npz"
    write(tmp_path, (header(name % number) for number in range(201_000)))
    prepare = "from heldout_torch.archives.build_index import build_index"
    megabytes, printed = growth(tmp_path, prepare, 'build_index(folder / "x.tar.gz")')
    assert "names more than 200000 runs, more than any archive has" in printed
    assert megabytes < 250
    assert not (tmp_path / "x.tar.gz.seek").exists()


def test_a_run_of_files_without_end_is_refused(tmp_path):
    write(tmp_path, (header(f"{EXPERIMENT}/0.7/1/checkpoints/{number}.index") for number in range(100_000)))
    prepare = "from heldout_torch.archives.build_index import build_index"
    megabytes, printed = growth(tmp_path, prepare, 'build_index(folder / "x.tar.gz")')
    assert "has no complete runs" in printed
    assert megabytes < 120


def test_names_longer_than_any_are_no_parts_of_runs(tmp_path):
    said = record("path", f"{'e' * 60_000}/0.7/1/aux_arrays.npz")
    write(tmp_path, [(header("x", b"x", len(said)) + padded(said) + header("x"))] * 3_000)
    work = READ_ALL.replace("if member.refused: print(member.refused)", "assert member.key is None")
    assert growth(tmp_path, WALK, work)[1] == ""


@pytest.fixture(scope="module")
def indexed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("indexed")
    archive = pack(multiply(folder / "tree", 3), folder / "x.tar.gz")
    build_index(archive)
    return folder


def forge(folder, lines):
    """Put a table of one's own into the index of the archive, whose first line tells the truth."""
    path = folder / "x.tar.gz.seek"
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data, 8)
    head = json.loads(gzip.decompress(data[16 : 16 + length]).splitlines()[0])
    table = io.BytesIO()
    with gzip.GzipFile(fileobj=table, mode="wb", compresslevel=6) as file:
        for line in lines(head):
            file.write(line)
    path.write_bytes(data[:8] + struct.pack("<Q", len(table.getvalue())) + table.getvalue())
    return data


def line(value):
    return json.dumps(value).encode() + b"\n"


def of_runs(head):
    yield line(head | {"runs": 3_000_000})
    for number in range(3_000_000):
        yield b'["%s/0.7/%d",{"aux_arrays.npz":[0,9]}]\n' % (EXPERIMENT.encode(), number)


def of_points(head):
    yield line(head | {"points": 3_000_000})
    for number in range(3_000_000):
        yield b"[%d,%d,1]\n" % (number + 1, number + 1)


def of_one_long_line(head):
    yield line(head)
    yield b"["
    for _ in range(75):  # 300 MB: more than the test allows to whoever holds them
        yield b"[]," * 2**20


def of_deep_lists(head):
    yield line(head | {"runs": 1})
    yield b"[" * 8_000 + b"]" * 100 + b"\n"


def of_many_files(head):
    yield line(head | {"runs": 200_000})
    for number in range(200_000):
        files = b",".join(b'"%d.index":[0,9]' % file for file in range(60))
        yield b'["%s/0.7/%d",{%s}]\n' % (EXPERIMENT.encode(), number, files)


@pytest.mark.parametrize("lines", [of_runs, of_points, of_one_long_line, of_deep_lists, of_many_files])
def test_a_forged_table_of_an_index_is_refused(indexed, lines):
    """1.5 MB of one took 2.7 GB."""
    kept = forge(indexed, lines)
    prepare = "from heldout_torch.archives.seek_index import read_index\nimport fsspec.implementations.local"
    megabytes, printed = growth(indexed, prepare, 'read_index(str(folder / "x.tar.gz"))')
    (indexed / "x.tar.gz.seek").write_bytes(kept)
    assert printed.startswith("ZooError")
    assert "is not a readable seek index (" in printed
    assert len(printed.splitlines()) == 1
    assert megabytes < 250
