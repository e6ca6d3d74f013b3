"""The package as a whole: cheap to import, complete when installed.

Also of lazy.py.
"""

import importlib
import inspect
import shutil
import subprocess
import sys
import sysconfig
import types
import typing
import venv
import zipfile
from pathlib import Path

import pytest

import heldout_torch

REPOSITORY = Path(__file__).parent.parent
HEAVY = ["tensorflow", "torchvision", "matplotlib", "ray", "sklearn"]
ROOMS = [
    f"heldout_torch.{room}"
    for room in ("data", "evaluation", "experiments", "models", "report", "stats", "training", "zoo")
]


def modules_after(code: str) -> set[str]:
    code += "; import sys; print(*(name.partition('.')[0] for name in sys.modules))"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(process.stdout.split())


def test_importing_the_package_imports_nothing_heavy():
    assert not modules_after("import heldout_torch") & {*HEAVY, "torch", "numpy", "numba"}


def test_importing_the_statistics_imports_nothing_heavy():
    assert not modules_after("import heldout_torch.stats") & {*HEAVY, "numba"}


def test_data_sets_are_named_without_torch():
    assert "torch" not in modules_after("import heldout_torch.data, heldout_torch.data.checks")


def test_the_command_line_starts_without_torch():
    assert not modules_after("from heldout_torch.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass") & {
        *HEAVY,
        "torch",
        "numba",
    }


@pytest.mark.parametrize("name", heldout_torch.__all__)
def test_public_names_can_be_imported(name):
    assert getattr(heldout_torch, name).__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = heldout_torch.nonsense


def test_everything_public_is_listed_and_found_without_another_import():
    code = (
        "import heldout_torch as h; assert set(h.__all__) < set(dir(h)); "
        "print('digits-mlp' in h.zoo.known_experiments(), h.data.tfds_order('train', 10)[:3], "
        "h.stats.memorization.__name__)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout == "True [6 5 4] memorization\n"


def test_what_the_package_itself_uses_is_not_listed():
    names = {name for name in dir(heldout_torch) if not name.startswith("__")}
    rooms = {name for name in names if isinstance(getattr(heldout_torch, name), types.ModuleType)}
    assert names - rooms == {*heldout_torch.__all__}
    assert not rooms & {"lazy", "optional", "sys"}
    assert "data" in rooms


@pytest.mark.parametrize("room", ROOMS)
def test_what_a_room_offers_is_listed_before_it_is_used(room):
    """Of `report` nothing was."""
    code = f"import {room} as room; print(set(room.__all__) - set(dir(room)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


@pytest.mark.parametrize("package", ["heldout_torch", *ROOMS])
def test_the_types_of_everything_public_can_be_asked_for(package):
    """Names of `stats`, of figures and of transforms were known to type checkers alone."""
    module = importlib.import_module(package)
    for name in getattr(module, "__all__", ()):
        thing = getattr(module, name)
        if not inspect.isclass(thing) and not inspect.isfunction(thing):
            continue  # an alias of types
        typing.get_type_hints(thing)
        for own, member in vars(thing).items() if inspect.isclass(thing) else ():
            function = next((getattr(member, of) for of in ("__func__", "fget", "func") if hasattr(member, of)), member)
            if inspect.isfunction(function) and not own.startswith("_"):
                typing.get_type_hints(function)


def test_tables_are_made_without_torch():
    assert "torch" not in modules_after("import heldout_torch.stats.run_table, heldout_torch.stats.pairs")


def test_ipython_completes_names():
    from IPython.core.completer import IPCompleter

    completer = IPCompleter(namespace={"heldout_torch": heldout_torch}, use_jedi=False)
    for text, expected in {
        "heldout_torch.load_": {"load_dataset", "load_run", "load_runs"},
        "heldout_torch.zo": {"zoo"},
        "heldout_torch.zoo.open_": {"open_writable", "open_zoo"},
        "heldout_torch.stats.memor": {"memorization", "memorization_error", "memorization_interval"},
    }.items():
        found = {match.rpartition(".")[2] for match in completer.complete(text)[1]}
        assert expected <= found, text


@pytest.mark.slow
def test_the_wheel_carries_all_that_is_needed(tmp_path):
    source = tmp_path / "source"  # building leaves files behind
    shutil.copytree(REPOSITORY / "heldout_torch", source / "heldout_torch")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, source]
    subprocess.run(build, check=True, capture_output=True)
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    wheel = next(tmp_path.glob("*.whl"))
    assert wheel.stat().st_size < 3 * 2**20
    data = {
        "experiments/cifar10-inception.toml",
        "stats/published.toml",
        "report/templates/index.html",
        "data/digits.npz",
        "py.typed",
    }
    assert {f"heldout_torch/{name}" for name in data} <= set(zipfile.ZipFile(wheel).namelist())
    subprocess.run([python, "-m", "pip", "install", "--no-deps", "--no-index", wheel], check=True, capture_output=True)
    # Only the dependencies come from here: 5 GB that need not be installed twice.
    (next(environment.glob("lib/*/site-packages")) / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    code = (
        "import heldout_torch as h; print(h.__file__); print(len(h.list_runs()));"
        "print(h.load_run('digits-mlp-tf', 0.7, 3).aux.train_examples);"
        "from heldout_torch.data import load_digits; print(len(load_digits().train.labels))"
    )
    process = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    file, runs, examples, images = process.stdout.split()
    assert Path(file).is_relative_to(environment)
    assert (runs, examples, images) == ("6", "1437", "1437")
    helped = subprocess.run([environment / "bin" / "heldout", "--help"], capture_output=True, text=True, check=True)
    assert "export" in helped.stdout
