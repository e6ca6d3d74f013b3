"""Commands that are started, and sent signals, by a test."""

import signal
import subprocess
import time
from contextlib import contextmanager


@contextmanager
def started(command, **options):
    """Start a command; it does not outlive the block.

    SIGINT does to it what it does to a command that a person starts. A suite that runs in the background of a script,
    or under `nohup`, ignores it, and whatever it starts would too.
    """
    process = subprocess.Popen(
        command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler), **options
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(condition, seconds=60):
    """Wait until something is so; it is an error if it is not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        time.sleep(0.02)
