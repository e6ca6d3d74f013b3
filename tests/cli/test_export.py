"""`heldout export` and `tools/export_weights.py`: what a user sees."""

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from heldout_torch import list_runs
from heldout_torch.cli import main
from tests.helpers.server import Server

TOOL = Path(__file__).parent.parent.parent / "tools" / "export_weights.py"
EXPERIMENT = "digits-mlp-tf"


def test_the_tool_exports_a_tree(tree, tmp_path):
    command = [sys.executable, TOOL, tree, "--zoo", tmp_path / "zoo", "--runs", "0-2,5", "--workers", "2"]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "exported 4 runs" in process.stdout
    assert process.stderr == ""
    assert [key.run for key in list_runs(tmp_path / "zoo")] == [0, 1, 2, 5]


def test_the_verb_does_the_same_and_skips_what_is_there(tree, tmp_path, capsys):
    zoo = str(tmp_path / "zoo")
    assert main(["export", str(tree), "--zoo", zoo, "--shard", "0/2"]) == 0
    assert main(["export", str(tree), "--zoo", zoo, "--subset-ratio", "0.70"]) == 0
    assert "exported 3 runs" in (output := capsys.readouterr().out)
    assert "skipped 3" in output


def test_a_seek_index_is_of_an_archive_that_is_read_from_its_beginning(tree, tmp_path, capsys):
    words = ["export", str(tree), "--zoo", str(tmp_path / "zoo"), "--index", str(tmp_path / "x.seek")]
    assert main(words) == 1
    assert "is not an archive that is read from its beginning, --index has no use there" in capsys.readouterr().err
    assert not (tmp_path / "zoo").exists()


def test_one_run_directory_needs_its_name(tree, tmp_path, capsys):
    source, zoo = str(tree / EXPERIMENT / "0.7" / "3"), str(tmp_path / "zoo")
    assert main(["export", source, "--zoo", zoo]) == 1
    assert "name the run with --experiment, --subset-ratio and --runs" in capsys.readouterr().err
    options = ["--experiment", EXPERIMENT, "--subset-ratio", "0.4", "--runs", "8"]
    assert main(["export", source, "--zoo", zoo, *options]) == 0
    assert [str(key) for key in list_runs(zoo)] == [f"{EXPERIMENT}/0.4/8"]


def test_a_bad_run_is_one_line_and_exit_status_1(tree, tmp_path, capsys):
    (tree / EXPERIMENT / "0.7/1/aux_arrays.npz").write_bytes(b"no npz")
    assert main(["export", str(tree), "--zoo", str(tmp_path / "zoo")]) == 1
    captured = capsys.readouterr()
    lines = [line for line in captured.err.replace("\r", "\n").splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert f"error: run {EXPERIMENT}/0.7/1: " in lines[0]
    assert "aux_arrays.npz: is not a readable npz file" in lines[0]
    assert "exported 5 runs" in captured.out
    assert "1 failed" in captured.out


@pytest.mark.parametrize(
    "options", [["--runs", "x"], ["--shard", "3/2"], ["--subset-ratio", "1.5"], ["--workers", "0"], []]
)
def test_wrong_usage_exits_with_2_and_no_traceback(tree, options, capsys):
    arguments = ["export", str(tree), *options, *(["--zoo", "zoo"] if options else [])]
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "heldout export: error:" in capsys.readouterr().err


def test_a_source_that_is_not_there_is_one_line(tmp_path, capsys):
    assert main(["export", str(tmp_path / "absent"), "--zoo", str(tmp_path / "zoo")]) == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'absent'}: there is no such folder")


def test_the_bundled_sample_is_exported_by_its_experiments_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["export", "digits-mlp-tf", "--zoo", "zoo"]) == 0
    assert "exported 6 runs to zoo" in capsys.readouterr().out
    assert [key.run for key in list_runs("zoo")] == list(range(6))


def test_an_archive_that_is_not_there_is_no_misspelt_experiment(tmp_path, capsys):
    assert main(["export", str(tmp_path / "cifar10-inception.tar.gz"), "--zoo", str(tmp_path / "zoo")]) == 1
    error = capsys.readouterr().err
    assert "cifar10-inception.tar.gz: does not exist" in error
    assert "did you mean" not in error


@pytest.mark.parametrize("name", ["runs.tar", "runs.tar?sig=1", "download.php?id=3", "runs.v1.bin"])
@pytest.mark.parametrize("packed", [True, False])
def test_an_archive_at_an_address_may_have_any_name(tree, tmp_path, capsys, monkeypatch, name, packed):
    """It was asked for a manifest below it, though a file of that name was read."""
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "served").mkdir()
    with tarfile.open(tmp_path / "served" / name.partition("?")[0], "w:gz" if packed else "w") as archive:
        archive.add(tree / EXPERIMENT, EXPERIMENT)
    with Server(tmp_path / "served").running() as server:
        assert main(["export", f"{server.url}/{name}", "--zoo", str(tmp_path / "zoo")]) == 0
    assert "exported 6 runs" in capsys.readouterr().out


def test_an_address_of_any_name_is_not_waited_for_in_silence(tmp_path, capsys, monkeypatch, slept):
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path / "cache"))
    assert main(["export", "http://127.0.0.1:1/runs.php?id=3", "--zoo", str(tmp_path / "zoo")]) == 1
    assert "waiting 0.2 s, then on from byte 0" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["zoo.v1", "zoo.targets"])
def test_what_else_is_called_a_tar_is_one_line_and_a_zoo_may_have_a_dot(tree, tmp_path, capsys, monkeypatch, name):
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path / "cache"))
    main(["export", str(tree), "--zoo", str(tmp_path / "served" / name)])
    (tmp_path / "served" / "runs.tar.xz").write_bytes(b"\xfd7zXZ\0" + bytes(600))
    with Server(tmp_path / "served").running() as server:
        assert main(["export", f"{server.url}/runs.tar.xz", "--zoo", str(tmp_path / "zoo")]) == 1
        assert "runs.tar.xz: is an xz file, not a .tar.gz" in capsys.readouterr().err
        assert main(["export", f"{server.url}/{name}", "--zoo", str(tmp_path / "zoo")]) == 0
    assert "exported 6 runs" in capsys.readouterr().out
