"""Where runs lie: `<root>/<experiment>/<subset_ratio>/<run>/`, in a zoo and in an unpacked TensorFlow archive alike."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from heldout_torch.errors import ZooError

MODEL_FILE = "model.safetensors"
AUX_FILE = "aux_arrays.npz"
CHECKPOINTS = "checkpoints"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, order=True)
class RunKey:
    """What names one run.

    Attributes:
        experiment: Such as `cifar10-inception`.
        subset_ratio: Share of the training set that the run saw, strictly between 0 and 1.
        run: Number of the run, from 0.
    """

    experiment: str
    subset_ratio: float
    run: int

    def __str__(self) -> str:
        return f"{self.experiment}/{self.subset_ratio!r}/{self.run}"


@dataclass(frozen=True, order=True)
class RunFolder:
    """A run and the folder that holds it.

    Attributes:
        key: The run.
        path: Its folder, in a zoo or in a TensorFlow tree.
    """

    key: RunKey
    path: Path

    @property
    def in_zoo(self) -> bool:
        """Whether the folder holds an exported run (else TensorFlow checkpoints)."""
        return (self.path / MODEL_FILE).is_file()


def make_key(experiment: str, subset_ratio: float, run: int) -> RunKey:
    """Check the parts of a key.

    Raises:
        ZooError: If the name could leave its folder, the ratio is not in (0, 1), or the run is negative.
    """
    if not _NAME.fullmatch(experiment):
        raise ZooError(f"{experiment!r} is no name for an experiment, expected letters, digits, '-', '_' and '.'")
    if isinstance(subset_ratio, bool) or not isinstance(subset_ratio, (int, float)) or not 0 < subset_ratio < 1:
        raise ZooError(f"subset ratio {subset_ratio!r} is not between 0 and 1")
    if isinstance(run, bool) or not isinstance(run, int) or run < 0:
        raise ZooError(f"run {run!r} is not a number from 0")
    return RunKey(experiment, float(subset_ratio), run)


def run_path(zoo: Path, key: RunKey) -> Path:
    """Give the folder of a run in a zoo; the ratio is spelled as Python's `repr`, such as `0.7`."""
    return zoo / key.experiment / repr(key.subset_ratio) / str(key.run)


def parse_ratio(name: str) -> float | None:
    """Read a ratio folder's name in any spelling (`0.7`, `0.70`, `7e-1`); None if it is no ratio in (0, 1)."""
    try:
        ratio = float(name)
    except ValueError:
        return None
    return ratio if 0 < ratio < 1 else None


def experiment_folders(root: Path) -> dict[str, Path]:
    """Find the experiments under a folder, which may also be an experiment's own.

    Args:
        root: Holds experiment folders, or ratio folders.

    Returns:
        Folders by experiment name, sorted.

    Raises:
        ZooError: If the folder cannot be read.
    """
    try:
        if any(parse_ratio(name) is not None for name in _folders(root)):
            return {root.resolve().name: root}
        return {
            name: root / name
            for name in _folders(root)
            if _NAME.fullmatch(name) and any(parse_ratio(ratio) is not None for ratio in _folders(root / name))
        }
    except OSError as error:
        raise ZooError(f"{error.filename or root}: is no readable folder ({error.strerror})") from None


def find_runs(root: Path, experiment: str | None = None) -> Iterator[RunFolder]:
    """Find the runs of a zoo or TensorFlow tree, in order of experiment, ratio, run.

    Args:
        root: As in `experiment_folders`.
        experiment: Only this one.

    Raises:
        ZooError: If the folder cannot be read, a zoo spells a ratio in an unusual way, or two folders hold one run.
    """
    for name, folder in experiment_folders(root).items():
        if experiment in (None, name):
            yield from _runs_of(name, folder)


def _runs_of(experiment: str, folder: Path) -> list[RunFolder]:
    runs: dict[RunKey, RunFolder] = {}
    for ratio_name in _folders(folder):
        if (ratio := parse_ratio(ratio_name)) is None:
            continue
        for run_name in _folders(folder / ratio_name):
            if not (run_name.isascii() and run_name.isdigit()):
                continue
            run = RunFolder(RunKey(experiment, ratio, int(run_name)), folder / ratio_name / run_name)
            if (ratio_name, run_name) != (repr(ratio), str(run.key.run)) and run.in_zoo:
                raise ZooError(f"{run.path}: a zoo files this run under {ratio!r}/{run.key.run}; rename the folder")
            if run.key in runs:
                raise ZooError(f"{run.path}: holds the same run as {runs[run.key].path}; remove one of them")
            runs[run.key] = run
    return sorted(runs.values())


def parse_runs(text: str) -> list[int]:
    """Read run numbers as the command line takes them, such as `0-9,42`.

    Raises:
        ZooError: If the text is no such list.
    """
    runs: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise ZooError(f"{text!r} is no list of runs, expected such as 0-9,42")
        runs.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return sorted(runs)


def parse_shard(text: str) -> tuple[int, int]:
    """Read `i/n`, the i-th of n shares of the work, i from 0 to n-1.

    Raises:
        ZooError: If the text is no such share.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if match is None or int(match[1]) >= int(match[2]):
        raise ZooError(f"{text!r} is no shard, expected i/n with i from 0 to n-1")
    return int(match[1]), int(match[2])


def _folders(path: Path) -> list[str]:
    with os.scandir(path) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
