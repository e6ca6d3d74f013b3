"""Inspect the beginning of an archive: its contents, their names, and what an export would do with them."""

import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from torch import Tensor

from heldout_torch.archives.arrivals import Arrivals
from heldout_torch.archives.convert import convert_parts
from heldout_torch.archives.inflate import inflate
from heldout_torch.archives.limits import HELD, run_limit
from heldout_torch.archives.tar_stream import Member, read_members
from heldout_torch.checkpoints import Checkpoint
from heldout_torch.checkpoints.sonnet import SUFFIX, unknown_variables
from heldout_torch.errors import HeldoutError, ZooError
from heldout_torch.experiments import Experiment, read_declaration
from heldout_torch.storage.npz import describe_npz
from heldout_torch.zoo.aux_arrays import AuxArrays, read_aux
from heldout_torch.zoo.keys import AUX_FILE, CHECKPOINTS, RunKey
from heldout_torch.zoo.metadata import RunMetadata

_TRIED = 3  # runs that are converted
_CANDIDATES = 64  # runs whose files are held until one is whole: in a shuffled archive they come far apart
_KINDS = 100  # kinds of names, arrays and problems that are told apart
_SHOWN = 12


@dataclass(frozen=True)
class ConvertedRun:
    """A run that was converted in memory."""

    metadata: RunMetadata
    state: dict[str, Tensor]
    aux: AuxArrays
    aux_bytes: bytes


@dataclass
class Inspection:
    """The result of inspecting an archive.

    Attributes:
        archive: Its name.
        read: Compressed bytes read.
        ended: Whether the archive ended within them.
        layouts: How often members came under names of one kind; numbers of runs and epochs are written `#`.
        others: The same for members that are not parts of runs.
        runs: Numbers of runs by experiment and ratio as they are spelled.
        arrays: What `aux_arrays.npz` held, by array and kind, in the runs tried.
        variables: Names, kinds and numbers of variables in the runs tried; numbers in names are written `#`.
        unknown: Variables under `model/` that the network has no use for.
        problems: Why members or runs would be refused, and how often.
        converted: The first whole runs.
    """

    archive: str
    read: int = 0
    ended: bool = False
    layouts: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    arrays: Counter[str] = field(default_factory=Counter)
    variables: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    converted: list[ConvertedRun] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """Yield the report, line by line."""
        yield f"{self.archive}: read {self.read:,} bytes, {'all of it' if self.ended else 'its beginning'}"
        for title, counter in (
            ("runs", self.runs), ("files of runs", self.layouts), ("other members", self.others),
            ("arrays of aux_arrays.npz", self.arrays), ("variables of checkpoints", self.variables),
            ("variables that the network does not use", self.unknown), ("problems", self.problems),
        ):  # fmt: skip
            if counter:
                yield f"{title}:"
                for name, count in counter.most_common(_SHOWN):
                    yield f"  {count:8,}  {name}"
                if len(counter) > _SHOWN:
                    yield f"            and {len(counter) - _SHOWN} more kinds"
        for run in self.converted:
            test = f"{run.aux.correctness_test.mean():.4f}" if len(run.aux.index_test) else "not recorded"
            yield f"converted run {run.metadata.key}: epoch {run.metadata.epoch}, recorded test accuracy {test}"
        if not self.converted:
            yield "an export would convert nothing of what was read"
        elif self.problems:
            yield "an export would convert runs like these, and refuse those that have problems"
        else:
            yield "an export would convert all runs like these"


def inspect_archive(
    stream: BinaryIO,
    archive: str,
    limit: int,
    ignore: Sequence[str] = (),
    progress: Callable[[int], object] = lambda count: None,
) -> Inspection:
    """Read the beginning of an archive.

    Args:
        stream: The archive, read once.
        archive: Its name, for the report.
        limit: Compressed bytes after which reading ends.
        ignore: Patterns of variables that are left out, as for an export.
        progress: Called with every number of compressed bytes read.

    Raises:
        ZooError: If a package for archives is missing.
    """
    source = _Beginning(stream, limit, progress)
    inspector = _Inspector(Inspection(archive), ignore)
    try:
        for member in read_members(inflate(source), archive):
            inspector.inspect(member)
        inspector.found.ended = True
    except ZooError as error:
        if source.count < limit:  # else the archive goes on, and the error is that it does not here
            inspector.problem(str(error))
    inspector.found.read = source.count
    return inspector.found


