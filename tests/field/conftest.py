"""File systems with faults: real ones where root is at hand, otherwise the test is skipped."""

import os
import subprocess
from pathlib import Path

import pytest

NOBODY = 65534


@pytest.fixture
def mounted(tmp_path):
    """What mounts a small tmpfs with options of one's own, and gives its folder."""
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    places = []

    def mount(options: str) -> Path:
        place = tmp_path / f"mounted-{len(places)}"
        place.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True).returncode:
            pytest.skip("no file system can be mounted here")
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture
def as_nobody():
    """What runs a function in a process of another user, and gives what it returns or raises, as text."""
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root can become another user")

    def run(work) -> str:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
                answer = str(work())
            except BaseException as error:
                answer = f"{type(error).__name__}: {error}"
            os.write(writing, answer.encode())
            os._exit(0)
        os.close(writing)
        with open(reading, "rb") as pipe:
            answer = pipe.read().decode()
        os.waitpid(child, 0)
        return answer

    return run
