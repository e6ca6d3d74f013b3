"""Runs of an archive by its address, and of an archive that need not be read to its end."""

import random

import pytest

from heldout_torch.archives.remote_stream import HttpStream
from heldout_torch.archives.stream import export_archive
from heldout_torch.zoo.selection import Selection
from tests.helpers.archives import EXPERIMENT, archive_record, contents, multiply, pack
from tests.helpers.scripted import Script, serving


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """An archive of 30 runs in order, and the contents of its export."""
    folder = tmp_path_factory.mktemp("packed")
    archive = pack(multiply(folder / "tree", 30), folder / "runs.tar.gz", seed=None)
    with open(archive, "rb") as stream:
        assert len(list(export_archive(stream, "runs.tar.gz", folder / "zoo"))) == 30
    return archive.read_bytes(), contents(folder / "zoo")


def export(script, zoo, **options):
    with serving(script) as url, HttpStream(url, waits=(0.01,) * 4) as stream:
        return [outcome.error for outcome in export_archive(stream, "runs.tar.gz", zoo, **options) if outcome.error]


def test_an_archive_by_its_address_gives_the_same_whatever_the_server_does(packed, tmp_path):
    data, expected = packed
    chance = random.Random(2)
    faults = [{"status": 503, "headers": {"Retry-After": "0"}}, {"status": 429}]
    for number in range(20):
        steps = [chance.choice([*faults, {"cut": chance.randrange(2**16, len(data) // 3)}]) for _ in range(4)]
        script = Script(data, *steps)
        script.ranges = number % 5 != 0
        assert export(script, tmp_path / str(number)) == []
        assert contents(tmp_path / str(number)) == expected
        assert archive_record(tmp_path / str(number))["size"] == len(data)


def test_an_archive_that_is_replaced_on_the_way_is_an_error_and_what_came_stays(packed, tmp_path):
    data, expected = packed
    error, *not_whole = export(Script(data, {"cut": len(data) // 2}, {"etag": '"two"'}), tmp_path / "zoo")
    assert "is another file than before" in error
    assert all("incomplete" in line for line in not_whole)
    found = contents(tmp_path / "zoo")
    assert found
    assert found.items() <= expected.items()
    assert not (tmp_path / "zoo" / EXPERIMENT / "archive.json").exists()


def test_the_end_is_not_read_when_all_runs_asked_for_have_come(packed, tmp_path):
    data, expected = packed
    told = []
    chosen = Selection(EXPERIMENT, [0.7], [0, 1, 10])  # in the archive's order 0, 1, 10, 11, ...
    script = Script(data)
    assert export(script, tmp_path / "zoo", selection=chosen, tell=told.append) == []
    assert {name.split("/")[2] for name in contents(tmp_path / "zoo")} == {"0", "1", "10"}
    assert contents(tmp_path / "zoo").items() <= expected.items()
    assert len(told) == 1
    assert "all selected runs were read" in told[0]
    assert archive_record(tmp_path / "zoo") == {
        "name": "runs.tar.gz", "size": None, "md5": None, "verified": None,
        "checked_by": "the CRC-32C of each tensor; it was not read to its end",
    }  # fmt: skip
    seen = []
    with serving(Script(data)) as url, HttpStream(url) as stream:
        list(export_archive(stream, "runs.tar.gz", tmp_path / "zoo2", chosen, progress=seen.append))
    assert sum(seen) < len(data) / 2


@pytest.mark.parametrize(
    "chosen",
    [Selection(EXPERIMENT, [0.7], [0, 1, 99]), Selection(EXPERIMENT, [0.7]), Selection(EXPERIMENT, (), [0, 1]),
     Selection(None, [0.7], [0, 1]), Selection(EXPERIMENT, [0.7, 0.5], [0, 1])],
)  # fmt: skip
def test_all_is_read_when_more_could_come(packed, tmp_path, chosen):
    data, _ = packed
    told = []
    export(Script(data), tmp_path / "zoo", selection=chosen, tell=told.append)
    assert told == []
    assert archive_record(tmp_path / "zoo")["size"] == len(data)


def test_what_a_whole_pass_found_is_kept(packed, tmp_path):
    data, _ = packed
    export(Script(data), tmp_path / "zoo")
    before = archive_record(tmp_path / "zoo")
    export(Script(data), tmp_path / "zoo", selection=Selection(EXPERIMENT, [0.7], [3]), overwrite=True)
    assert archive_record(tmp_path / "zoo") == before


def test_runs_that_are_there_already_count_as_come(packed, tmp_path):
    data, _ = packed
    chosen = Selection(EXPERIMENT, [0.7], [0, 1])
    export(Script(data), tmp_path / "zoo", selection=chosen)
    told = []
    export(Script(data), tmp_path / "zoo", selection=chosen, tell=told.append)
    assert len(told) == 1
