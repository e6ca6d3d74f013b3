"""Export an archive in one pass: collect the files of runs, convert them in threads, and put them into a zoo."""

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

from heldout_torch.archives.arrivals import Arrivals
from heldout_torch.archives.convert import convert_parts
from heldout_torch.archives.limits import HELD, run_limit
from heldout_torch.archives.resume import Mark, Marks
from heldout_torch.archives.tar_stream import Member
from heldout_torch.errors import HeldoutError
from heldout_torch.experiments import Experiment
from heldout_torch.zoo.aux_arrays import read_aux
from heldout_torch.zoo.base import WritableZoo
from heldout_torch.zoo.copy import Outcome, not_there
from heldout_torch.zoo.keys import AUX_FILE, RunKey
from heldout_torch.zoo.mixing import listed_runs, refusals
from heldout_torch.zoo.records import RunFiles
from heldout_torch.zoo.selection import Selection, is_pattern


class OnePass:
    """An export: the runs of which files have come, and those being converted.

    Attributes:
        experiments: What the runs that were asked for and met belong to, by name.
    """

    def __init__(
        self,
        archive: str,
        zoo: WritableZoo,
        selection: Selection,
        overwrite: bool,
        ignore: Sequence[str],
        workers: int,
        dtype: str | None,
    ) -> None:
        """Start the export; arguments are as in `export_archive`."""
        self._ignore, self._dtype, self._overwrite = ignore, dtype, overwrite
        self._archive, self._zoo, self._selection = archive, zoo, selection
        self._pool, self._ahead = ThreadPoolExecutor(workers), workers + 1  # runs at once; more would be lost by an end
        self.experiments: dict[str, Experiment] = {}
        self._limits: dict[str, int] = {}  # bytes of a run, by experiment
        self._refused: set[str] = set()  # names of experiments
        self._there: set[RunKey] = set()  # in the zoo, whole, before this pass
        self._other: dict[RunKey, str] = {}  # those of another dtype, and what to say of them
        self._arrivals = Arrivals[bytes](archive)
        self._met: set[RunKey] = set()
        self._asked: list[RunKey] = []  # of those met, in order; shards share them
        self._failed: dict[RunKey, str] = {}
        self._to_do: set[RunKey] = set()  # those of this shard that are not dealt with
        self._working: dict[Future[Outcome], int] = {}
        self._held = 0  # bytes of all parts read and not yet given up

    def resume(self, mark: Mark) -> Iterator[Outcome]:
        """Count as done what an earlier call dealt with."""
        for number, key in enumerate(mark.met):
            self._met.add(key)
            self._asked.append(key)
            self._arrivals.refuse(key)  # the rest of its files may come again
            self._read_experiment(key.experiment)
            if self._is_ours(number):
                yield self._dealt_with(Outcome(key, mark.failed.get(key), key not in mark.failed))

    def mark(self, marks: Marks, member: Member) -> None:
        """Note where the export could go on."""
        marks.at_header(member.begins, len(self._asked), self._to_do)
        marks.dealt_with(self._asked, self._failed, self._to_do)

    def take(self, member: Member) -> Iterator[Outcome]:
        """Look at the next member: read it if it is wanted, and convert its run if that completes it."""
        yield from self._collect(wait_for_one=False)
        if member.refused is not None:
            yield Outcome(None, error=f"{self._archive}: member {member.name!r} is refused: {member.refused}")
            return
        if (key := member.key) is None:
            return
        if key not in self._met:
            yield from self._meet(key)
        if key in self._arrivals.refused:
            return
        if problem := self._arrivals.problem(member) or self._too_large(key, member):
            self._held -= _size(self._arrivals.refuse(key))
            yield self._dealt_with(Outcome(key, error=problem))
            return
        yield from self._make_room(member.size)
        if self._held + member.size > HELD:
            self._held -= _size(self._arrivals.refuse(key))
            yield Outcome(key, error="postponed: memory is full of incomplete runs; run the export again")
            return
        parts = self._arrivals.add(member, member.read())
        self._held += member.size
        if parts is not None:
            self._working[self._pool.submit(self._convert, key, parts)] = _size(parts)

    @property
    def has_all(self) -> bool:
        """Whether nothing that is asked for can still come."""
        chosen = self._selection
        one = chosen.experiment is not None and not is_pattern(chosen.experiment)
        named = one and len(chosen.subset_ratios) * len(chosen.runs)
        return bool(named) and len(self._asked) == named and not self._arrivals.parts

    def not_met(self) -> list[Outcome]:
        """Return what is asked for by name and did not come, once the archive has ended."""
        return not_there(self._selection, self._asked, self._archive)

    def finish(self) -> Iterator[Outcome]:
        """Wait for the runs being converted, and name those that are not whole."""
        while self._working:
            yield from self._collect(wait_for_one=True)
        for key, parts in self._arrivals.parts.items():
            yield Outcome(key, error=f"incomplete: the archive has only {', '.join(sorted(parts))}")

    def _meet(self, key: RunKey) -> Iterator[Outcome]:
        """Decide about a run of which the first part comes."""
        self._met.add(key)
        if not self._selection.holds(key) or key.experiment in self._refused:
            self._arrivals.refuse(key)
            return
        try:
            self._read_experiment(key.experiment)
        except HeldoutError as error:
            self._refused.add(key.experiment)
            self._arrivals.refuse(key)
            yield Outcome(None, error=f"{self._archive}: {error}")
            return
        self._asked.append(key)
        if not self._is_ours(len(self._asked) - 1):
            self._arrivals.refuse(key)
            return
        self._to_do.add(key)
        if key in self._there and not self._overwrite:
            self._arrivals.refuse(key)
            yield self._dealt_with(Outcome(key, self._other.get(key), key not in self._other))

    def _read_experiment(self, name: str) -> None:
        """Read what an experiment is, and which of its runs are in the zoo."""
        if name in self.experiments:
            return
        experiment = self._zoo.experiment(name)
        self.experiments[name], self._limits[name] = experiment, run_limit(experiment)
        there = self._zoo.keys(name)
        there_whole = set(there) - set(self._zoo.missing(there))
        self._there |= there_whole
        if there_whole and not self._overwrite:
            self._other |= refusals(None, self._zoo, listed_runs(self._zoo), there_whole, self._dtype)

    def _is_ours(self, number: int) -> bool:
        index, count = self._selection.shard
        return number % count == index

    def _dealt_with(self, outcome: Outcome) -> Outcome:
        if outcome.key is not None:
            self._to_do.discard(outcome.key)
            if outcome.error is not None:
                self._failed[outcome.key] = outcome.error
        return outcome

    def _too_large(self, key: RunKey, member: Member) -> str | None:
        limit = self._limits[key.experiment]
        if member.size + _size(self._arrivals.parts.get(key, {})) <= limit:
            return None
        return f"{member.part} declares {member.size} bytes, a run of {key.experiment} has at most {limit} in all"

    def close(self) -> None:
        """End the threads that convert; what waits for them is given up."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _make_room(self, size: int) -> Iterator[Outcome]:
        while self._working and (self._held + size > HELD or len(self._working) > self._ahead):
            yield from self._collect(wait_for_one=True)

    def _collect(self, wait_for_one: bool) -> Iterator[Outcome]:
        done, _ = wait(self._working, timeout=None if wait_for_one else 0, return_when=FIRST_COMPLETED)
        for future in done:
            self._held -= self._working.pop(future)
            yield self._dealt_with(future.result())

    def _convert(self, key: RunKey, parts: dict[str, bytes]) -> Outcome:
        experiment, folder = self.experiments[key.experiment], Path(self._archive) / str(key)
        try:
            aux = read_aux(parts[AUX_FILE], experiment, f"{folder}/{AUX_FILE}")
            state, metadata = convert_parts(parts, folder, experiment, key, self._ignore)
        except HeldoutError as error:
            return Outcome(key, error=str(error))
        aux_bytes = parts[AUX_FILE]
        parts.clear()  # a checkpoint of ImageNet has 200 MB, which are not held while the run is written
        run = RunFiles.of(replace(metadata, dtype=self._dtype), state, aux, aux_bytes)
        del state
        return Outcome(key, skipped=not self._zoo.put_files(run, self._overwrite))


def _size(parts: dict[str, bytes]) -> int:
    return sum(map(len, parts.values()))
