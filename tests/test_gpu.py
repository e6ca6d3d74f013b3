"""What `make gpu` runs: tests without their packages are skipped by name, and the benchmark writes its table."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent

TESTS = """
def test_passes(): pass
def test_needs_more(): import no_such_package
def test_is_wrong(): import heldout_torch.no_such_module
"""


def run(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=REPOSITORY, check=False)


def test_what_lacks_its_package_is_skipped_by_name_and_nothing_else(tmp_path):
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "test_others.py").write_text("import another_missing_package.part\n")
    found = run("-m", "pytest", "-p", "tests.helpers.missing_packages", "-p", "no:cacheprovider", "-rs", tmp_path)
    assert "1 failed, 1 passed, 2 skipped" in found.stdout
    for package in ("no_such_package", "another_missing_package"):
        assert f"skipped for want of {package}: 1 tests, or files of tests" in found.stdout
    assert "FAILED" in found.stdout or "test_is_wrong" in found.stdout


def test_each_section_of_the_benchmark_has_its_turn_though_all_before_it_use_up_theirs(monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    gpu = importlib.import_module("gpu")
    left, turns = 6 * 60.0, {}
    for name in gpu.SECTIONS:
        turns[name] = gpu.turn(name, left)
        left -= turns[name]
    assert left == pytest.approx(0)
    assert min(turns.values()) > 10
    assert turns["whole runs"] > 80  # of an H200, 60 s are needed for 20 runs exact and 20 fast
    assert gpu.turn("statistics", 300) > turns["statistics"]  # what others left
    assert list(gpu.SECTIONS).index("whole runs") == 2


@pytest.mark.slow
def test_the_benchmark_runs_on_a_cpu_and_writes_its_table(tmp_path):
    found = run("benchmarks/gpu.py", "--quick", "--device", "cpu", "--minutes", "25", "--out", tmp_path / "gpu.json")
    assert found.returncode == 0, found.stdout + found.stderr
    table = json.loads((tmp_path / "gpu.json").read_text())
    values = {(row["section"], row["name"]): row["value"] for row in table["rows"]}
    assert values["against the CPU", "differ, exact"] == values["against the CPU", "differ, fast"] == 0
    assert [value for (section, _), value in values.items() if section == "trained twice"] == [0, 0, 0]
    assert min(value for (_, name), value in values.items() if not name.startswith(("differ", "twice"))) > 0
    assert {section for section, _ in values} == {
        "matrix products", "training", "whole runs", "against the CPU", "evaluation", "ResNet50", "statistics",
        "training otherwise", "trained twice",
    }  # fmt: skip
    assert {left["why"] for left in table["left_out"]} == {"needs a GPU"}
