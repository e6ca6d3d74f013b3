"""Rooms of the package: imports run downwards only, and nobody but `zoo/open.py` knows the archives."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "heldout_torch"
TIERS = [
    {"errors", "lazy"},
    {"storage"},
    {"experiments", "data", "models", "checkpoints", "plugins"},
    {"zoo", "archives"},
    {"evaluation", "stats", "training"},
    {"report"},
    {"cli"},
]
LEVEL = {room: level for level, rooms in enumerate(TIERS) for room in rooms}
FILES = sorted(PACKAGE.rglob("*.py"))


def rooms_named(file):
    """Return the rooms that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        modules = (
            [alias.name for alias in node.names] if isinstance(node, ast.Import)
            else [f"{node.module}.{alias.name}" for alias in node.names] if isinstance(node, ast.ImportFrom)
            else []
        )  # fmt: skip
        names |= {module.split(".")[1] for module in modules if module.startswith("heldout_torch.")}
    return names - {"__version__"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_run_downwards(file):
    room = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room.startswith("__"):
        return  # the package itself names what is public
    for other in rooms_named(file):
        assert LEVEL[other] <= LEVEL[room], f"{room} imports {other}"
        if (other, room) == ("archives", "zoo"):
            assert file.name == "open.py"


def test_no_file_is_long():
    assert not {str(file.relative_to(PACKAGE)): n for file in FILES if (n := len(file.read_text().splitlines())) > 300}
