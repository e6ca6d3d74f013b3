"""Commands whose standard error is a terminal."""

import os
import pty
import select
import subprocess
import time


def on_terminal(command):
    """Run a command with a terminal as standard error; what the terminal was sent, and standard output."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    seen, deadline = b"", time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([ours], [], [], 0.1)[0]:
            try:
                seen += os.read(ours, 65536)
            except OSError:  # the other end was closed
                break
    os.close(ours)
    return seen.decode(), process.communicate(timeout=10)[0].decode()
