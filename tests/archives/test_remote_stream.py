"""A file read over HTTP from start to end, by a server that cuts, refuses, stalls and lies."""

import hashlib
import random
import shutil
import socket
import ssl
import subprocess
import threading
import time
from contextlib import suppress

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from heldout_torch import ZooError
from heldout_torch.archives.remote_stream import HttpStream, open_stream, version_of
from tests.helpers.scripted import Script, serving

DATA = random.Random(0).randbytes(3_000_000)


def read(script, told=None):
    with serving(script) as url:
        stream = HttpStream(url, (told if told is not None else []).append, waits=(0.01,) * 3)
        return stream.readall()


def test_twenty_cut_connections_are_taken_up_where_they_broke():
    chance = random.Random(1)
    for _ in range(20):
        script = Script(DATA, *({"cut": chance.randrange(70_000, 400_000)} for _ in range(6)))
        assert hashlib.sha256(read(script)).digest() == hashlib.sha256(DATA).digest()
        assert script.sent == len(DATA)  # no byte twice
        assert {encoding for _, encoding in script.asked} == {"identity"}


def test_a_server_without_ranges_is_read_again_up_to_the_break():
    script = Script(DATA, {"cut": 1_000_000}, {"cut": 2_000_000})
    script.ranges = False
    assert read(script) == DATA
    assert script.sent == 1_000_000 + 2_000_000 + len(DATA)


def test_what_may_pass_is_waited_for_with_a_line():
    told = []
    steps = [{"status": 503, "headers": {"Retry-After": "0"}}, {"cut": 500_000}, {"status": 429}, {"status": 500}]
    assert read(Script(DATA, *steps), told) == DATA
    assert len(told) == 4
    assert "503" in told[0]
    assert "on from byte 500000" in told[1]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_an_answer_that_may_be_another_next_time_is_not_the_last(status):
    assert read(Script(DATA, {"status": status}, {"cut": 500_000}, {"status": status})) == DATA


def test_a_busy_server_is_waited_for_as_long_as_it_asks_but_not_for_hours(slept):
    steps = ({"status": 503, "headers": {"Retry-After": asked}} for asked in ("0", "7", "99999"))
    assert read(Script(DATA, *steps)) == DATA
    assert slept == [0.01, 7, 300]


def test_tries_that_bring_nothing_come_to_an_end():
    with pytest.raises(ZooError, match=r"cannot be read at byte 9, tried 4 times"):
        read(Script(DATA, {"cut": 9}, *[{"cut": 0}] * 100))
    script = Script(DATA, *[{"cut": 1}] * 100)  # a byte each
    with pytest.raises(ZooError, match="cannot be read at byte 4, tried 4 times"):
        read(script)
    assert len(script.asked) == 4


@pytest.mark.parametrize("ranges", [True, False])
def test_a_server_that_sends_a_byte_now_and_then_is_given_up(ranges):
    script = Script(bytes(2**20))
    script.trickle, script.ranges = 0.05, ranges
    with serving(script) as url, pytest.raises(ZooError, match=r"4 times \(the server sends less than 10000"):
        HttpStream(url, waits=(0.01,) * 3, silence=0.2).readall()
    assert len(script.asked) == 4


def test_a_reader_that_takes_its_time_does_not_make_a_server_slow():
    script = Script(bytes(2**20))
    with serving(script) as url:
        stream = HttpStream(url, waits=(0.01,) * 3, silence=1.0)
        assert len(stream.read(10)) == 10
        time.sleep(1.2)
        assert len(stream.readall()) == 2**20 - 10
    assert len(script.asked) == 1


@pytest.mark.parametrize(
    ("step", "line"),
    [
        ({"etag": '"two"'}, "is another file than before"),
        ({"total": 17}, "is another file than before"),
        ({"shift": 5}, "sends bytes that were not asked for"),
        ({"status": 416}, "is shorter than before"),
        ({"status": 403}, "the server refuses \\(403"),
        ({"status": 404}, "there is no such file"),
        ({"headers": {"Content-Encoding": "gzip"}}, "the server compresses what it sends"),
    ],
)
def test_an_archive_that_changes_on_the_way_is_an_error(step, line):
    with pytest.raises(ZooError, match=line):
        read(Script(DATA, {"cut": 500_000}, step))


def test_an_archive_whose_packing_the_server_names_is_read_by_ranges():
    """As of any .tar.gz that some tools put into a bucket. Without ranges it is not known what would come again."""
    packed = {"headers": {"Content-Encoding": "gzip"}}
    script = Script(DATA, {"cut": 500_000, **packed}, packed)
    assert read(script) == DATA
    assert script.sent == len(DATA)
    script = Script(DATA, packed)
    script.ranges = False
    with pytest.raises(ZooError, match="the server compresses what it sends"):
        read(script)


