"""Servers and networks as they are: slow, silent, busy, hostile, behind proxies, without credentials.

Also of storage/retries.py, storage/web.py.
"""

import errno
import gzip
import itertools
import socket
import threading
import time
import tracemalloc
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler

import pytest

from heldout_torch import ZooError, load_run
from heldout_torch.archives import remote_stream
from heldout_torch.storage import retries, web
from heldout_torch.storage.listing import list_files
from heldout_torch.storage.urls import check_ranges, read_file, read_range, write_file
from tests.helpers.server import Listener


@pytest.fixture
def serve(monkeypatch):
    """What serves on loopback: each request is answered by the next of some functions, the last one for ever."""
    monkeypatch.setattr(retries, "WAITS", (0.01, 0.02, 0.03))
    running = []

    def start(*answers):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self):
                self.rfile.read(int(self.headers["Content-Length"]))  # or it would be taken for the next request
                self.do_GET()

            def do_GET(self):
                with server.lock:
                    server.asked.append((self.path, dict(self.headers)))
                    answer = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
                answer(self)

            def log_message(self, *arguments):
                pass

        server = Listener(("127.0.0.1", 0), Handler)
        server.lock = threading.Lock()
        server.asked, server.answers = [], list(answers)
        server.url = f"http://127.0.0.1:{server.server_port}/zoo/file"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        running.append(server)
        return server

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def answer(body=b"", status=200, **headers):
    def send(handler):
        handler.send_response(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            handler.send_header(name.replace("_", "-"), str(value))
        handler.end_headers()
        handler.wfile.write(body)

    return send


def endless(handler, wait=0.0, piece=bytes(2**16)):
    handler.send_response(200)
    handler.end_headers()
    for _ in itertools.count():
        handler.wfile.write(piece)
        handler.server.rest(wait)


def refused(action, message):
    """The one line that an action ends with."""
    with pytest.raises(ZooError, match=message) as error:
        action()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_nothing_is_unpacked_on_the_way(serve):
    body = gzip.compress(bytes(2**28), 1)
    server = serve(answer(body, Content_Encoding="gzip"))
    tracemalloc.start()
    try:
        assert read_file(server.url) == body
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
    assert server.asked[0][1]["Accept-Encoding"] == "identity"


def test_an_endless_file_is_not_read_to_its_end(serve):
    server = serve(endless)
    refused(lambda: read_file(server.url, 10**6), "has more than 1000000 bytes, the largest size expected")
    refused(lambda: read_range(server.url, 0, 10**6), "has more than 1000000 bytes, the largest size expected")
    assert len(server.asked) == 2
    assert read_file(serve(answer(b"12")).url, 2) == b"12"


def test_a_file_that_is_larger_than_it_may_be_is_not_taken(tmp_path, bucket):
    for place in (str(tmp_path), bucket, f"memory://{tmp_path.name}"):
        write_file(f"{place}/file", b"123")
        write_file(f"{place}/empty", b"")
        assert read_file(f"{place}/file", 3) == b"123"
        assert read_file(f"{place}/empty", 3) == b""
        refused(lambda place=place: read_file(f"{place}/file", 2), "has more than 2 bytes")


def test_a_silent_server_is_given_up_and_that_is_told(serve, monkeypatch, caplog):
    monkeypatch.setattr(web, "SILENCE", 0.2)
    monkeypatch.setattr(retries, "TOLD", 0.2)

    def silent(handler):
        handler.server.rest(60)

    def silent_in_the_middle(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(b"some")
        handler.wfile.flush()
        handler.server.rest(60)

    for fault in (silent, silent_in_the_middle):
        server = serve(fault)
        for read in (lambda server=server: read_file(server.url), lambda server=server: read_range(server.url, 0, 100)):
            line = refused(read, r"cannot be reached, tried 2 times \(.*[Tt]ime")
            assert server.url in line
            assert "; waiting 0 seconds, then again" in caplog.messages[-1]


def test_a_slow_server_is_given_up(serve, monkeypatch):
    monkeypatch.setattr(web, "SILENCE", 0.3)
    server = serve(lambda handler: endless(handler, 0.02, b"x"))
    refused(lambda: read_file(server.url), r"tried 2 times \(the server sends less than 10000 bytes a second")


def test_a_server_of_one_byte_a_range_is_not_obeyed(serve):
    server = serve(answer(b"x", 206, Content_Range="bytes 0-0/1000"))
    refused(lambda: read_range(server.url, 0, 1000), r"tried 4 times \(the server sends 1 bytes, 1000 were requested")
    assert len(server.asked) == 4


def test_ranges_end_where_the_file_does(serve):
    assert read_range(serve(answer(b"xy", 206, Content_Range="bytes 8-9/10")).url, 8, 20) == b"xy"
    assert read_range(serve(answer(b"xy", 206, Content_Range="bytes 8-9/*")).url, 8, 20) == b"xy"
    assert read_range(serve(answer(b"", 416)).url, 10, 20) == b""
    assert read_range(serve(answer(b"xy")).url, 0, 20) == b"xy"
    refused(lambda: read_range(serve(answer(b"xy", 206, Content_Range="bytes 0-1/10")).url, 8, 10), "another range")


def test_a_server_without_ranges_sends_nothing_in_vain(serve):
    server = serve(endless)
    for read in (lambda: read_range(server.url, 5, 9), lambda: check_ranges(server.url, 10**6)):
        refused(read, "does not answer range requests")
    assert len(server.asked) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 405])
