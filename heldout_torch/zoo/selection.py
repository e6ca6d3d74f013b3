"""Select runs of a place."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice

from heldout_torch.errors import ZooError, counted, nearest
from heldout_torch.experiments import known_experiments
from heldout_torch.zoo.keys import NEAR, RunKey, RunNumbers, nearest_ratio

_NAMED = 10  # in an error


@dataclass(frozen=True)
class Selection:
    """Which runs to take.

    Attributes:
        experiment: Only this one, or those that fit a pattern with `*`; all if None.
        subset_ratios: Only these; all if empty.
        runs: Only these; all if empty.
        shard: (i, n) takes every n-th run from the i-th, in order.
    """

    experiment: str | None = None
    subset_ratios: Collection[float] = ()
    runs: Collection[int] = ()
    shard: tuple[int, int] = (0, 1)

    def holds(self, key: RunKey) -> bool:
        """Return whether a run is selected, before sharding."""
        return (
            self._names(key.experiment)
            and (not self.subset_ratios or nearest_ratio(key.subset_ratio, self.subset_ratios) is not None)
            and (not self.runs or key.run in self.runs)
        )

    def choose(self, keys: Iterable[RunKey], place: str) -> list[RunKey]:
        """Return the selected ones of the runs of a place, in order, and this shard's share of them.

        Args:
            keys: The runs that are there.
            place: What errors call the place.

        Raises:
            ZooError: If none is selected; the line names what is there.
        """
        there = sorted(keys)
        if not there:
            raise ZooError(f"{place}: holds no runs")
        chosen = [key for key in there if self.holds(key)]
        if not chosen:
            asked = self.experiment, self.subset_ratios, self.runs
            raise ZooError(f"{place}: holds no such run; {described(there, *asked)}")
        share = chosen[self.shard[0] :: self.shard[1]]
        if not share:
            index, shards = self.shard
            raise ZooError(f"{place}: shard {index}/{shards} takes none of the {len(chosen)} selected runs")
        return share

    def missing(self, keys: Iterable[RunKey]) -> Iterator[RunKey]:
        """Yield the runs that are asked for by number, and are not among some keys; those of this shard.

        They belong to the experiments that are selected; to the ratios asked for, else to those that are there.
        """
        there = set(keys)
        ratios: dict[str, set[float]] = {}
        for key in there:
            if self._names(key.experiment):
                ratios.setdefault(key.experiment, set()).add(key.subset_ratio)
        wanted = (
            RunKey(experiment, ratio, run)
            for experiment, found in sorted(ratios.items())
            for ratio in sorted(self._asked(found))
            for run in self.runs
        )
        lacking = (key for key in wanted if key not in there)
        yield from islice(lacking, self.shard[0], None, self.shard[1])

    def _names(self, experiment: str) -> bool:
        return self.experiment is None or fnmatchcase(experiment, self.experiment)

    def _asked(self, found: Collection[float]) -> Collection[float]:
        return {nearest_ratio(ratio, found) or ratio for ratio in self.subset_ratios} or found


def is_pattern(experiment: str) -> bool:
    """Return whether a name of experiments has letters that stand for any, such as `*`."""
    return bool(set(experiment) & set("*?["))


def described(
    keys: Sequence[RunKey],
    experiment: str | None,
    ratios: Collection[float] = (),
    runs: Collection[int] = (),
) -> str:
    """Return what is there in a few words, such as `it has cifar10-inception/0.7 runs 0-1999`.

    Args:
        keys: The runs that are there.
        experiment: The one asked for: only its runs are named if it has any; else a similar name is suggested.
        ratios: Those asked for: only these are named if they are there; else the nearest come first.
        runs: Those asked for: of a long list the nearest is named.
    """
    if not keys:
        return f"it has no runs{_alike(experiment, known_experiments())}"
    names = {key.experiment for key in keys}
    groups: dict[tuple[str, float], list[int]] = {}
    for key in keys:
        if experiment not in names or key.experiment == experiment:
            groups.setdefault((key.experiment, key.subset_ratio), []).append(key.run)
    away = {group: min((abs(group[1] - ratio) for ratio in ratios), default=0.0) for group in groups}
    if min(away.values()) < NEAR:  # the ratio is there, so it is the number of the run that is not
        away = {group: distance for group, distance in away.items() if distance < NEAR}
    first = sorted(away, key=away.__getitem__)[:_NAMED]
    asked = next(iter(runs), None)
    named = [f"{name}/{ratio!r} runs {_shortened(groups[name, ratio], asked)}" for name, ratio in first]
    more = f" and {counted(len(away) - _NAMED, 'more subset ratio')}" if len(away) > _NAMED else ""
    meant = "" if experiment in names else _alike(experiment, names) or _alike(experiment, known_experiments())
    return f"it has {', '.join(named)}{more}{meant}"


def _alike(experiment: str | None, names: Collection[str]) -> str:
    """Return `; did you mean 'NAME'?` for a misspelt experiment; nothing if it is among the names, or none is alike."""
    return "" if experiment is None or experiment in names else nearest(experiment, names)


def _shortened(runs: list[int], asked: int | None) -> str:
    text = str(RunNumbers.of(runs))
    if len(text) <= 40:
        return text
    near = "" if asked is None else f", nearest {min(runs, key=lambda run: abs(run - asked))}"
    return f"{runs[0]} ... {runs[-1]} ({len(runs)} runs{near})"
