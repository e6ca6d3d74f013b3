"""The page of the command line: every verb, action and option, as the parsers have them when the site is built."""

import argparse
import re
from collections.abc import Iterator

from heldout_torch.cli import ACTIONS, VERBS, verb_parser

MARK = "EVERY VERB IS WRITTEN HERE"  # what stands in reference/commands.md
EVERYWHERE = {"--help", "--json", "--plugin", "--quiet"}  # said once, on the page itself


def fill(text: str) -> str:
    """Return the text of a page, in Markdown, with the verbs in place of the mark if it has one."""
    return text.replace(MARK, "\n".join(_verbs())) if MARK in text else text


def _verbs() -> Iterator[str]:
    for verb, about in VERBS.items():
        parser = verb_parser(verb)
        yield f"## heldout {verb}\n\n{_plain(parser.description or _sentence(about))}\n"
        if verb not in ACTIONS:
            yield from _options(parser)
            continue
        (actions,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
        helps = {action.dest: action.help for action in actions._choices_actions}
        for name in ACTIONS[verb]:
            action = actions.choices[name]
            yield f"### heldout {verb} {name}\n\n{_plain(action.description or _sentence(helps[name]))}\n"
            yield from _options(action)


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the usage of a verb or an action, and a list of what it takes."""
    told = parser.formatter_class(parser.prog, width=76)
    own = [action for action in parser._actions if not EVERYWHERE & {*action.option_strings}]
    told.add_usage(None, own, parser._mutually_exclusive_groups, prefix="")
    yield f"```text\n{told.format_help().strip()}\n```\n"
    for action in own:
        if action.help != argparse.SUPPRESS:
            yield f"- `{told._format_action_invocation(action)}`: {_plain(told._expand_help(action))}"
    yield ""


def _sentence(help_text: str) -> str:
    return f"{help_text[:1].upper()}{help_text[1:]}."


def _plain(text: str) -> str:
    """Return text in which nothing is Markdown but what stands between backticks, and options: these are code."""
    parts = re.split(r"(`[^`]*`)", re.sub(r"(`[^`]*`)|(--[a-z][\w-]*)", lambda m: m[1] or f"`{m[2]}`", text))
    return "".join(part if part.startswith("`") else re.sub(r"([\\*_<>\[\]])", r"\\\1", part) for part in parts)
