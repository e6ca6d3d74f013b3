"""Docstrings of what is public: there, and begun with what it does, as a command."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "heldout_torch"
FILES = sorted(PACKAGE.rglob("*.py"))
# "Whether" and "As ..." say what is returned. Else it is a verb, but not one of the two that may mean anything.
NO_BEGINNING = re.compile(r"(?!(As|Bring)\b)(The|This|A|An|It|Which|What|Give|Tell|\w*ing|\w*[^sS\W]s)\b")


def public_functions(node):
    """Yield functions and methods that a user or another module may call; not overloads and stubs of protocols."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield from public_functions(child)
        if isinstance(child, ast.FunctionDef) and not child.name.startswith("_"):
            decorators = " ".join(map(ast.unparse, child.decorator_list))
            is_stub = len(child.body) == 1 and ast.unparse(child.body[0]) == "..."
            if not is_stub and not re.search(r"property|setter|overload|\boverrides\b", decorators):
                yield child


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_docstrings_begin_with_a_verb(file):
    for function in public_functions(ast.parse(file.read_text())):
        told = ast.get_docstring(function)
        assert told, f"line {function.lineno}: {function.name} has no docstring"
        assert not NO_BEGINNING.match(told), f"line {function.lineno}: {told.splitlines()[0]}"
