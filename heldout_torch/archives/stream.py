"""Runs of a published archive become runs of a zoo: one pass over its compressed bytes, nothing unpacked to disk."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO

from heldout_torch.archives.arrivals import Arrivals
from heldout_torch.archives.convert import convert_parts
from heldout_torch.archives.inflate import HashedStream, inflate
from heldout_torch.archives.limits import HELD, run_limit
from heldout_torch.archives.tar_stream import Member, ZooInTarError, read_members
from heldout_torch.errors import HeldoutError, ZooError
from heldout_torch.experiments import Experiment
from heldout_torch.zoo.aux_arrays import read_aux
from heldout_torch.zoo.base import WritableZoo
from heldout_torch.zoo.copy import Outcome
from heldout_torch.zoo.indexing import ARCHIVE_RECORD
from heldout_torch.zoo.keys import AUX_FILE, RunKey
from heldout_torch.zoo.mixing import refusals
from heldout_torch.zoo.open import Place, open_writable
from heldout_torch.zoo.records import RunFiles
from heldout_torch.zoo.selection import Selection


@dataclass(frozen=True)
class ArchiveRecord:
    """What a zoo says about the archive that an experiment was exported from, in `<experiment>/archive.json`.

    Attributes:
        name: The archive's name.
        size: Its compressed bytes; None if it was not read to its end.
        md5: MD5 of them; None likewise.
        verified: Whether that is the expected MD5; None if none was known, or it was not read to its end.
    """

    name: str
    size: int | None
    md5: str | None
    verified: bool | None


def export_archive(
    stream: BinaryIO,
    archive: str,
    zoo: Place,
    selection: Selection | None = None,
    md5: str | None = None,
    workers: int = 1,
    overwrite: bool = False,
    progress: Callable[[int], object] = lambda count: None,
    ignore: Sequence[str] = (),
    tell: Callable[[str], object] = lambda line: None,
    dtype: str | None = None,
) -> Iterator[Outcome]:
    """Export runs out of an archive while its compressed bytes go by.

    Members may come in any order. Each run appears in the zoo whole or not at all, so the work can be interrupted at
    any moment; the next call reads the stream again but converts only what is missing. When the selection names
    experiment, subset ratios and runs, and all of them have come, the rest is not read, nor the archive's MD5 known.

    Args:
        stream: The compressed archive, read once; a file or a pipe.
        archive: Its name, for errors and the zoo's record.
        zoo: Where the runs go, as in `heldout_torch.zoo.open_writable`.
        selection: What to export; all by default.
        md5: The archive's expected MD5; by default the one published for its experiment, if there is one.
        workers: Number of threads that convert while another inflates and a third hashes.
        overwrite: Export also what is in the zoo already.
        progress: Called with every number of compressed bytes read.
        ignore: Patterns such as `model/ema/*` of variables that are left out though they lie under `model/`.
        tell: Called with a line when the work ends early.
        dtype: As in `heldout_torch.zoo.copy_runs`.

    Yields:
        What became of each run, in the order in which they finish; with no run, what is wrong with the archive.

    Raises:
        ZooError: If a package for archives is missing, or the zoo cannot be written.
    """
    target = open_writable(zoo)
    source = HashedStream(stream, progress)
    inflated = inflate(source)
    export = _Export(archive, target, selection or Selection(), overwrite, ignore, ThreadPoolExecutor(workers), dtype)
    whole = False
    try:
        with target:
            try:
                for member in read_members(inflated, archive):
                    yield from export.take(member)
                    if export.has_all:
                        tell(f"all runs asked for have come after {source.size} bytes; the rest is not read")
                        break
                whole = True
            except ZooInTarError as error:  # its files are no parts of runs to come
                yield Outcome(None, error=str(error))
                return
            except ZooError as error:
                yield Outcome(None, error=str(error))
            yield from export.finish()
            if whole and not export.experiments:
                yield Outcome(
                    None, error=f"{archive}: holds no run <experiment>/<subset_ratio>/<run>/ of those asked for"
                )
            if export.has_all:
                _record_part(archive, target, export.experiments.values())
            elif whole:
                yield from _check_md5(source, archive, target, md5, export.experiments.values())
    finally:
        export.pool.shutdown(wait=True, cancel_futures=True)
        source.close()


class _Export:
    """The runs of which parts have come, and those being converted."""

    def __init__(
        self,
        archive: str,
        zoo: WritableZoo,
        selection: Selection,
        overwrite: bool,
        ignore: Sequence[str],
        pool: ThreadPoolExecutor,
        dtype: str | None,
    ) -> None:
        self.ignore, self.dtype = ignore, dtype
        self.archive, self.zoo, self.selection, self.overwrite, self.pool = archive, zoo, selection, overwrite, pool
        self.experiments: dict[str, Experiment] = {}
        self._limits: dict[str, int] = {}  # bytes of a run, by experiment
        self._refused: set[str] = set()  # names of experiments
        self._there: set[RunKey] = set()  # in the zoo, whole, before this pass
        self._other: dict[RunKey, str] = {}  # those of another dtype, and what to say of them
        self._arrivals = Arrivals[bytes](archive)
        self._met: set[RunKey] = set()
        self._working: dict[Future[Outcome], int] = {}
        self._held = 0  # bytes of all parts read and not yet given up
        self._count = 0

    def take(self, member: Member) -> Iterator[Outcome]:
        """Look at the next member: read it if it is wanted, and convert its run if that completes it."""
        if member.refused is not None:
            yield Outcome(None, error=f"{self.archive}: member {member.name!r} is refused: {member.refused}")
            return
        if (key := member.key) is None:
            return
        if key not in self._met:
            yield from self._meet(key)
        if key in self._arrivals.refused:
            return
        problem = self._arrivals.problem(member) or self._too_large(key, member)
        if problem is None:
            yield from self._make_room(member.size)
            if self._held + member.size > HELD:
                problem = "put off: memory is full of runs of which parts are still to come, export again"
        if problem is not None:
            self._held -= _size(self._arrivals.refuse(key))
            yield Outcome(key, error=problem)
            return
        parts = self._arrivals.add(member, member.read())
        self._held += member.size
        if parts is not None:
            self._working[self.pool.submit(self._convert, key, parts)] = _size(parts)
        yield from self._collect(wait_for_one=False)

    @property
    def has_all(self) -> bool:
        """Whether nothing that is asked for can still come."""
        chosen = self.selection
        named = chosen.experiment is not None and len(chosen.subset_ratios) * len(chosen.runs)
        return bool(named) and self._count == named and not self._arrivals.parts

    def finish(self) -> Iterator[Outcome]:
        """Wait for the runs being converted, and name those that are not whole."""
        while self._working:
            yield from self._collect(wait_for_one=True)
        for key, parts in self._arrivals.parts.items():
            yield Outcome(key, error=f"not whole: only {', '.join(sorted(parts)) or 'nothing'} came")

    def _meet(self, key: RunKey) -> Iterator[Outcome]:
        """Decide about a run of which the first part comes."""
        self._met.add(key)
        if not self.selection.holds(key) or key.experiment in self._refused:
            self._arrivals.refuse(key)
            return
        if key.experiment not in self.experiments:
            try:
                experiment = self.zoo.experiment(key.experiment)
                self.experiments[key.experiment], self._limits[key.experiment] = experiment, run_limit(experiment)
                there = self.zoo.keys(key.experiment)
                there_whole = set(there) - set(self.zoo.missing(there))
                self._there |= there_whole
                self._other |= {} if self.overwrite else refusals(None, self.zoo, there_whole, self.dtype)
            except HeldoutError as error:
                self._refused.add(key.experiment)
                self._arrivals.refuse(key)
                yield Outcome(None, error=f"{self.archive}: {error}")
                return
        index, count = self.selection.shard
        self._count += 1
        if (self._count - 1) % count != index:
            self._arrivals.refuse(key)
            return
        if key in self._there and not self.overwrite:
            self._arrivals.refuse(key)
            yield Outcome(key, self._other.get(key), key not in self._other)

    def _too_large(self, key: RunKey, member: Member) -> str | None:
        limit = self._limits[key.experiment]
        if member.size + _size(self._arrivals.parts.get(key, {})) <= limit:
            return None
        return f"{member.part} declares {member.size} bytes, a run of {key.experiment} has at most {limit} in all"

    def _make_room(self, size: int) -> Iterator[Outcome]:
        while self._working and self._held + size > HELD:
            yield from self._collect(wait_for_one=True)

    def _collect(self, wait_for_one: bool) -> Iterator[Outcome]:
        done, _ = wait(self._working, timeout=None if wait_for_one else 0, return_when=FIRST_COMPLETED)
        for future in done:
            self._held -= self._working.pop(future)
            yield future.result()

    def _convert(self, key: RunKey, parts: dict[str, bytes]) -> Outcome:
        experiment, folder = self.experiments[key.experiment], Path(self.archive) / str(key)
        try:
            aux = read_aux(parts[AUX_FILE], experiment, f"{folder}/{AUX_FILE}")
            state, metadata = convert_parts(parts, folder, experiment, key, self.ignore)
        except HeldoutError as error:
            return Outcome(key, error=str(error))
        run = RunFiles.of(replace(metadata, dtype=self.dtype), state, aux, parts[AUX_FILE])
        written = self.zoo.put_files(run, self.overwrite)
        return Outcome(key, skipped=not written, size=run.record.size)


def _size(parts: dict[str, bytes]) -> int:
    return sum(map(len, parts.values()))


def _record_part(archive: str, zoo: WritableZoo, experiments: Iterable[Experiment]) -> None:
    """Record for each experiment that its archive was not read to its end, unless it once was."""
    record = json.dumps(asdict(ArchiveRecord(archive, None, None, None)), indent=2, sort_keys=True) + "\n"
    for experiment in experiments:
        if zoo.read(f"{experiment.name}/{ARCHIVE_RECORD}") is None:
            zoo.write(f"{experiment.name}/{ARCHIVE_RECORD}", record.encode())


def _check_md5(
    source: HashedStream, archive: str, zoo: WritableZoo, expected: str | None, experiments: Iterable[Experiment]
) -> Iterator[Outcome]:
    """Record for each experiment whether its archive is the expected one."""
    found = source.digest()
    for experiment in experiments:
        wanted = expected or (experiment.archive.md5 if experiment.archive else None)
        record = ArchiveRecord(archive, source.size, found, None if wanted is None else found == wanted.lower())
        text = json.dumps(asdict(record), indent=2, sort_keys=True) + "\n"
        zoo.write(f"{experiment.name}/{ARCHIVE_RECORD}", text.encode())
        if record.verified is False:
            why = "--md5" if expected else f"published for {experiment.name}; another archive's goes with --md5"
            yield Outcome(None, error=f"{archive}: MD5 is {found}, expected {wanted} ({why})")