class _Beginning(io.RawIOBase):
    """The first bytes of a stream, counted."""

    def __init__(self, stream: BinaryIO, limit: int, progress: Callable[[int], object]) -> None:
        self.count = 0
        self._stream, self._limit, self._progress = stream, limit, progress

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(min(size, self._limit - self.count))
        self.count += len(data)
        self._progress(len(data))
        return data


class _Inspector:
    """Collects what the members show, and converts the first whole runs."""

    def __init__(self, found: Inspection, ignore: Sequence[str]) -> None:
        self.found = found
        self._ignore = ignore
        self._arrivals = Arrivals[bytes](found.archive)
        self._met: set[RunKey] = set()
        self._held: dict[RunKey, int] = {}
        self._experiments: dict[str, Experiment | None] = {}

    def inspect(self, member: Member) -> None:
        """Look at one member; read it if it is a part of one of the first runs."""
        if member.refused is not None:
            self.problem(f"member {member.name!r}: {member.refused}")
        elif (key := member.key) is None:
            _count(self.found.others, _kind(member.name))
        else:
            experiment, ratio = member.folder.split("/")[-3:-1]
            folder = member.folder.rpartition("/")[0]
            below = f"{CHECKPOINTS}/" if member.part != AUX_FILE else ""
            number = "#" if member.folder.endswith(f"/{key.run}") else "0#"
            _count(self.found.layouts, f"{folder}/{number}/{below}{_kind(member.part or '')}")
            if key not in self._met:
                self._met.add(key)
                _count(self.found.runs, f"{experiment}/{ratio}")
            self._take(key, member)

    def problem(self, line: str) -> None:
        """Note why something would be refused."""
        _count(self.found.problems, line)

    def _take(self, key: RunKey, member: Member) -> None:
        if key in self._arrivals.refused:
            return
        if (experiment := self._experiment(key.experiment)) is None:
            self._drop(key)
            return
        if (problem := self._arrivals.problem(member)) is not None:
            self.problem(f"run {key}: {problem}")
            self._drop(key)
            return
        enough = len(self.found.converted) >= _TRIED
        new = key not in self._held and len(self._held) >= _CANDIDATES
        size = self._held.get(key, 0) + member.size
        if enough or new or size > run_limit(experiment) or sum(self._held.values()) + member.size > HELD:
            self._drop(key)
            return
        self._held[key] = size
        parts = self._arrivals.add(member, member.read())
        if parts is not None:
            del self._held[key]
            self._convert(key, parts, experiment)

    def _drop(self, key: RunKey) -> None:
        self._arrivals.refuse(key)
        self._held.pop(key, None)

    def _experiment(self, name: str) -> Experiment | None:
        if name not in self._experiments:
            try:
                self._experiments[name] = read_declaration(name, None)
            except HeldoutError as error:
                self._experiments[name] = None
                self.problem(str(error))
        return self._experiments[name]

    def _convert(self, key: RunKey, parts: dict[str, bytes], experiment: Experiment) -> None:
        folder, found = Path(self.found.archive) / str(key), self.found
        try:
            for name, what in describe_npz(parts[AUX_FILE], f"{folder}/{AUX_FILE}").items():
                _count(found.arrays, f"{name}: {what}")
            (index,) = [name for name in parts if name.endswith(".index")]
            shards = [data for name, data in sorted(parts.items()) if ".data-" in name]
            checkpoint = Checkpoint(parts[index], shards, str(folder / CHECKPOINTS))
            for variable, entry in checkpoint.entries.items():
                kind = entry.dtype or "no numbers"
                _count(found.variables, f"{_kind(variable.removesuffix(SUFFIX))}: {kind}")
            for variable in unknown_variables(checkpoint, experiment.architecture):
                _count(found.unknown, variable)
            aux = read_aux(parts[AUX_FILE], experiment, f"{folder}/{AUX_FILE}")
            state, metadata = convert_parts(parts, folder, experiment, key, self._ignore)
            found.converted.append(ConvertedRun(metadata, state, aux, parts[AUX_FILE]))
        except HeldoutError as error:
            self.problem(str(error))


def _kind(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def _count(counter: Counter[str], kind: str) -> None:
    kind = kind[:200]
    counter[kind if kind in counter or len(counter) < _KINDS else "..."] += 1
