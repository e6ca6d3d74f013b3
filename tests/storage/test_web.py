"""Ranges of files on web servers: shorter than asked for, or refused before anything is sent."""

import pytest

from heldout_torch import ZooError
from heldout_torch.storage.urls import read_range
from tests.helpers.server import Server

DATA = bytes(range(256)) * 1024


@pytest.fixture
def server(tmp_path):
    (tmp_path / "file").write_bytes(DATA)
    with Server(tmp_path).running() as running:
        yield running


def test_a_server_may_send_less_of_a_range_than_is_asked_for(server):
    server.most = 2**16
    for start in (0, 100):
        assert read_range(f"{server.url}/file", start, len(DATA)) == DATA[start : start + 2**16]


def test_a_range_of_nothing_is_not_asked_for(server):
    assert read_range(f"{server.url}/file", 7, 7) == b""
    assert not server.requests


def test_a_file_that_is_too_large_to_come_whole_is_not_sent(server):
    server.ranges = False
    assert read_range(f"{server.url}/file", 0, len(DATA)) == DATA
    assert read_range(f"{server.url}/file", 100, 200, whole_size=len(DATA)) == DATA
    for whole_size in (None, len(DATA) - 1):
        with pytest.raises(ZooError, match="does not answer range requests"):
            read_range(f"{server.url}/file", 0, 1000, whole_size)
