"""What verbs read; and file systems with faults: real ones where root is at hand, otherwise the test is skipped."""

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.helpers.archives import multiply, pack

NOBODY = 65534


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """What verbs read, by the names that their words have for it."""
    folder = tmp_path_factory.mktemp("sources")
    tree = multiply(folder / "tree", 2)
    return {"tree": tree, "archive": pack(tree, folder / "archive.tar.gz"), "config": '{"widths":[8]}'}


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
def open_folder():
    """An empty folder that all users may look into: pytest closes its own to them whenever another session begins."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.fixture
def as_nobody():
    """What runs a function as another user, and gives what it returns or raises, as text.

    It is this process that changes its rights and takes them back: what it has loaded, it need not read again.
    """
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root can become another user")

    def run(work) -> str:
        groups, group = os.getgroups(), os.getegid()
        os.setgroups([])
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
        try:
            return str(work())
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        finally:
            os.seteuid(0)
            os.setegid(group)
            os.setgroups(groups)

    return run
