"""Modules of a user's own: found by name in sys.path alone, known to every process that is started."""

import sys

import pytest

from heldout_torch import HeldoutError, plugins
from heldout_torch.models import build_model, registry
from heldout_torch.plugins import load_plugins, loaded_plugins

MODULE = """
from torch import nn
from heldout_torch.models import register_architecture
register_architecture("plugged", nn.Identity)
"""


@pytest.fixture(autouse=True)
def _fresh(monkeypatch, tmp_path):
    monkeypatch.setattr(plugins, "LOADED", [])
    monkeypatch.setattr(registry, "REGISTERED", {})
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("plug"):
            del sys.modules[name]


def test_a_module_registers_things_and_is_remembered_once(tmp_path):
    (tmp_path / "plug_in.py").write_text(MODULE)
    load_plugins(["plug_in", "plug_in"])
    assert type(build_model("plugged")).__name__ == "Identity"
    assert loaded_plugins() == ("plug_in",)


def test_a_module_beside_which_one_works_is_told_how_it_is_found(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "plug_here.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(HeldoutError, match=r"plug_here is in this folder: `export PYTHONPATH=\.` lets Python find it"):
        load_plugins(["plug_here"])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("plug_none", None, "No module named 'plug_none'; is its folder in PYTHONPATH?"),
        ("plug_bad", "1 / 0", "ZeroDivisionError: division by zero"),
        ("plug_bad2", "import nothing_of_this_name", "No module named 'nothing_of_this_name'"),
        ("plug_taken", MODULE.replace("plugged", "mlp"), "'mlp' is one of this package's own"),
        ("plug/in.py", None, "is not a name of a module"),
        ("../plug", None, "is not a name of a module"),
        ("", None, "is not a name of a module"),
        ("plug_in.py", None, "plugin 'plug_in.py' is a file's name, expected the module's, plug_in"),
    ],
)
def test_what_cannot_be_imported_is_one_line(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / f"{name}.py").write_text(text)
    with pytest.raises(HeldoutError) as error:
        load_plugins([name])
    assert message in str(error.value)
    assert ("PYTHONPATH" in str(error.value)) == ("PYTHONPATH" in message)
    assert loaded_plugins() == ()
