"""Keys of runs, lists of run numbers, and how both are written: `<experiment>/<subset_ratio>/<run>`."""

import math
import operator
import re
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

from heldout_torch.errors import ZooError
from heldout_torch.experiments import check_name, is_experiment_name

MODEL_FILE = "model.safetensors"
AUX_FILE = "aux_arrays.npz"
CHECKPOINTS = "checkpoints"  # the folder in a run's that holds a TensorFlow checkpoint
RUN_FILES = (AUX_FILE, MODEL_FILE)  # in the order in which they are written
MAX_RUN = 2**32 - 1  # a run's number is the seed of NumPy's RandomState

NEAR = 1e-6  # ratios that differ by no more mean the same one
_MAX_LISTED = 10_000_000  # runs that a list such as 0-9,42 may name


@dataclass(frozen=True, order=True)
class RunKey:
    """The key of one run.

    Attributes:
        experiment: Such as `cifar10-inception`.
        subset_ratio: Share of the training set that the run saw, strictly between 0 and 1.
        run: Number of the run, from 0.

    Raises:
        ZooError: If the ratio cannot be converted to a float, or the run to an int.
    """

    experiment: str
    subset_ratio: float
    run: int

    def __post_init__(self) -> None:
        """Convert numbers of other types, such as NumPy's, which would be written in another way."""
        if type(self.subset_ratio) is not float:
            object.__setattr__(self, "subset_ratio", as_ratio(self.subset_ratio))
        if type(self.run) is not int:
            object.__setattr__(self, "run", _as_run(self.run))

    def __str__(self) -> str:
        return f"{self.experiment}/{self.subset_ratio!r}/{self.run}"

    @staticmethod
    def parse(text: str) -> "RunKey":
        """Parse a key such as `cifar10-inception/0.7/3`; spaces around it and slashes at its end are ignored.

        Raises:
            ZooError: If the text is not a key.
        """
        parts = text.strip().rstrip("/").split("/")
        if len(parts) != 3 or not _is_number(parts[2]):
            raise ZooError(f"{text!r} names no run, expected <experiment>/<subset_ratio>/<run>")
        return make_key(*parts)


def make_key(experiment: str, subset_ratio: Any, run: Any) -> RunKey:
    """Check the parts of a key, and return the key.

    Args:
        experiment: Name of the experiment.
        subset_ratio: Anything like a float, also a string; see `as_ratio`.
        run: Anything like an integer, such as a NumPy one, also a string; see `_as_run`.

    Raises:
        ZooError: If the name is not a plain folder name, the ratio is not in (0, 1), or the run is not an integer from
            0.
    """
    check_name(experiment)
    return RunKey(experiment, as_ratio(subset_ratio), _as_run(run))


def _as_run(value: Any) -> int:
    """Return the number of a run, given as an integer of any type, or as text.

    Raises:
        ZooError: If it is not an integer from 0 to 2^32 - 1.
    """
    if isinstance(value, str) and _is_number(value.strip()):
        value = int(value)
    try:
        number = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = -1
    if not 0 <= number <= MAX_RUN:
        raise ZooError(f"run {value!r} is not an integer from 0 to {MAX_RUN}")
    return number


def as_runs(values: Any) -> list[int]:
    """Return run numbers, given as one number, several, or text such as `0-9,42`.

    They keep their order.

    Raises:
        ZooError: If one is not a number of a run.
    """
    if isinstance(values, str):
        parse_runs(values)  # checks all of it
        return list(dict.fromkeys(run for part in values.split(",") for run in parse_runs(part)))
    if not isinstance(values, Iterable) or isinstance(values, bytes) or getattr(values, "ndim", 1) == 0:
        return [_as_run(values)]
    return list(map(_as_run, values))


