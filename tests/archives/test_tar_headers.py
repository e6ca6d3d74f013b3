"""Headers of tar archives: read as Python's own reader and GNU tar read them.

Also of archives/tar_stream.py.
"""

import io
import subprocess
import tarfile

import pytest

from heldout_torch.archives.tar_headers import TarBytes, TarError, read_headers
from tests.archives.test_limits import record

LONG = "/".join(["a folder with a long name"] * 12) + "/file"
NAMES = ["x", "a/b c/ü", "p" * 100, "p" * 99 + "/q", f"{'d' * 90}/{'e' * 90}", LONG]


def read(data):
    """Headers with the bytes that follow each."""
    tar = TarBytes(io.BufferedReader(io.BytesIO(data)))
    found = [(header, tar.read(header.size)) for header in read_headers(tar)]
    tar.check_rest()
    return found


def expected(data):
    kinds = {tarfile.AREGTYPE: b"0", tarfile.CONTTYPE: b"0"}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [
            (
                member.name,
                kinds.get(member.type, member.type),
                member.linkname,
                tar.extractfile(member).read() if member.isreg() else b"",
            )
            for member in tar
        ]


def as_expected(data):
    return [(header.name.rstrip("/"), header.kind, header.link, body) for header, body in read(data)]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_what_python_writes_is_read_as_python_reads_it(form):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, pax_headers={"comment": "of all"}) as tar:
        for number, name in enumerate(NAMES if form != tarfile.USTAR_FORMAT else NAMES[:-1]):
            for kind in (tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE):
                info = tarfile.TarInfo(name)
                info.type = kind
                info.linkname = "" if kind != tarfile.SYMTYPE else name[:100] if form == tarfile.USTAR_FORMAT else name
                info.mtime = number + 0.5  # which pax keeps in a header of its own
                data = bytes(range(200)) * number if info.isreg() else b""
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    assert as_expected(buffer.getvalue()) == expected(buffer.getvalue())


@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_what_gnu_tar_writes_is_read_as_python_reads_it(tmp_path, form):
    names = [name for name in NAMES if len(name) < 99 or form not in ("v7", "ustar")]
    for number, name in enumerate(names):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number * 700)
    (tmp_path / "tree" / "link").symlink_to("x")
    archive = tmp_path / "archive.tar"
    subprocess.run(["tar", "cf", archive, f"--format={form}", "-C", tmp_path / "tree", "."], check=True)
    data = archive.read_bytes()
    assert as_expected(data) == expected(data)


@pytest.mark.parametrize("form", ["gnu", "1.0", "0.1", "0.0"])
def test_files_with_holes_are_named_and_passed_over(tmp_path, form):
    options = ["--format=gnu"] if form == "gnu" else ["--format=posix", f"--sparse-version={form}"]
    with open(tmp_path / "holes", "wb") as file:
        for hole in range(1, 60):
            file.seek(hole * 2**16)
            file.write(b"data")
    (tmp_path / "next").write_bytes(b"what follows")
    archive = tmp_path / "archive.tar"
    subprocess.run(["tar", "cSf", archive, *options, "-C", tmp_path, "holes", "next"], check=True)
    holes, after = read(archive.read_bytes())
    assert (holes[0].name, holes[0].sparse) == ("holes", True)
    assert (after[0].name, after[0].sparse, after[1]) == ("next", False, b"what follows")


def test_sizes_beyond_octal_digits_and_of_pax_count():
    info = tarfile.TarInfo("large")
    info.size = 2**40
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        headers = read_headers(TarBytes(io.BufferedReader(io.BytesIO(info.tobuf(form)))))
        assert next(headers).size == 2**40
        with pytest.raises(TarError, match="ends without an end mark"):
            next(headers)


def whole(name="x", **fields):
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.USTAR_FORMAT)


def extended(kind, data):
    return whole(type=kind, size=len(data)) + data + bytes(-len(data) % 512) + whole()


def with_sum(block):
    rest = block[:148] + b" " * 8 + block[156:]
    return block[:148] + b"%06o\0 " % sum(rest) + block[156:]


@pytest.mark.parametrize(
    "data",
    [
        b"x" * 512,
        whole()[:-1] + b"x",  # the sum is another's
        with_sum(whole()[:124] + b"-0000000001\0" + whole()[136:]),
        with_sum(whole()[:124] + b"\xff" * 12 + whole()[136:]),
        with_sum(whole()[:124] + b"0000000x001\0" + whole()[136:]),
        extended(b"x", b"no record\n"),
        extended(b"x", b"9 a=b\n"),
        extended(b"x", b"99999 path=b\n"),
        extended(b"x", b"0 path=b\n"),
        extended(b"x", record("a", "b") + b"0 path=b\n"),  # reading would never end
        extended(b"x", record("size", "-5")),
        extended(b"x", record("size", "9" * 30)),
        extended(b"x", record("size", "\uff11")),
        extended(b"g", record("path", "of/all")),
        extended(b"g", record("size", "7")),
        extended(b"g", record("linkpath", "of/all")),
        whole(type=b"x", size=2**17) + bytes(2**17) + whole(),
        whole(type=b"L", size=2**17) + bytes(2**17) + whole(),
        extended(b"L", b"x")[:-512] * 9 + whole(),
    ],
)
def test_a_damaged_header_is_an_error_and_no_end(data):
    with pytest.raises(TarError, match="bad header"):
        read(data + bytes(1024))


def test_what_follows_the_end_mark_must_be_zeros():
    assert len(read(whole() + bytes(10240))) == 1
    with pytest.raises(TarError, match="data after the end"):
        read(whole() + bytes(1024) + whole())


@pytest.mark.parametrize("kind", [tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE])
def test_what_has_no_data_is_followed_by_the_next_header_whatever_size_it_declares(kind):
    data = whole("without", type=kind, size=700) + whole("next") + bytes(1024)
    assert [header.name.rstrip("/") for header, _ in read(data)] == ["without", "next"]
    assert [name for name, *_ in expected(data)] == ["without", "next"]
