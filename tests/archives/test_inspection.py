"""A look at the beginning of an archive: what it names is what is there."""

import io
import zipfile

import numpy as np
import pytest

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
    seen = []
    found = inspect(archive, limit=1, progress=seen.append)
    assert not found.ended
    assert found.read == sum(seen) < archive.stat().st_size
    assert "its beginning" in next(found.lines())


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
    assert found.arrays["config: object (1,)"] == 1
    assert any(name.startswith("loss: no array") for name in found.arrays)
    assert next(run.metadata.run for run in found.converted) == 1
    ignoring = inspect(archive, ignore=["model/ema/*"])
    assert not ignoring.problems
    assert next(run.metadata.key for run in ignoring.converted) == RunKey(EXPERIMENT, 0.7, 0)


def test_an_unknown_experiment_and_bytes_that_are_none_are_problems(tree, tmp_path):
    (tree / EXPERIMENT).rename(tree / "who")
    found = inspect(pack(tree, tmp_path / "x.tar.gz"))
    assert found.runs["who/0.7"] == 12
    assert "'who' is not known" in next(iter(found.problems))
    assert list(found.lines())[-1] == "an export would convert nothing of what was read"
    (tmp_path / "page.tar.gz").write_bytes(b"<html>no</html>")
    assert "is a web page or a message" in next(iter(inspect(tmp_path / "page.tar.gz").problems))
