"""What `make gpu` runs: tests without their packages are skipped by name, and the benchmark writes its table."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.helpers.devices import only_pretended
from tests.pretend_cuda import pretended_cuda

REPOSITORY = Path(__file__).parent.parent

TESTS = """
def test_passes(): pass
def test_needs_more(): import no_such_package
def test_is_wrong(): import heldout_torch.no_such_module
"""


def run(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=REPOSITORY, check=False)


@pytest.fixture
def script(monkeypatch):
    """What imports a file of the benchmarks."""
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    return importlib.import_module


def test_what_lacks_its_package_is_skipped_by_name_and_nothing_else(tmp_path):
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "test_others.py").write_text("import another_missing_package.part\n")
    found = run("-m", "pytest", "-p", "tests.helpers.missing_packages", "-p", "no:cacheprovider", "-rs", tmp_path)
    assert "1 failed, 1 passed, 2 skipped" in found.stdout
    for package in ("no_such_package", "another_missing_package"):
        assert f"skipped for want of {package}: 1 tests, or files of tests" in found.stdout
    assert "FAILED" in found.stdout or "test_is_wrong" in found.stdout


def test_each_section_of_the_benchmark_has_its_turn_though_all_before_it_use_up_theirs(script):
    gpu = script("gpu")
    left, turns, names = 6 * 60.0, {}, list(gpu.SECTIONS)
    for place, name in enumerate(names):
        turns[name] = gpu.turn(names[place:], left)
        left -= turns[name]
    assert left == pytest.approx(0)
    assert min(turns.values()) > 10
    assert turns["whole runs"] > 80  # of an H200, 60 s are needed for 20 runs exact and 20 fast
    assert gpu.turn(names[names.index("statistics") :], 300) > turns["statistics"]  # what others left
    assert gpu.turn(["statistics"], 300) == 300
    assert list(gpu.SECTIONS).index("whole runs") == 2


def test_what_a_machine_cannot_try_is_told_and_no_failure(script):
    frame = script("gpu_frame")

    def rows():
        yield frame.Row("first", 1.0)
        raise RuntimeError("no compiler\nwas found")

    first, last = frame.tried("second", rows)
    assert (first.value, last.name, last.value) == (1.0, "second", None)
    assert last.note == "not possible here: RuntimeError: no compiler was found"


SECTIONS = {
    "matrix products", "training", "whole runs", "against the CPU", "evaluation", "MNIST",
    "ResNet50", "statistics", "training otherwise", "trained twice",
}  # fmt: skip


def check_table(folder):
    table = json.loads((folder / "gpu.json").read_text())
    values = {(row["section"], row["name"]): row["value"] for row in table["rows"]}
    assert values["against the CPU", "differ, exact"] == values["against the CPU", "differ, fast"] == 0
    assert [value for (section, _), value in values.items() if section == "trained twice"] == [0, 0, 0]
    none = ("differ", "twice", "fused convolution")  # differences
    assert min(value for (_, name), value in values.items() if not name.startswith(none)) > 0
    return {section for section, _ in values}, {left["why"] for left in table["left_out"]}


@pytest.mark.slow
def test_the_benchmark_runs_on_a_cpu_and_writes_its_table(tmp_path):
    found = run("benchmarks/gpu.py", "--quick", "--device", "cpu", "--minutes", "25", "--out", tmp_path / "gpu.json")
    assert found.returncode == 0, found.stdout + found.stderr
    assert check_table(tmp_path) == (SECTIONS, {"needs a GPU"})


@pytest.mark.slow
@only_pretended
def test_the_benchmark_runs_on_the_pretended_device(tmp_path, monkeypatch, script):
    """So that only what a card alone can do is done there for the first time."""
    gpu = script("gpu")
    words = ["--quick", "--device", "cuda", "--minutes", "25", "--out", str(tmp_path / "gpu.json")]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *words])
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(name="none", total_memory=2**30)
    )
    with pretended_cuda():
        assert gpu.main() == 0
    sections, left_out = check_table(tmp_path)
    assert sections == SECTIONS | {"experiments"}
    assert all(why.startswith("not possible here: ") for why in left_out)