def test_what_is_refused_is_asked_for_once(serve, status):
    server = serve(answer(b"", status))
    line = refused(lambda: read_file(server.url), str(status))
    assert len(server.asked) == 1
    assert ("access is refused" in line) == (status in (401, 403))


@pytest.mark.parametrize("where", ["file:///etc/passwd", "ftp://host/x"])
def test_a_way_to_what_is_no_web_server_is_not_tried_again(serve, where):
    server = serve(answer(b"", 302, Location=where))
    refused(lambda: read_file(server.url), f"cannot be used .redirects to {where}")
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [202, 204, 302, 304])
def test_an_answer_without_the_file_is_no_empty_file(serve, status):
    server = serve(answer(b"", status))
    refused(lambda: read_file(server.url), rf"file: cannot be used \(the server answers {status} ")
    assert len(server.asked) == 1


def nonsense(handler):
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
    handler.close_connection = True


def test_an_answer_that_is_not_http_is_none_of_status_400_and_asked_for_again(serve):
    assert read_file(serve(nonsense, answer(b"file")).url) == b"file"
    server = serve(nonsense)
    told = refused(lambda: read_file(server.url), r"tried 4 times \(the answer is not HTTP: ")
    assert "400" not in told.replace(server.url, "")  # of which the port may be a part
    assert len(server.asked) == 4


def test_the_unit_of_a_range_may_have_capitals(serve):
    server = serve(answer(b"345", 206, Content_Range="Bytes 3-5/9"))
    assert read_range(server.url, 3, 6) == b"345"


def test_a_file_that_a_server_packs_is_told(serve, tmp_path, monkeypatch):
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path))
    server = serve(answer(gzip.compress(b"{}"), Content_Encoding="gzip"))
    with pytest.raises(ZooError, match=r"is not a readable record of a run \(it is a file packed by gzip\)$"):
        load_run("digits-mlp-tf/0.7/3", zoo=server.url)


def test_a_way_in_circles_is_gone_once(serve):
    server = serve(answer(b"", 302, Location="/zoo/file"))
    refused(lambda: read_file(server.url), r"cannot be used \(TooManyRedirects\)$")
    assert len(server.asked) < 20
    with pytest.raises(ZooError, match=r"the server refuses \(302 [^\\]*infinite loop[^\\]*\)$"):
        remote_stream.HttpStream(server.url)


