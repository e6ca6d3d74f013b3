"""Follow the work of a command: draw progress, print errors, and count outcomes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from heldout_torch.cli.output import as_advised
from heldout_torch.errors import of_run
from heldout_torch.storage.progress import Bar
from heldout_torch.zoo.copy import Outcome
from heldout_torch.zoo.keys import RunKey

T = TypeVar("T", bound=Outcome)


@dataclass
class Counts:
    """How many runs are done, were done before, and failed."""

    done: int = 0
    skipped: int = 0
    failed: int = 0

    @property
    def status(self) -> int:
        """Exit status, 1 if any failed."""
        return 1 if self.failed else 0


def follow(outcomes: Iterable[T], bar: Bar, share: Callable[[T], float] = lambda outcome: 1) -> Counts:
    """Count outcomes as they come, move the bar, and print what went wrong.

    Args:
        outcomes: What becomes of each run.
        bar: The bar, begun.
        share: By how much an outcome moves the bar.
    """
    counts = Counts()
    told: dict[str, RunKey] = {}  # of many runs the same is wrong: one line says what, the others of which
    for outcome in outcomes:
        bar.add(share(outcome))
        if outcome.error is not None:
            counts.failed += 1
            line = outcome.error
            if outcome.key is not None:
                line = of_run(outcome.key, outcome.error)
                first = told.setdefault(line.removeprefix(f"run {outcome.key}"), outcome.key)
                if first != outcome.key:
                    line = of_run(outcome.key, f"the same as run {first}")
            bar.print(as_advised(f"error: {line}"))
        elif outcome.skipped:
            counts.skipped += 1
        else:
            counts.done += 1
    return counts
