"""`heldout <verb>`, the command line. Each verb has a file with `configure` and the function that it runs."""

import argparse
import importlib
import os
import re
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib.machinery import EXTENSION_SUFFIXES

import heldout_torch
from heldout_torch.cli import output
from heldout_torch.cli.parser import HelpfulParser, Parser
from heldout_torch.cli.process import Terminated, signals_end_work, standard_files_open
from heldout_torch.errors import HeldoutError, nearest
from heldout_torch.plugins import loaded_plugins
from heldout_torch.storage.progress import set_quiet

# Each is a module here, which is imported only when it is asked for: `heldout --help` needs neither torch nor numpy.
VERBS = {
    "archive": "make the seek index of an archive, or look at its beginning",
    "zoo": "list, check, pull and push (publish) the runs of a zoo, and write its manifest",
    "export": "convert TensorFlow runs to safetensors",
    "declare": "write the TOML file of an experiment of your own",
    "train": "train new runs",
    "experiment": "train runs and write memorization, influence pairs and C-scores",
    "stats": "compute memorization, influence and consistency scores",
    "published": "list and fetch the published scores and influence",
    "report": "write a page that shows what an experiment's runs memorize",
    "evaluate": "write the correctness of runs, or of a network of your own",
    "warm-up": "compile kernels in advance",
    "verify": "compare recorded correctness with the networks' predictions",
}
ACTIONS = {  # of verbs; each is configured in the verb's module
    "zoo": ("index", "check", "list", "pull", "push"),
    "archive": ("index", "inspect"),
    "stats": ("memorization", "consistency", "influence", "pairs", "keep", "accuracy"),
    "published": ("list", "fetch", "path"),
}
_EVERYWHERE = ("--json", "--plugin", "--quiet")  # as `cli.parser.Parser` adds them; here they may stand before the verb
_COMPILED = tuple(EXTENSION_SUFFIXES)
_NO_THREAD = "can't start new thread"  # what Python says
_REPORT = "This is a bug in heldout-torch. Please report it, with the command and the lines above."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Words after `heldout`; the process's own by default.

    Returns:
        Exit status: 0 if all went well, 1 if something was bad or nothing matched, 2 for wrong usage, 130 if
        interrupted, 143 if terminated, 129 if the terminal was closed.

    Raises:
        SystemExit: For wrong usage (2), and after help (0).
        Exception: If there is a fault in the package, or in a plugin; anything else that a user can cause is one line.
    """
    standard_files_open()
    with signals_end_work(), output.started(), warnings.catch_warnings():
        warnings.showwarning = output.show_warning
        try:
            found = _run(sys.argv[1:] if arguments is None else list(arguments))
            return found or output.status()
        except SystemExit as stop:  # argparse's, after help too
            raise SystemExit(stop.code or output.status()) from None
        except HeldoutError as error:
            output.complain(f"error: {error}")
        except OSError as error:
            reason = error.strerror or str(error) or type(error).__name__
            output.complain(f"error: {error.filename}: {reason}" if error.filename else f"error: {reason}")
        except MemoryError as error:
            more = f" ({error})" if str(error) else ""
            output.complain(f"error: there is not enough memory for this{more}; try smaller batches or fewer workers")
        except UserWarning as warning:  # Python was told to end at warnings (-W error, PYTHONWARNINGS)
            output.complain(f"error: {warning}")
        except Terminated as terminated:
            output.complain("terminated; finished work is kept, run the command again to continue")
            return terminated.status
        except KeyboardInterrupt:
            output.complain("interrupted; finished work is kept, run the command again to continue")
            return 130
        except Exception as error:
            refused = _refused(error)
            if refused is None:
                error.add_note(_in_a_plugin(error) or _REPORT)
                raise
            output.complain(f"error: {refused}")
        return 1


def verb_parser(verb: str) -> Parser:
    """Return the parser of one of `VERBS`; only now the verb's module is imported."""
    parser = Parser(prog=f"heldout {verb}")
    importlib.import_module(f"heldout_torch.cli.{verb.replace('-', '_')}").configure(parser)
    return parser


def _refused(error: BaseException | None) -> str | None:
    """Return in one line what the system refused to the process, if that is what an error came of."""
    while error is not None:
        if isinstance(error, ImportError) and str(error.path).endswith(_COMPILED):
            advice = "install its package again, or allow the process more memory (ulimit -v)"
            return f"{error.path}: cannot be loaded ({error}); {advice}"
        if isinstance(error, RuntimeError) and str(error) == _NO_THREAD:
            return "the system lets this process start no more threads; allow more processes (ulimit -u)"
        error = error.__cause__ or error.__context__
    return None


def _in_a_plugin(error: Exception) -> str:
    """Return where in a user's module an error arose; nothing if none was called."""
    places = [(frame.f_globals.get("__name__", ""), line) for frame, line in traceback.walk_tb(error.__traceback__)]
    modules = tuple(f"{name}." for name in loaded_plugins())
    found = [f"{name}, line {line}" for name, line in places if f"{name}.".startswith(modules)]
    return f"The error arose in your plugin {found[-1]}." if found else ""


def _verb_first(words: list[str]) -> list[str]:
    """Return the words with those options behind the verb that every verb takes and that stood before it."""
    place = 0
    while place < len(words) and words[place].partition("=")[0] in _EVERYWHERE:
        place += 2 if words[place] == "--plugin" else 1
    return [*words[place : place + 1], *words[:place], *words[place + 1 :]]


def _meant(word: str) -> str:
    """Return `; did you mean 'NAME'?` for the verb, or the action of one, that is most like a word, if one is."""
    if near := nearest(word, VERBS):
        return near
    actions = {action: f"{verb} {action}" for verb, some in reversed(ACTIONS.items()) for action in some}
    near = nearest(word, actions)
    return re.sub(r"'(.*)'", lambda found: repr(actions[found[1]]), near)


def _run(words: list[str]) -> int:
    parser = HelpfulParser(
        prog="heldout",
        description="Held-out training runs in PyTorch.",
        usage="heldout VERB ...",
        epilog="verbs:\n" + "".join(f"  {verb:<12}{about}\n" for verb, about in VERBS.items())
        + "\n`heldout VERB --help` says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"heldout-torch {heldout_torch.__version__}")
    parser.add_argument("verb", nargs="?", help=argparse.SUPPRESS)
    words = _verb_first(words)
    if words[:1] == ["--version"]:  # argparse would not notice an output that does not take it
        output.say(f"heldout-torch {heldout_torch.__version__}")
        raise SystemExit(0)
    if not words or words[0] in _EVERYWHERE:
        parser.print_help()
        return 2
    if parser.parse_known_args(words[:1])[1]:
        parser.error(f"{words[0]} is an option of a verb, write it after the verb: heldout VERB {words[0]} ...")
    verb = parser.parse_args(words[:1]).verb
    if verb not in VERBS:
        parser.error(f"{verb!r} is not a verb{_meant(verb)} (choose from {', '.join(VERBS)})")
    try:
        os.getcwd()
    except FileNotFoundError:  # torch's libraries would end the process, for a reason of their own
        raise HeldoutError("the working directory is gone, somebody removed it; change to another one") from None
    options = verb_parser(verb).parse_args(words[1:], argparse.Namespace(quiet=False, json=False))
    set_quiet(options.quiet)
    try:
        return options.run_verb(options)
    finally:
        set_quiet(False)
