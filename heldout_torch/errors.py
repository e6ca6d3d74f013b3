"""The errors of this package, each with a message of one line."""

import difflib
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn, TypeVar

T = TypeVar("T")

# Each takes time in proportion to the text, which may be a name of 64 kB that somebody else chose.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://(?:[^\s/]*@)?[^\s'\"<>?]*(?:\?\S*)?")
_CREDENTIALS = re.compile(r"(?<=://)[^/?#]*@")
# Behind a host's colon is a number; what is none is a password in which `/`, `?` or `#` were not written as %2F, ...
_ODD_CREDENTIALS = re.compile(r"(?<=://)[^/?#:@\[]*:(?!\d*(?:[/?#]|$))")
_TOKEN = re.compile(r"\bhf_\w{8,}|(?<=Bearer )[^\s'\"]+")
_BEHIND = "'\":;,)]"  # what a URL's query is followed by in a sentence
_LONGEST = 4000  # letters of a message


class HeldoutError(Exception):
    """Base class of the errors that this package raises.

    The message is one line: what is wrong, in which file or run, what was expected, what to do.
    The command line prints it without a traceback. It is `printable`, whatever names it contains. The middle
    of a message of more than 4,000 letters, which quotes somebody's file, is left out.
    """

    def __init__(self, message: str) -> None:
        line = printable(message)
        if (more := len(line) - _LONGEST) > 0:
            line = f"{line[: _LONGEST // 2]}... ({more} letters) ...{line[-_LONGEST // 2 :]}"
        super().__init__(line)


class CheckpointError(HeldoutError):
    """A TensorFlow checkpoint is damaged, incomplete, or not of the expected network."""


class ZooError(HeldoutError):
    """A run, an experiment or a place of runs is missing or invalid."""


class UnwritableError(ZooError):
    """A place takes no files, or no more: its disk is full, it is not allowed, or it is gone. What is written stays."""


class RefusedError(ZooError):
    """A place refuses access to a file; some places say so of files that are not there."""


class DataError(HeldoutError):
    """A data set, or an array over its examples, is missing or invalid."""


class DeviceError(HeldoutError):
    """A device does not exist, failed, or has too little memory; another device may do the work."""


def printable(text: str) -> str:
    r"""Return a text as one line that a terminal shows as it is.

    Line breaks, escape sequences and other control characters are written as Python escapes them. What URLs carry
    in secret is left out: the user and password before `@`, and the query, which may be a signature; so are tokens.

    >>> print(printable("s3://user:secret@bucket/zoo?sig=1: holds \x1b[2J"))
    s3://...@bucket/zoo?...: holds \x1b[2J
    """
    text = _TOKEN.sub("...", text)
    text = _URL.sub(_without_secrets, text)
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _without_secrets(found: re.Match[str]) -> str:
    shown = _CREDENTIALS.sub("...@", found[0])
    if odd := _ODD_CREDENTIALS.search(shown, 0, shown.rfind("@") + 1):
        shown = f"{shown[: odd.start()]}...{shown[shown.rindex('@') :]}"
    address, mark, query = shown.partition("?")
    return f"{address}?...{query[len(query.rstrip(_BEHIND)) :]}" if mark else address


def warn(message: str, stacklevel: int = 1) -> None:
    """Warn in one line that is `printable`, as errors are; every warning of the package comes from here.

    Args:
        message: The line.
        stacklevel: As in `warnings.warn`, counted from the caller; 0 for whoever called the package.
    """
    if not stacklevel:
        frame, stacklevel = sys._getframe(1), 1
        while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == __name__.partition(".")[0]:
            frame, stacklevel = frame.f_back, stacklevel + 1
    warnings.warn(printable(message), stacklevel=stacklevel + 1)


def one_line(error: object) -> str:
    """Return all of an error's message as one line; the name of its class if it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def os_errors(kind: type[HeldoutError], line: str, path: object = None) -> Iterator[None]:
    """Raise what the system refuses while the block runs in one line, such as `x.npz: cannot be read (Is a directory)`.

    Args:
        kind: Of the error.
        line: What is said before the reason.
        path: What the line is about, where it does not say that itself: the file that the system names, or else this.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or one_line(error)  # NumPy, for one, says it in words of its own
        about = "" if path is None else f"{error.filename or path}: "
        raise kind(f"{about}{line} ({reason})") from None


def of_run(key: object, message: str) -> str:
    """Return a message that begins with the run that it is about, and names it once.

    >>> of_run("e/0.7/3", "cannot be read"), of_run("e/0.7/3", "run e/0.7/3 is not in Z")
    ('run e/0.7/3: cannot be read', 'run e/0.7/3 is not in Z')
    """
    name = f"run {key}"
    return message if message.startswith((f"{name}:", f"{name} ")) else f"{name}: {message}"


def listed(names: Iterable[object], most: int = 10) -> str:
    """Return names as a list in an error, such as `a, b and 91 more`."""
    texts = list(map(str, names))
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def counted(number: object, noun: str) -> str:
    """Return how many of something there are; the number may be written already.

    >>> counted(1, "run"), counted(2000, "run"), counted(2, "class")
    ('1 run', '2000 runs', '2 classes')
    """
    return f"{number} {noun}" + ("" if str(number) == "1" else "es" if noun.endswith("s") else "s")


def nearest(name: object, known: Iterable[str]) -> str:
    """Return `; did you mean 'NAME'?` for the known name that is most like a misspelt one, or nothing if none is.

    A name that is only the first part of others, such as `cifar10` of `cifar10-inception`, means the shortest of them.
    """
    names = {known_name.lower(): known_name for known_name in known}
    word = str(name).lower()
    whole = sorted((other for other in names if word and other.startswith((f"{word}-", f"{word}_"))), key=len)
    found = whole or difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"; did you mean {names[found[0]]!r}?" if found else ""


class Named(dict[str, T]):
    """Things by name; to look up a name that is not there is an error of one line.

    Args:
        what: What such a name is not, such as `an experiment of the package`.
        error: Its class.
        things: All of them.
    """

    def __init__(self, what: str, error: type[HeldoutError], things: Mapping[str, T]) -> None:
        super().__init__(things)
        self._what, self._error = what, error

    def __missing__(self, name: str) -> NoReturn:
        raise self._error(f"{name!r} is not {self._what}{nearest(name, self)} (there are {', '.join(self)})")
