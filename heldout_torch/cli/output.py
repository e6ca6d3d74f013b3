"""Output of commands: results on standard output, errors on standard error."""

import argparse
import errno
import io
import json
import math
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from heldout_torch.errors import one_line, printable
from heldout_torch.storage.progress import Bar

# What the library advises in Python, as it is done on the command line.
_ADVICE = (
    (r"once its module is imported", "with --plugin MODULE"),
    (r"or any name and the path of an npz file that holds it", "or give with --data the npz file that holds it"),
    (r"\S{1,99}\(\) missing \d+ required [a-z -]*arguments?: ", "it needs "),
    (r"\S{1,99}\(\) got an unexpected keyword argument ", "it has no option "),
    (r"empty='zero'", "--empty-zero"),
    (r"pass order='original' or order='published'", "give --order original or published"),
    (r"pass its original_index", "give --data"),
    (r"give the data set, or files that", "give the data set (--data), or files (--labels) that"),
    (r"and say their order", "and give --order"),
    (r"name a file for it, out=FILE", "name a file with --out"),
    (r"pass verify_checksums=False", "give --skip-checksums"),
    (r"verify_checksums=False", "--skip-checksums"),
    (r"or pass download=True", "or add --download"),
    (r"give the new runs another name", "give the new runs another name: --name NAME"),
    (r"(pass )?allow_missing=True", "--allow-missing"),
    (r"give the path of its folder", "give with --data the path of its folder"),
    (r"heldout_torch\.list_runs\('([^']*)'\)", r"heldout zoo list \1"),
    (r"name another place: pass zoo='ZOO', or set HELDOUT_TORCH_ZOO", "name another ZOO"),
)
_lost: list[OSError] = []  # why standard output took no more, in this command


def say(line: str) -> None:
    """Write a line to standard output.

    It never stops the work: when the output takes no more, the rest is dropped, and `status` tells in the end.
    """
    try:
        print("\t".join(map(printable, line.split("\t"))))
    except OSError as error:
        _drop(error)


def say_json(**facts: object) -> None:
    """Write a JSON object as a line to standard output; paths are written as text, what is not a number as null."""
    try:
        print(json.dumps({name: _plain(value) for name, value in facts.items()}, default=str))
    except OSError as error:
        _drop(error)


def row(arguments: argparse.Namespace, line: str, **facts: object) -> None:
    """Say a line of a list, or with `--json` an object of facts."""
    if arguments.json:
        say_json(**facts)
    else:
        say(line)


def summarize(arguments: argparse.Namespace, line: str, **facts: object) -> None:
    """Say what was done: as a line, with `--json` as an object of facts, with `--quiet` alone not at all."""
    if arguments.json or not arguments.quiet:
        row(arguments, line, **facts)


def tell(arguments: argparse.Namespace, bar: Bar, line: str, **facts: object) -> None:
    """Say what became of one thing, as `summarize`, while a bar is drawn, which on a terminal makes room for it."""
    if sys.stdout is not None and sys.stdout.isatty() and not arguments.json and not arguments.quiet:
        bar.print(printable(line), sys.stdout)
    else:
        summarize(arguments, line, **facts)


def as_advised(line: str) -> str:
    """Return a message with its advice as it is followed on the command line, on one printable line."""
    for pattern, advice in _ADVICE:
        line = re.sub(pattern, advice, line)
    return printable(line)


def complain(line: str) -> None:
    """Write a line to standard error, if there still is one."""
    with suppress(OSError, ValueError):
        print(as_advised(line), file=sys.stderr, flush=True)


def show_warning(message: Warning | str, *where: object, **more: object) -> None:
    """Write a warning, the package's or a library's, in one line without the place in the code; as `warnings` asks."""
    complain(f"warning: {one_line(message)}")


@contextmanager
def started() -> Iterator[None]:
    """Begin a command, at whose end all is written, however it ends."""
    _lost.clear()
    stream, errors = sys.stdout, getattr(sys.stdout, "errors", "strict")
    if isinstance(stream, io.TextIOWrapper):  # as standard error: a terminal of ASCII is shown ± as \xb1
        stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        _flush()
        if isinstance(stream, io.TextIOWrapper) and not stream.closed:
            stream.reconfigure(errors=errors)


def status() -> int:
    """Write out what is buffered, and return 1 if standard output did not take it all, else 0.

    A reader that has enough (`heldout zoo list ZOO | head`) is not a failure, nor is a terminal that is gone.
    """
    _flush()
    if not _lost or _lost[0].errno in (errno.EPIPE, errno.EIO):
        return 0
    complain(f"error: standard output cannot be written ({_lost[0].strerror})")
    return 1


def _plain(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return printable(str(value)) if isinstance(value, (str, os.PathLike)) else value


def _flush() -> None:
    try:
        sys.stdout.flush()
    except OSError as error:
        _drop(error)


def _drop(error: OSError) -> None:
    """Send the rest to the null device, or Python would try again in its end."""
    _lost.append(error)
    with suppress(OSError), open(os.devnull, "wb") as null:
        os.dup2(null.fileno(), sys.stdout.fileno())
