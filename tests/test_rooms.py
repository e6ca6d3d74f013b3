"""Rooms of the package: imports run downwards only, and nobody but `zoo/open.py` knows the archives.

And of the tests: every module has some, and they patch no private names.
"""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "heldout_torch"
TIERS = [
    {"errors", "lazy", "optional"},
    {"storage"},
    {"experiments", "data", "models", "checkpoints", "plugins", "cluster", "devices", "float32"},
    {"zoo", "archives"},
    {"evaluation", "stats", "training"},
    {"report"},
    {"cli"},
]
LEVEL = {room: level for level, rooms in enumerate(TIERS) for room in rooms}
FILES = sorted(PACKAGE.rglob("*.py"))
TESTS = Path(__file__).parent
TEST_FILES = sorted(TESTS.rglob("*.py"))


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


def test_every_module_has_a_test_file_or_is_named_in_anothers_header():
    headers = [ast.get_docstring(ast.parse(file.read_text())) or "" for file in TEST_FILES]
    named = {name for header in headers for name in re.findall(r"[\w/]+\.py", header.partition("Also of ")[2])}
    modules = {file.relative_to(PACKAGE) for file in FILES if not file.name.startswith("__")}
    mirrored = {module for module in modules if (TESTS / module.parent / f"test_{module.name}").exists()}
    assert {str(module) for module in modules - mirrored} <= named
    assert named <= {str(module) for module in modules}


@pytest.mark.parametrize("file", TEST_FILES, ids=lambda file: str(file.relative_to(TESTS)))
def test_no_private_name_of_the_package_is_patched(file):
    tree = ast.parse(file.read_text())
    ours = {alias.asname or alias.name for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("heldout_torch")
            for alias in node.names}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith((".setattr", "patch", "patch.object")):
            target, *others = node.args
            name = ".".join(str(getattr(other, "value", "")) for other in others[:1])
            if isinstance(target, ast.Constant):
                private = str(target.value).startswith("heldout_torch") and "._" in target.value
            else:
                private = ast.unparse(target).partition(".")[0] in ours and name.startswith("_")
            assert not private, f"line {node.lineno}: {ast.unparse(node)}"