def as_ratio(value: Any) -> float:
    """Return a subset ratio, given as anything like a float.

    Floats of 16 and 32 bits are converted by their shortest decimal, so `numpy.float32(0.7)` becomes 0.7.

    Raises:
        ZooError: If it is not a number strictly between 0 and 1.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        dtype = str(getattr(value, "dtype", "")).removeprefix("torch.")
        ratio = float(value)
        if dtype == "bfloat16":  # of a tensor, and NumPy has none
            decimals = (float(f"{ratio:.{digits}g}") for digits in range(1, 5))
            ratio = next((decimal for decimal in decimals if value.new_tensor(decimal) == value), ratio)
        if dtype in ("float32", "float16"):
            import numpy as np  # there already, or there would be no such number

            ratio = float(str(np.dtype(dtype).type(ratio)))
    except (TypeError, ValueError, OverflowError):
        ratio = math.nan
    if not 0 < ratio < 1:
        raise ZooError(f"subset ratio {value!r} is not a number between 0 and 1")
    return ratio


def nearest_ratio(ratio: float, existing: Iterable[float]) -> float | None:
    """Return the existing ratio that equals the given one, or is within 1e-6 of it; None if there is none.

    Raises:
        ZooError: If several are that near.
    """
    near = {other for other in existing if abs(other - ratio) <= NEAR}
    if ratio in near or not near:
        return ratio if near else None
    if len(near) > 1:
        raise ZooError(f"subset ratio {ratio!r} could be {' or '.join(map(repr, sorted(near)))}; give one of them")
    return near.pop()


def parse_ratio(name: str) -> float | None:
    """Return the ratio that a folder's name spells in any way (`0.7`, `0.70`, `7e-1`); None if it is not a ratio."""
    try:
        ratio = float(name)
    except ValueError:
        return None
    return ratio if 0 < ratio < 1 else None


def parse_run(name: str) -> int | None:
    """Return the run that a folder's name spells, perhaps with zeros before it; None if it is not a run number."""
    return int(name) if _is_number(name) and int(name) <= MAX_RUN else None


def parse_key(path: str) -> tuple[RunKey, str] | None:
    """Parse a path `<experiment>/<subset_ratio>/<run>/<file>` of a zoo into the key of the run and the file name.

    Returns None for any other path, and if the ratio or the run is not written as in a zoo.
    """
    parts = path.split("/")
    if len(parts) != 4 or not is_experiment_name(parts[0]):
        return None
    ratio, run = parse_ratio(parts[1]), parse_run(parts[2])
    if ratio is None or run is None or (repr(ratio), str(run)) != (parts[1], parts[2]):
        return None
    return RunKey(parts[0], ratio, run), parts[3]


class RunNumbers(Collection[int]):
    """Numbers of runs, kept as ranges, so that `0-1999999` costs nothing."""

    def __init__(self, ranges: Iterable[range]) -> None:
        self._ranges: list[range] = []
        for part in sorted(ranges, key=lambda part: part.start):
            if self._ranges and part.start <= self._ranges[-1].stop:
                last = self._ranges.pop()
                part = range(last.start, max(last.stop, part.stop))
            self._ranges.append(part)

    def __contains__(self, run: Any) -> bool:
        place = bisect_right(self._ranges, run, key=lambda part: part.start)
        return place > 0 and run in self._ranges[place - 1]

    def __iter__(self) -> Iterator[int]:
        for part in self._ranges:
            yield from part

    def __len__(self) -> int:
        return sum(map(len, self._ranges))

    def __str__(self) -> str:
        return ",".join(str(r.start) if len(r) == 1 else f"{r.start}-{r.stop - 1}" for r in self._ranges)

    def __repr__(self) -> str:
        return f"RunNumbers({self})"

    @classmethod
    def of(cls, runs: Iterable[int]) -> Self:
        """Return the same numbers as ranges."""
        return cls(range(run, run + 1) for run in runs)


def parse_runs(text: str) -> RunNumbers:
    """Return the runs that a list such as `0-9,42` names.

    Raises:
        ZooError: If the text is not such a list, or names more than ten million runs.
    """
    ranges = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,10})(?:-(\d{1,10}))?\s*", part)
        if match is None or not int(match[1]) <= int(match[2] or match[1]) <= MAX_RUN:
            raise ZooError(f"{text!r} is not a list of runs, expected such as 0-9,42")
        ranges.append(range(int(match[1]), int(match[2] or match[1]) + 1))
    runs = RunNumbers(ranges)
    if len(runs) > _MAX_LISTED:
        raise ZooError(f"{text!r} names {len(runs)} runs, more than {_MAX_LISTED} at once")
    return runs


def parse_shard(text: str) -> tuple[int, int]:
    """Return (i, n) of `i/n`, the i-th of n shares of the work, i from 0 to n-1.

    Raises:
        ZooError: If the text is not such a share.
    """
    match = re.fullmatch(r"\s*(\d{1,9})/(\d{1,9})\s*", text)
    if match is None or int(match[1]) >= int(match[2]):
        raise ZooError(f"{text!r} is not a shard, expected i/n with i from 0 to n-1")
    return int(match[1]), int(match[2])


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10
