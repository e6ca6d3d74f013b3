"""Packages that only some work needs: each is asked for in the same words, with a command that works everywhere."""

import configparser
import re
import sys
from pathlib import Path

import pytest

from heldout_torch import HeldoutError
from heldout_torch.optional import require

ROOT = Path(__file__).parent.parent


def test_it_is_imported():
    assert require("json.decoder", "this").JSONDecoder


@pytest.mark.parametrize(
    ("module", "installed"),
    [("pandas", "pandas"), ("PIL.Image", "jinja2 matplotlib pillow"), ("sklearn.linear_model", "scikit-learn")],
)
def test_what_is_missing_is_named_as_it_is_installed(monkeypatch, module, installed):
    package = module.partition(".")[0]
    monkeypatch.setitem(sys.modules, package, None)
    line = f"a table needs {package}, which is not installed: pip install {installed}"
    with pytest.raises(HeldoutError, match=f"^{line}$"):
        require(module, "a table")
    with pytest.raises(HeldoutError, match=f"^{line}, or take .csv$"):
        require(module, "a table", "or take .csv")


def test_what_is_broken_is_not_called_missing(monkeypatch, tmp_path):
    (tmp_path / "broken_one.py").write_text("import not_there_at_all")
    (tmp_path / "broken_two.py").write_text("raise ImportError('libfoo.so.1:\\n no such file')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(HeldoutError, match=r"which cannot be imported \(No module named 'not_there_at_all'\)"):
        require("broken_one", "this")
    with pytest.raises(HeldoutError, match=r"^this needs broken_two, .* \(libfoo.so.1: no such file\): or that$"):
        require("broken_two", "this", "or that")


def test_all_that_is_asked_for_is_in_an_extra_of_the_package():
    """But scikit-learn, which one penalty of datamodels needs."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = config["options.extras_require"]
    listed = {re.split(r"[\[>=]", line)[0] for name in extras for line in extras[name].split()}
    calls = re.compile(r'require\(f?"(\w+)')
    asked = {name for file in (ROOT / "heldout_torch").rglob("*.py") for name in calls.findall(file.read_text())}
    assert {"pandas", "ray", "jinja2"} < asked
    assert {{"PIL": "pillow", "sklearn": "scikit-learn"}.get(name, name) for name in asked} <= listed
