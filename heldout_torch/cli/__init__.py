"""`heldout <verb>`: a thin face over the package. One file a verb, each with `add_parser` and what it runs."""

import argparse
import importlib
import sys
from collections.abc import Sequence

from heldout_torch.errors import HeldoutError

# Each names a module here. A verb's heavy imports belong into what it runs, so that `heldout --help` is quick.
_VERBS = ["archive", "zoo", "export", "train", "experiment", "stats", "report", "evaluate", "verify"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Words after `heldout`; the process's own by default.

    Returns:
        Exit status: 0 if all went well, 1 if something was bad, 2 for wrong usage, 130 if interrupted.
    """
    parser = argparse.ArgumentParser(prog="heldout", description="Held-out training runs in PyTorch.")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    for verb in _VERBS:
        importlib.import_module(f"heldout_torch.cli.{verb}").add_parser(verbs)
    options = parser.parse_args(arguments)
    try:
        return options.run_verb(options)
    except HeldoutError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; what is finished stays, call again to go on", file=sys.stderr)
        return 130
