"""Run the scripts of this folder, each in a fork of this process, which has imported TensorFlow once for all of them.

A line of standard input is JSON: {"arguments": [SCRIPT, ARGUMENT, ...], "printed": FILE}. FILE gets what the script
prints; the answer is a line with its exit status. Nothing is computed here: TensorFlow begins its threads in the forks.
"""

import json
import os
import runpy
import sys
import tempfile
import traceback
from pathlib import Path

import sonnet  # noqa: F401
import tensorflow  # noqa: F401

FOLDER = Path(__file__).parent


def become(arguments, printed):
    """Be a script, and end with it."""
    output = os.open(printed, os.O_WRONLY)
    os.dup2(output, 1)
    os.dup2(output, 2)
    status = 1
    kept = tempfile.TemporaryDirectory()  # TensorFlow leaves files in it, which only an ordinary end would remove
    try:
        sys.argv, tempfile.tempdir = arguments, kept.name
        runpy.run_path(str(FOLDER / f"{arguments[0]}.py"), run_name="__main__")
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        kept.cleanup()
        os._exit(status)


for line in sys.stdin:
    child = os.fork()
    if not child:
        become(**json.loads(line))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
