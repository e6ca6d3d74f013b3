"""Commands of which one call to the operating system fails: one line says so, and the same command again completes."""

import contextlib
import errno
import io
import random
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heldout_torch.cli import main
from tests.helpers.archives import multiply, pack
from tests.soak.failing_calls import FAULTS, calls_below
from tests.soak.kills import CASES, QUICK, Case, read_result

NAMES = [name for name, case in CASES.items() if "folder" in case.places and "processes" not in name]


def soak(places: int, seed: int, only: Sequence[str] | None = None) -> int:
    """Let calls fail in each case, so many of each kind, print a line for it, and return how many cases went wrong."""
    bad = 0
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        work = Commands(Path(folder))
        for name in [name for name in NAMES if not only or name in only]:
            count, wrong = work.try_faults(CASES[name], places, random.Random(seed))
            bad += bool(wrong)
            print(f"{name:24} {count} failing calls{' WRONG' if wrong else ''}", flush=True)
            for line in wrong[:5]:
                print(f"    {line}", flush=True)
    print(f"{bad} cases went wrong")
    return bad


class Commands:
    """The commands of `kills` on two runs each, in this process, and what they read."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._round = folder, folder / "round"
        tree = multiply(folder / "tree", 3)
        (folder / "quick.toml").write_text(QUICK)
        named = {"tree": tree, "archive": pack(tree, folder / "archive.tar.gz"), "recipe": folder / "quick.toml"}
        named |= {"zoo": folder / "zoo", "round": self._round, "place": self._round / "zoo"}
        self._named = {**{name: str(path) for name, path in named.items()}, "config": '{"widths":[8]}'}
        assert self._run("export {tree} --zoo {zoo}")[0] == 0

    def try_faults(self, case: Case, places: int, chance: random.Random) -> tuple[int, list[str]]:
        """Let calls of a command fail, one at a time; return how many, and what was wrong."""
        words = case.words.replace("--runs 0-5", "--runs 0-1").replace("--runs 0-3", "--runs 0-1")
        self._begin(case)
        assert self._run(words)[0] == 0
        expected = read_result(self._round)
        self._begin(case)
        with calls_below(self._folder) as calls:
            self._run(words)
        wrong, count = [], 0
        for kind in FAULTS:
            for place in sorted(chance.sample(range(calls[kind]), min(places, calls[kind]))):
                number = chance.choice(FAULTS[kind])
                self._begin(case)
                with calls_below(self._folder, kind, number, place):
                    status, told = self._run(words)
                count += 1
                if problem := self._problem(words, status, told, expected):
                    wrong.append(f"{kind} {place} of {calls[kind]}, {errno.errorcode[number]}: {problem}")
        return count, wrong

    def _problem(self, words: str, status: Any, told: str, expected: dict[str, Any]) -> str | None:
        """Return what is wrong after a fault: neither all is there, nor a line says why and the next call mends it."""
        if status not in (0, 1):
            return str(status)
        if status == 1 and "error: " not in told:
            return f"nothing is told: {told!r}"
        if status == 1 and read_result(self._round) != expected:  # what was done may refuse to be done again
            status, told = self._run(words)
            if status != 0:
                return f"called again, status {status}: {told}"
        found = read_result(self._round)
        names = [name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)]
        return f"other files: {sorted(names)[:3]}" if names else None

    def _begin(self, case: Case) -> None:
        shutil.rmtree(self._round, ignore_errors=True)
        self._round.mkdir()
        for words in case.before:
            assert self._run(words)[0] == 0

    def _run(self, words: str) -> tuple[Any, str]:
        """Run a command in this process, and return its status, or what it raised, and what it told."""
        told = io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(told):
            try:
                status: Any = main([word.format(**self._named) for word in words.split()])
            except Exception as error:
                status = f"{type(error).__name__}: {error}"
        return status, told.getvalue()
