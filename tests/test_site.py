"""The site beyond its Markdown: the page of the command line, and docstrings that it would turn round."""

import argparse
import ast
import importlib.util
import re
from pathlib import Path

import pytest

from heldout_torch.cli import ACTIONS, VERBS, verb_parser

DOCS = Path(__file__).parent.parent / "docs"
PACKAGE = Path(__file__).parent.parent / "heldout_torch"


def commands():
    """Return the module that writes the page of the command line."""
    found = importlib.util.spec_from_file_location("commands", DOCS / "commands.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def sections():
    """The text below each heading of the page of the command line."""
    page = commands().fill((DOCS / "reference" / "commands.md").read_text())
    parts = page.replace("\n### ", "\n## ").split("\n## ")
    return {title: text for title, _, text in (part.partition("\n") for part in parts)}


def parsers(verb):
    """Yield the name and the parser of a verb, or of each of its actions."""
    parser = verb_parser(verb)
    choices = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    yield from (
        ((f"heldout {verb} {name}", action) for name, action in choices[0].items())
        if choices
        else ((f"heldout {verb}", parser),)
    )


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_of_a_verb_is_in_its_section(verb, sections):
    assert verb not in ACTIONS or f"heldout {verb}" in sections
    for name, parser in parsers(verb):
        for action in parser._actions:
            for word in action.option_strings[-1:] or [action.metavar]:
                common = word in commands().EVERYWHERE
                assert f"- `{word}" in (sections["# The command line"] if common else sections[name]), (name, word)
                assert action.help, f"{name} {word}: says nothing"
        assert parser.description, f"{name} --help: does not say what it does"


def properties(tree):
    """Yield the class, the name and the docstring of each public property."""
    for node in ast.walk(tree):
        for child in node.body if isinstance(node, ast.ClassDef) else ():
            is_property = isinstance(child, ast.FunctionDef) and any(
                "property" in ast.unparse(decorator) for decorator in child.decorator_list
            )
            if is_property and not child.name.startswith("_"):
                yield node.name, child.name, ast.get_docstring(child) or ""


def test_no_property_begins_with_a_colon_which_the_site_takes_for_the_end_of_a_type():
    checked = 0
    for file in sorted(PACKAGE.rglob("*.py")):
        for owner, name, told in properties(ast.parse(file.read_text())):
            first = re.sub(r"`[^`]*`", "", told.partition("\n")[0])
            assert ":" not in first, f"{file.name}: {owner}.{name}: {first}"
            checked += 1
    assert checked > 20


def test_no_argument_is_as_above_since_the_site_shows_nothing_above_it():
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            told = (ast.get_docstring(node) or "") if isinstance(node, ast.ClassDef | ast.FunctionDef) else ""
            arguments = told.partition("Args:")[2].partition("Raises:")[0]
            assert not re.search(r"\bAs above\b", arguments), f"{file.name}: {node.name}"