@pytest.mark.parametrize("status", [404, 410])
def test_what_is_not_there_is_asked_for_once(serve, status):
    server = serve(answer(b"", status))
    with pytest.raises(FileNotFoundError):
        read_file(server.url)
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("asked", [None, "7", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_a_busy_server_is_waited_for(serve, status, asked, slept, caplog):
    busy = answer(b"", status, **({} if asked is None else {"Retry-After": asked}))
    server = serve(*[busy] * 6, answer(b"data"))
    assert read_file(server.url) == b"data"
    assert slept == ([7, 7, 7, 10, 20, 30] if asked == "7" else [1, 2, 5, 10, 20, 30])
    long = [wait for wait in slept if wait >= 5]
    assert [
        f"; waiting {wait} seconds" in record.getMessage() for record, wait in zip(caplog.records, long, strict=True)
    ]


@pytest.mark.parametrize("fast", [0, 7200, -7200])
def test_a_date_to_wait_for_is_one_of_the_servers_clock(serve, fast, slept):
    now = time.time() + fast
    asked = {"Date": formatdate(now, usegmt=True), "Retry-After": formatdate(now + 7, usegmt=True)}

    def busy(handler):
        handler.send_response_only(429)
        for name, value in {"Content-Length": "0", **asked}.items():
            handler.send_header(name, value)
        handler.end_headers()

    assert read_file(serve(busy, answer(b"here")).url) == b"here"
    with remote_stream.HttpStream(serve(busy, answer(b"here")).url) as stream:
        assert stream.read() == b"here"
    assert slept == [7.0, 7.0]


@pytest.mark.parametrize("after", ["soon", "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:00 -0000", "-5"])
def test_what_cannot_be_waited_for_is_waited_for_as_usual(serve, after, slept):
    assert read_file(serve(answer(b"", 503, Retry_After=after), answer(b"here")).url) == b"here"
    assert slept == [1.0]


@pytest.mark.parametrize("asked", ["99999", "99999999999999"])
def test_a_server_that_asks_for_hours_is_not_waited_for(serve, asked):
    server = serve(answer(b"", 429, Retry_After=asked))
    refused(lambda: read_file(server.url), f"429.*, and asks to wait {asked} seconds; call again later")
    assert len(server.asked) == 1


def test_a_server_that_stays_busy_is_given_up(serve, monkeypatch):
    monkeypatch.setattr(retries, "BUSY_WAITS", (0.01, 0.01))
    server = serve(answer(b"", 429))
    refused(lambda: read_file(server.url), r"cannot be reached, tried 3 times \(.*429.*")
    assert len(server.asked) == 3


@pytest.mark.parametrize("write", [False, True])
def test_a_slow_bucket_is_given_up(serve, write, monkeypatch):
    import s3fs

    def slow(handler):
        if write:
            handler.server.rest(60)  # nothing is taken
        handler.send_response(206)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        while True:  # never silent for long
            handler.wfile.write(b"x")
            handler.server.rest(0.2)

    monkeypatch.setenv("AWS_ENDPOINT_URL", serve(slow).url.removesuffix("/zoo/file"))
    for name, value in {"ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setattr(web, "SILENCE", 1.0)
    monkeypatch.setattr(web, "SLOWEST", 10**8)
    s3fs.S3FileSystem.clear_instance_cache()
    action = (lambda: write_file("s3://zoo/file", b"data")) if write else (lambda: read_file("s3://zoo/file"))
    refused(action, r"cannot be reached, tried 2 times \(.*[Tt]ime")
    s3fs.S3FileSystem.clear_instance_cache()


def test_what_lies_in_a_bucket_is_read_in_pieces(bucket):
    for size in (0, 1, 2**23 - 1, 2**23, 2**23 + 1):
        data = bytes(range(251)) * (size // 251 + 1)
        write_file(f"{bucket}/file", data[:size])
        assert read_file(f"{bucket}/file") == data[:size]
        assert read_range(f"{bucket}/file", 3, 2**24) == data[3:size]


def test_proxies_of_the_environment_are_used(serve, monkeypatch):
    proxy = serve(answer(b"by proxy"))
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, proxy.url.removesuffix("/zoo/file"))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert read_file("http://zoo.example/file") == b"by proxy"
    assert proxy.asked[0][0] == "http://zoo.example/file"


def test_secrets_of_urls_are_not_told(serve):
    server = serve(answer(b"", 403))
    url = server.url.replace("http://", "http://me:secret@") + "?X-Amz-Signature=secret"
    for action in (lambda: read_file(url), lambda: read_range(url, 0, 9)):
        assert "secret" not in refused(action, "zoo/file")
    server.answers = [answer(b"1234")]
    assert "secret" not in refused(lambda: read_file(url, 2), "has more than 2 bytes")
    assert "secret" not in refused(lambda: read_range(url, 2, 4), "does not answer range requests")


def test_a_bucket_without_credentials_is_told_how_to_be_read(bucket, monkeypatch, tmp_path, slept):
    import s3fs

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    s3fs.S3FileSystem.clear_instance_cache()
    for action in (lambda: read_file(f"{bucket}/file"), lambda: list_files(bucket)):
        refused(action, "access is refused .*redentials.*; for a public bucket, set FSSPEC_S3_ANON=true")
    assert slept == []


def test_a_bucket_of_an_impossible_name_is_tried_once(bucket, slept):
    refused(lambda: read_file("s3://No Bucket!/file"), "cannot be used")
    assert slept == []


@pytest.mark.parametrize("reason", ["refused", "no such name", "no resolver", "silent"])
def test_an_archive_that_nobody_serves_is_tried_for_a_few_seconds(reason, monkeypatch, slept):
    """While nothing has come yet; what has begun is waited for."""
    tries, told = [], []

    def fail(*_, **__):
        tries.append(1)
        raise {
            "refused": ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
            "no such name": socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
            "no resolver": socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
            "silent": TimeoutError("timed out"),
        }[reason]

    monkeypatch.setattr(socket, "create_connection", fail)
    refused(lambda: remote_stream.open_stream("http://zoo.example/a.tar.gz", told.append), "tried . times")
    assert len(tries) == (4 if reason == "refused" else 2)
    assert sum(slept) < 5
    assert len(told) == len(slept)


def test_servers_of_tests_do_not_tell_of_clients_that_went(serve, capfd):
    def sent_to_nobody(handler):
        gone.wait(10)
        for _ in range(100):  # the first is taken by the network, and refused
            handler.connection.sendall(b"HTTP/1.1 200\r\n")
            handler.server.rest(0.01)

    def broken(handler):
        raise ZeroDivisionError

    gone = threading.Event()
    for answers, told in ((sent_to_nobody, False), (broken, True)):
        server = serve(answers)
        server.RequestHandlerClass.do_GET = lambda handler, answers=answers: answers(handler)
        with socket.create_connection(server.server_address, timeout=10) as client:
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            if told:
                client.recv(1)
        gone.set()
        time.sleep(0.5)
        assert ("Traceback" in capfd.readouterr().err) == told


def test_servers_of_tests_leave_nobody_at_work(serve, slept):
    """A thread slept on in the next tests, some of which count who sleeps, and others forbid it."""
    begun = threading.Event()

    def silent(handler):
        begun.set()
        handler.server.rest(600)

    server = serve(silent)
    with socket.create_connection(server.server_address, timeout=60) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert begun.wait(60)
        server.shutdown()
        server.server_close()
        assert client.recv(1) == b""
    assert slept == []
