"""Pages of documentation as what they are: commands and Python that a reader types, one after the other."""

import os
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

from heldout_torch.cli import main

_BLOCK = re.compile(r"^ *```(\{[\w-]+\}|\w*)(?: [^\n]*)?\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w./-]+\.(?:py|toml))\n")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, its text, and the line on which that begins."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, without those that are directives of the site, such as `{toctree}`."""
    text = page.read_text()
    found = [Block(m[1], dedent(m[2]), text[: m.start(2)].count("\n") + 1) for m in _BLOCK.finditer(text)]
    return [block for block in found if not block.language.startswith("{")]


def commands(text: str) -> list[str]:
    """Return the commands of a shell block, comments cut off and continued lines joined."""
    lines = [re.sub(r"(^|\s)#\s.*$", "", line).rstrip() for line in text.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line]


def stand_ins(folder: Path, archive: Path) -> None:
    """Write commands that take the place of real ones: `curl` gives an archive, `heldout` and `python` are ours."""
    folder.mkdir()
    for name, command in {
        "curl": f"cat {shlex.quote(str(archive))}",
        "heldout": f'{shlex.quote(sys.executable)} -m heldout_torch "$@"',
        "python": f'{shlex.quote(sys.executable)} "$@"',
    }.items():
        (folder / name).write_text(f"#!/bin/sh\nexec {command}\n")
        (folder / name).chmod(stat.S_IRWXU)


def run_page(page: Path, replaced: Mapping[str, str], not_run: Mapping[str, str], path: Path) -> None:
    """Do what a page says, in the working directory.

    A block whose first line is a comment with the name of a file is written to that file.

    Args:
        page: The page.
        replaced: What stands on it, and what is typed instead.
        not_run: Commands that are left out, by their beginning, and why.
        path: Folder of stand-ins, which goes before `PATH`.
    """
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks(page):
        text, where = block.text, f"{page.name}, line {block.line}"
        for old, new in replaced.items():
            text = text.replace(old, new)
        if (named := _FILE.match(text)) is not None:
            Path(named[1]).write_text(text)
        elif block.language == "python":
            exec(compile("\n" * block.line + text, str(page), "exec"), names)
        elif block.language == "sh":
            for command in commands(text):
                if not command.startswith(tuple(not_run)):
                    _run(command, path, where)


def _run(command: str, path: Path, where: str) -> None:
    words = shlex.split(command)
    if words[0] == "heldout" and "|" not in words:
        try:  # in this process: a command of its own costs seconds
            status: object = main(words[1:])
        except SystemExit as stop:  # wrong usage
            status = stop.code
        assert status == 0, f"{where}: {command}"
        return
    environment = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}"}
    shell = ["bash", "-o", "pipefail", "-c", command]
    found = subprocess.run(shell, env=environment, capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, f"{where}: {command}\n{found.stderr}"
