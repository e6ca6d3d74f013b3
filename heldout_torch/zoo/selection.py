"""Which runs of a place are taken."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from heldout_torch.errors import ZooError, nearest
from heldout_torch.zoo.keys import RunKey, RunNumbers, nearest_ratio

_NAMED = 10  # in an error


@dataclass(frozen=True)
class Selection:
    """Which runs to take.

    Attributes:
        experiment: Only this one; all if None.
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
            self.experiment in (None, key.experiment)
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
            names = {key.experiment for key in there}
            raise ZooError(f"{place}: holds no such run; {described(there)}{alike(self.experiment, names)}")
        return chosen[self.shard[0] :: self.shard[1]]

    def missing(self, keys: Iterable[RunKey]) -> Iterator[RunKey]:
        """Yield the runs that are asked for by number, and are not among some keys; those of this shard.

        They belong to the experiments that are selected; to the ratios asked for, else to those that are there.
        """
        there = set(keys)
        ratios: dict[str, set[float]] = {}
        for key in there:
            if self.experiment in (None, key.experiment):
                ratios.setdefault(key.experiment, set()).add(key.subset_ratio)
        wanted = (
            RunKey(experiment, ratio, run)
            for experiment, found in sorted(ratios.items())
            for ratio in sorted(self._asked(found))
            for run in self.runs
        )
        lacking = (key for key in wanted if key not in there)
        yield from islice(lacking, self.shard[0], None, self.shard[1])

    def _asked(self, found: Collection[float]) -> Collection[float]:
        return {nearest_ratio(ratio, found) or ratio for ratio in self.subset_ratios} or found


def described(keys: Sequence[RunKey]) -> str:
    """Return what is there in a few words, such as `it has cifar10-inception/0.7 runs 0-1999`."""
    if not keys:
        return "it has no runs"
    groups: dict[tuple[str, float], list[int]] = {}
    for key in keys:
        groups.setdefault((key.experiment, key.subset_ratio), []).append(key.run)
    named = [f"{name}/{ratio!r} runs {_shortened(runs)}" for (name, ratio), runs in list(groups.items())[:_NAMED]]
    more = f" and {len(groups) - _NAMED} more subset ratios" if len(groups) > _NAMED else ""
    return f"it has {', '.join(named)}{more}"


def alike(experiment: str | None, names: Collection[str]) -> str:
    """Return `; did you mean 'NAME'?` for a misspelt experiment; nothing if it is among the names, or none is alike."""
    return "" if experiment is None or experiment in names else nearest(experiment, names)


def _shortened(runs: list[int]) -> str:
    text = str(RunNumbers.of(runs))
    return text if len(text) <= 40 else f"{runs[0]} ... {runs[-1]} ({len(runs)} runs)"
