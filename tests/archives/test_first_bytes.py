"""What an archive's bytes are: a tar whatever its name, or one line that says what came instead."""

import bz2
import gzip
import io
import lzma

import pytest

from heldout_torch import ZooError
from heldout_torch.archives.build_index import build_index
from heldout_torch.archives.inflate import inflate
from heldout_torch.archives.tar_stream import read_members
from tests.helpers.archives import multiply, pack


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    return pack(multiply(folder / "tree", 2), folder / "runs.tar.gz")


class Trickle(io.RawIOBase):
    """A pipe that gives few bytes at a time."""

    def __init__(self, data):
        self._data = io.BytesIO(data)

    def readable(self):
        return True

    def readinto(self, buffer):
        data = self._data.read(min(len(buffer), 100))
        buffer[: len(data)] = data
        return len(data)


def test_an_empty_tar_is_one():
    assert names(io.BytesIO(bytes(10240))) == []


def names(stream):
    return [(member.name, member.read()) for member in read_members(inflate(stream), "x")]


def test_a_tar_that_a_client_inflated_is_read_as_it_is(archive):
    packed = archive.read_bytes()
    assert names(io.BytesIO(gzip.decompress(packed))) == names(io.BytesIO(packed))
    assert names(Trickle(gzip.decompress(packed))) == names(Trickle(packed))
    assert len(names(io.BytesIO(packed))) == 6


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (
            b"<!DOCTYPE html>\n<html><head>\n<title>Sign in</title>",
            r"x: is a web page .*: '<!DOCTYPE html> <html><head>",
        ),
        (b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code>", r"x: is a web page .*NoSuchKey"),
        (b'\n  {"error": {"code": 403}}' + bytes(600), "x: is a web page .*403"),
        (lzma.compress(bytes(2000)), r"x: is an xz file, not a .tar.gz; .* xz -dc FILE \| heldout export -"),
        (bz2.compress(bytes(2000)), r"x: is a bzip2 file"),
        (b"\x28\xb5\x2f\xfd" + bytes(2000), r"x: is a zstd file"),
        (b"PK\x03\x04" + bytes(2000), "x: is a zip file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(2000), r"x: is no .tar.gz and no .tar; it begins with b'\\x89HDF"),
        (b"\x1b[2Jhello", r"x: is no .tar.gz and no .tar; it begins with b'\\x1b\[2Jhello'"),
    ],
)
def test_other_bytes_are_one_line_that_says_what_they_are(data, line, tmp_path):
    with pytest.raises(ZooError, match=line):
        names(io.BytesIO(data))
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(ZooError, match=line.replace("x: ", "x: ")):
        build_index(tmp_path / "x")


def test_a_plain_tar_needs_no_index(archive, tmp_path):
    (tmp_path / "x.tar").write_bytes(gzip.decompress(archive.read_bytes()))
    with pytest.raises(ZooError, match=r"is a plain \.tar file, only a"):
        build_index(tmp_path / "x.tar")
