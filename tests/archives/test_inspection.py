"""A look at the beginning of an archive: what it names is what is there."""

import io
import shutil
import tarfile
import zipfile

import numpy as np
import pytest

from heldout_torch.archives import inspection
from heldout_torch.archives.inspection import inspect_archive
from heldout_torch.zoo.keys import RunKey
from tests.archives.test_unforeseen import EXTRA, add_variables, run_folder
from tests.helpers.archives import EXPERIMENT, multiply, pack


@pytest.fixture
def tree(tmp_path):
    return multiply(tmp_path / "tree", 12)


def inspect(archive, limit=2**30, **options):
    with open(archive, "rb") as stream:
        return inspect_archive(stream, archive.name, limit, **options)


def test_a_good_archive_is_described_and_its_first_runs_converted(tree, tmp_path):
    (tree / EXPERIMENT / "README").write_text("no run")
    archive = pack(tree, tmp_path / "x.tar.gz")
    found = inspect(archive)
    assert found.ended
    assert found.read == archive.stat().st_size
    assert dict(found.runs) == {f"{EXPERIMENT}/0.7": 12}
    assert dict(found.layouts) == {
        f"{EXPERIMENT}/0.7/#/aux_arrays.npz": 12,
        f"{EXPERIMENT}/0.7/#/checkpoints/ckpt-#.index": 12,
        f"{EXPERIMENT}/0.7/#/checkpoints/ckpt-#.data-#-of-#": 12,
    }
    assert dict(found.others) == {f"{EXPERIMENT}/README": 1}
    assert len(found.converted) == 3
    assert found.arrays["index_test: int64 (360,)"] == 3
    assert found.variables["model/_layers/#/w: float32"] == 6
    assert not found.problems
    assert not found.unknown
    lines = list(found.lines())
    assert lines[-1] == "an export would convert all runs like these"
    assert any(line.startswith(f"converted run {EXPERIMENT}/0.7/") for line in lines)


def test_only_the_beginning_is_read(tmp_path):
    archive = pack(multiply(tmp_path / "tree", 40), tmp_path / "x.tar.gz", seed=None)
    for limit in (1, archive.stat().st_size // 2):
        seen = []
        found = inspect(archive, limit=limit, progress=seen.append)
        assert not found.ended
        assert found.read == sum(seen) == limit
        assert "its beginning" in next(found.lines())
        assert not found.problems


def test_no_more_is_held_than_is_allowed_and_what_is_converted_is_held_no_longer(tree, tmp_path, monkeypatch):
    archive = pack(tree, tmp_path / "x.tar.gz", seed=None)  # one run after the other
    runs = (tree / EXPERIMENT / "0.7").iterdir()
    sizes = [sum(path.stat().st_size for path in run.rglob("*") if path.is_file()) for run in runs]
    for bound, converted in ((max(sizes), 3), (min(sizes) - 1, 0)):
        monkeypatch.setattr(inspection, "HELD", bound)
        assert len(inspect(archive).converted) == converted
    monkeypatch.undo()
    monkeypatch.setattr(inspection, "run_limit", lambda experiment: min(sizes) - 1)
    assert not inspect(archive).converted


def test_names_without_end_are_told_in_a_bounded_report(tmp_path):
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("/etc/passwd"))
        for number in reversed(range(300)):
            tar.addfile(tarfile.TarInfo("y" * number + "x"))
    found = inspect(tmp_path / "x.tar.gz")
    assert sum(found.others.values()) == 300
    assert len(found.others) == 101
    assert max(map(len, found.others)) <= 200
    assert dict(found.problems) == {"member '/etc/passwd': absolute path": 1}
    lines = list(found.lines())
    assert lines.index("            and 89 more kinds") - lines.index("other members:") == 13


def test_what_differs_is_named(tree, tmp_path):
    add_variables(run_folder(tree, 0), EXTRA)
    with zipfile.ZipFile(run_folder(tree, 1) / "aux_arrays.npz", "a") as file:
        pickled = io.BytesIO()
        np.save(pickled, np.array([{}], dtype=object), allow_pickle=True)
        file.writestr("config.npy", pickled.getvalue())
        file.writestr("loss.npy", b"\x1b[2Jno array")
    (tree / EXPERIMENT / "0.7" / "1").rename(tree / EXPERIMENT / "0.7" / "01")
    archive = pack(tree, tmp_path / "x.tar.gz", seed=None)
    found = inspect(archive)
    assert found.layouts[f"{EXPERIMENT}/0.7/0#/aux_arrays.npz"] == 1
    assert set(found.unknown) == {"model/ema/decay", "model/ema/w"}
    (problem,) = found.problems
    assert "--ignore 'model/ema/*'" in problem
    assert list(found.lines())[-1] == "an export would convert runs like these, and refuse those that have problems"
    assert found.arrays["config: object (1,)"] == 1
    assert any(name.startswith("loss: no array") for name in found.arrays)
    assert next(run.metadata.run for run in found.converted) == 1
    ignoring = inspect(archive, ignore=["model/ema/*"])
    assert not ignoring.problems
    assert next(run.metadata.key for run in ignoring.converted) == RunKey(EXPERIMENT, 0.7, 0)


def test_a_run_of_two_folders_is_one_problem_whatever_the_number_of_its_files(tree, tmp_path):
    shutil.copytree(run_folder(tree, 0), run_folder(tree / "again", 0))
    found = inspect(pack(tree, tmp_path / "x.tar.gz", seed=None))
    (problem,) = found.problems.elements()
    assert problem.startswith(f"run {EXPERIMENT}/0.7/0: the run lies under '{EXPERIMENT}/0.7/0', too")


def test_an_unknown_experiment_and_bytes_that_are_none_are_problems(tree, tmp_path):
    (tree / EXPERIMENT).rename(tree / "who")
    found = inspect(pack(tree, tmp_path / "x.tar.gz"))
    assert found.runs["who/0.7"] == 12
    assert "'who' is not known" in next(iter(found.problems))
    assert list(found.lines())[-1] == "an export would convert nothing of what was read"
    (tmp_path / "page.tar.gz").write_bytes(b"<html>no</html>")
    assert "is a web page or a message" in next(iter(inspect(tmp_path / "page.tar.gz").problems))
