"""The parser of every verb, and of every action of a verb."""

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from heldout_torch.cli.output import say
from heldout_torch.errors import nearest
from heldout_torch.plugins import load_plugins
from heldout_torch.storage.paths import ZOO_VARIABLE, environment

_INVALID = re.compile(r"invalid choice: '([^']*)' \(choose from (.*)\)")  # in argparse's own words
_REQUIRED = re.compile(r"arguments are required: (.*)")
_BY_DEFAULT = re.compile(r"environment variable (\w+) names it")  # as the help of such a place says
_NUMBERS = re.compile(r"[0-9.,-]+")  # such as subset ratios and runs
_UNKNOWN = re.compile(r"unrecognized arguments: (?:[^;]* )?(--[\w-]+)")


class Formatter(argparse.HelpFormatter):
    """A formatter whose usage has `[ZOO]` where the environment may name the place."""

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        words = super()._format_args(action, default_metavar)
        by_variable = not action.option_strings and _BY_DEFAULT.search(action.help or "")
        return f"[{words}]" if by_variable and action.nargs is None else words


class HelpfulParser(argparse.ArgumentParser):
    """A parser whose help is output like any other: an output that does not take it is noticed."""

    def error(self, message: str) -> NoReturn:
        """End with a usage error; of a misspelt word among few, the nearest is named."""
        if (found := _INVALID.search(message)) is not None:
            message += nearest(found[1], re.findall(r"[\w.-]+", found[2]))
        elif (found := _REQUIRED.search(message)) is not None:
            message += self._of_places(set(found[1].split(", ")))
        elif (found := _UNKNOWN.search(message)) is not None:
            message += nearest(found[1], [name for name in self._option_string_actions if name.startswith("--")])
        super().error(message)

    def _of_places(self, lacking: set[str]) -> str:
        """Return how a place of runs that is lacking can be named by the environment, or why it is not."""
        for action in self._actions:
            if {action.metavar, *action.option_strings} & lacking and (found := _BY_DEFAULT.search(action.help or "")):
                return f"; or set {found[1]}"
        if lacking & {"ZOO", "--zoo", "REMOTE"} and environment(ZOO_VARIABLE):
            return f"; {ZOO_VARIABLE} names only where runs are read; name where to write"
        return ""

    def print_help(self, file: Any = None) -> None:
        """Write the help to standard output."""
        for line in self.format_help().splitlines():
            say(line)


class Parser(HelpfulParser):
    """A parser with the options that every command takes; parsers of actions are made of the same class."""

    def parse_known_args(self, *given: Any, **named: Any) -> Any:
        """Parse words; those that an action does not know are told with the action's own usage."""
        options, unknown = super().parse_known_args(*given, **named)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._of_word(unknown[0], given[0] or ())}")
        return options, unknown

    def _of_word(self, unknown: str, words: Sequence[str]) -> str:
        """Return what may have been meant by a word that is neither an option nor expected."""
        if unknown.startswith("-"):
            return ""
        place = len(words) - 1 - words[::-1].index(unknown) if unknown in words else 0
        before = [part for word in words[:place] for part in word.split("=", 1)][-2:]
        option = self._option_string_actions.get(before[0]) if len(before) == 2 else None
        if option is not None and option.nargs is None and all(map(_NUMBERS.fullmatch, [before[1], unknown])):
            return f"; {before[0]} takes one value here"
        by_option = "--experiment" in self._option_string_actions
        return f"; an experiment is named by --experiment {unknown}" if by_option else ""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=Formatter, **options)
        told = self.add_argument_group("what is told")
        # Suppressed defaults: an action's parser would write them over what stood before the action.
        told.add_argument(
            "--quiet", action="store_true", default=argparse.SUPPRESS,
            help="no progress and no summary; lists that were asked for, warnings and errors are still written",
        )  # fmt: skip
        told.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS,
            help="lists and summaries as JSON on standard output, one object per line",
        )  # fmt: skip
        self.add_argument(
            "--plugin", type=_imported, default=argparse.SUPPRESS, metavar="MODULE",
            help="import this module (dotted name), which registers your networks or data sets; can be repeated",
        )  # fmt: skip


def _imported(name: str) -> str:
    load_plugins([name])
    return name
