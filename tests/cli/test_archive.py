"""`heldout archive` and `heldout export` of archives, as the command line gives them."""

import json

import pytest

from heldout_torch import load_run
from heldout_torch.archives.seek_index import read_index
from heldout_torch.cli import main
from tests.helpers.archives import EXPERIMENT, multiply, pack


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    return pack(multiply(folder / "tree", 5), folder / "runs.tar.gz")


def test_export_of_an_archive_reports_and_goes_on(archive, tmp_path, capsys):
    command = ["export", str(archive), "--zoo", str(tmp_path / "zoo")]
    assert main([*command, "--runs", "1,3"]) == 0
    assert "exported 2 runs" in capsys.readouterr().out
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "exported 3 runs" in out
    assert "skipped 2 already there, 0 failed" in out
    assert load_run(EXPERIMENT, 0.7, 4, tmp_path / "zoo").metadata.run == 4


def test_a_bad_archive_ends_with_one_line_and_status_1(archive, tmp_path, capsys):
    (tmp_path / "cut.tar.gz").write_bytes(archive.read_bytes()[:100_000])
    assert main(["export", str(tmp_path / "cut.tar.gz"), "--zoo", str(tmp_path / "zoo")]) == 1
    out, err = capsys.readouterr()
    assert "error: cut.tar.gz: is damaged or cut off near unpacked byte" in err
    assert "Traceback" not in err
    assert out.endswith("failed\n")
    assert main(["export", str(archive), "--zoo", str(tmp_path / "zoo"), "--md5", "f" * 32]) == 1
    assert json.loads((tmp_path / "zoo" / EXPERIMENT / "archive.json").read_text())["verified"] is False


def test_index_makes_single_runs_readable(archive, capsys):
    assert main(["archive", "index", str(archive)]) == 0
    assert capsys.readouterr().out == f"indexed 5 runs in {archive}.seek\n"
    assert load_run(EXPERIMENT, 0.7, 2, archive).metadata.run == 2


def test_index_of_nothing_is_one_line(tmp_path, capsys):
    assert main(["archive", "index", str(tmp_path / "absent.tar.gz")]) == 1
    (tmp_path / "no.tar.gz").write_bytes(b"no archive")
    assert main(["archive", "index", str(tmp_path / "no.tar.gz")]) == 1
    assert sum(line.startswith("error: ") for line in capsys.readouterr().err.splitlines()) == 2


def test_an_index_goes_where_it_is_told_and_what_cannot_be_written_is_named(archive, tmp_path, capsys):
    out = tmp_path / "new" / "runs.seek"
    assert main(["archive", "index", str(archive), "--out", str(out)]) == 0
    assert f"indexed 5 runs in {out}" in capsys.readouterr().out
    with pytest.warns(UserWarning, match="unchecked"):
        assert load_run(EXPERIMENT, 0.7, 2, archive, index=str(out)).metadata.run == 2
    for bad, why in ((tmp_path, "is a folder"), (out / "x.seek", "is a file, expected a folder")):
        assert main(["archive", "index", str(archive), "--out", str(bad)]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {tmp_path}")
        assert why in line


def test_an_incomplete_run_is_told_and_the_others_are_indexed(tmp_path, capsys):
    tree = multiply(tmp_path / "tree", 3)
    (tree / EXPERIMENT / "0.7/1/aux_arrays.npz").unlink()
    archive = pack(tree, tmp_path / "runs.tar.gz")
    assert main(["archive", "index", str(archive)]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("indexed 2 runs in ")
    assert err.startswith(f"error: {archive}: run {EXPERIMENT}/0.7/1: incomplete: the archive has only ckpt-")
    assert err.count("\n") == 1


def test_points_lie_as_close_as_is_asked_for(tmp_path):
    archive = pack(multiply(tmp_path / "tree", 60), tmp_path / "runs.tar.gz")
    points = []
    for spacing in ("16M", "64k"):
        out = tmp_path / f"{spacing}.seek"
        assert main(["archive", "index", str(archive), "--out", str(out), "--spacing", spacing]) == 0
        points.append(len(read_index(str(archive), str(out)).points))
    assert points[0] < points[1]
