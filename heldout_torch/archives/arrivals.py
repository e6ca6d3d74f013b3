"""Collect the files of runs while an archive is read, in any order; one rule decides which files make a run.

The files of a run are in one folder, each once. When all of them have come, the run is whole, and later files for it
are ignored. If before that a file comes twice, or from a second folder, it is unclear which one counts, and the run is
refused. An export in one pass and a seek index both use this rule, so they have the same runs.
"""

from collections.abc import Collection
from typing import Generic, TypeVar

from heldout_torch.archives.limits import NAME, RUN_FILES, RUNS
from heldout_torch.archives.tar_stream import Member
from heldout_torch.errors import ZooError
from heldout_torch.zoo.keys import AUX_FILE, RunKey

T = TypeVar("T")


class Arrivals(Generic[T]):
    """The files of each run of an archive that have come.

    Attributes:
        parts: By run that is not whole yet, what is known of each file, by name.
        whole: The runs of which everything came.
        refused: The runs of which no further files are taken.
    """

    def __init__(self, archive: str) -> None:
        """Start with no files.

        Args:
            archive: What errors call the archive.
        """
        self.parts: dict[RunKey, dict[str, T]] = {}
        self.whole: set[RunKey] = set()
        self.refused: set[RunKey] = set()
        self._archive = archive
        self._folders: dict[RunKey, int] = {}  # hashes of the folders' names, which may be long

    def problem(self, member: Member) -> str | None:
        """Return why a member cannot be its run's next file, for which the run is to be refused; None if it can.

        Raises:
            ZooError: If the archive names more runs than any does.
        """
        key, part = _named(member)
        self._check_number(key, self._folders)
        parts = self.parts.get(key, {})
        if self._folders.setdefault(key, hash(member.folder)) != hash(member.folder):
            why = f"the run lies under {member.folder[:NAME]!r}, too"
        elif key in self.whole or part in parts:
            why = f"{part} comes after the run was complete, or twice"
        elif len(parts) >= RUN_FILES:
            why = f"the run has more than {RUN_FILES} files"
        else:
            return None
        return f"{why}; it is unclear which one counts"

    def add(self, member: Member, value: T) -> dict[str, T] | None:
        """Note that a file came, for which there is no `problem`.

        Returns:
            What is known of all files of the run if it is whole now; else None.
        """
        key, part = _named(member)
        parts = self.parts.setdefault(key, {})
        parts[part] = value
        if not _is_complete(parts):
            return None
        self.whole.add(key)
        return self.parts.pop(key)

    def refuse(self, key: RunKey) -> dict[str, T]:
        """Take no further files of a run, and return what is known of those that came.

        Raises:
            ZooError: As `problem`.
        """
        self._check_number(key, self.refused)
        self.refused.add(key)
        return self.parts.pop(key, {})

    def _check_number(self, key: RunKey, named: Collection[RunKey]) -> None:
        if len(named) >= RUNS and key not in named:
            raise ZooError(f"{self._archive}: names more than {RUNS} runs, more than any archive has")


def _is_complete(names: Collection[str]) -> bool:
    """Whether a run's files are all there: aux arrays, one index, and every data shard that goes with it."""
    indices = [name for name in names if name.endswith(".index")]
    return AUX_FILE in names and len(indices) == 1 and bool(shard_names(names, indices[0].removesuffix(".index")))


def shard_names(names: Collection[str], checkpoint: str) -> list[str]:
    """Return the names of a checkpoint's data files in order; none while they are not all there."""
    found = sorted(name for name in names if name.startswith(f"{checkpoint}.data-"))
    expected = [f"{checkpoint}.data-{i:05d}-of-{len(found):05d}" for i in range(len(found))]
    return found if found == expected else []


def _named(member: Member) -> tuple[RunKey, str]:
    assert member.key is not None
    assert member.part is not None
    return member.key, member.part