def test_an_archive_without_bytes_is_not_shorter_than_before():
    with pytest.raises(ZooError, match=r"archive\.tar\.gz: is empty$"):
        read(Script(b"", {"status": 416}))


@pytest.mark.parametrize("where", ["file:///etc/passwd", "ftp://127.0.0.1:1/x", "FTP://127.0.0.1:1/x"])
def test_a_way_to_what_is_no_web_server_is_not_gone(where):
    """One to FTP was."""
    script = Script(DATA, *[{"status": 302, "headers": {"Location": where}}] * 9)
    with pytest.raises(ZooError, match=rf"the server refuses \(302 .*(?i:{where})"):
        read(script)
    assert len(script.asked) == 1


def test_a_way_to_another_address_of_the_web_is_gone():
    with serving(Script(DATA)) as other:
        assert read(Script(DATA, {"status": 302, "headers": {"Location": other}})) == DATA


def test_a_range_that_the_server_does_not_name_is_not_taken_for_the_beginning():
    """The first of its bytes were skipped, as of a whole file, and the others given for those that were asked for."""
    with serving(Script(DATA, {"silent": True})) as url, pytest.raises(ZooError, match="does not say which bytes"):
        HttpStream(url, start=1000).readall()


def test_a_file_ends_where_the_server_says():
    """It was read on, and then asked for seven times."""
    script = Script(DATA, {"total": 1_000_000})
    assert read(script) == DATA[:1_000_000]
    assert len(script.asked) == 1


def test_paths_urls_and_buckets_open_alike(tmp_path, bucket):
    import fsspec

    (tmp_path / "file").write_bytes(DATA)
    with fsspec.open(f"{bucket}/file", "wb") as file:
        file.write(DATA)
    with serving(Script(DATA)) as url:
        for location in (str(tmp_path / "file"), url, f"{bucket}/file"):
            opened = open_stream(location)
            assert opened.size == len(DATA)
            assert opened.stream.read() == DATA
            assert open_stream(location, start=2_999_990).stream.read() == DATA[2_999_990:]
    for location in (str(tmp_path / "no"), f"{bucket}/no"):
        with pytest.raises(ZooError, match="no"):
            open_stream(location)


def test_a_version_is_known_by_size_and_etag_without_reading(bucket):
    import s3fs

    s3fs.S3FileSystem().pipe_file(f"{bucket}/file", DATA)
    etag = s3fs.S3FileSystem().info(f"{bucket}/file")["ETag"]
    with serving(script := Script(DATA)) as url:
        for location, expected in ((url, '"one"'), (f"{bucket}/file", etag)):
            assert version_of(location) == open_stream(location)[1:] == (len(DATA), expected)
    assert len(script.asked) == 1


def test_a_place_that_does_not_say_how_large_a_file_is_is_one_line(monkeypatch):
    monkeypatch.setattr(MemoryFileSystem, "info", lambda self, path, **_: {"name": path, "type": "file"})
    with pytest.raises(ZooError, match=r"memory://x.tar.gz: the server does not say how large the file is; copy"):
        open_stream("memory://x.tar.gz")


def test_a_login_goes_to_its_server_and_not_on_to_another():
    first, other = Script(DATA), Script(DATA)
    with serving(first) as url, serving(other) as elsewhere:
        first.steps = [{"status": 302, "headers": {"Location": elsewhere}}]
        assert HttpStream(url.replace("//", "//Aladdin:open%20sesame@")).readall() == DATA
    assert first.logins == ["Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="]  # of RFC 7617
    assert other.logins == [None]


def test_what_has_begun_is_waited_for_longer_than_what_never_answered():
    with serving(Script(DATA, {"cut": 100_000})) as url:
        stream = HttpStream(url, waits=(0.01,) * 6)
    with pytest.raises(ZooError, match="cannot be read at byte 100000, tried 7 times"):
        stream.readall()


def test_a_server_that_nobody_vouches_for_is_asked_once(tmp_path, slept):
    """It was asked four times, which it is to no use."""
    make = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 1 -subj /CN=localhost"
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not here")
    subprocess.run(make.split(), cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with socket.create_server(("127.0.0.1", 0)) as plain, context.wrap_socket(plain, server_side=True) as server:

        def answer():
            with suppress(OSError):
                server.accept()

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(ZooError, match=r"cannot be used \(.*certificate verify failed"):
            open_stream(f"https://localhost:{server.getsockname()[1]}/runs.tar.gz")
    assert not slept


def test_a_server_that_is_not_there_is_one_line():
    with serving(Script(DATA)) as url:
        pass
    with pytest.raises(ZooError, match="cannot be read at byte 0, tried 3 times"):
        HttpStream(url, waits=(0.01, 0.01))
