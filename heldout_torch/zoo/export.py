"""Runs of an unpacked TensorFlow archive become runs of a zoo."""

import errno
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from heldout_torch.archives.convert import convert_run, read_aux
from heldout_torch.errors import HeldoutError, ZooError
from heldout_torch.experiments import Experiment, declared_in, known_experiments
from heldout_torch.storage.files import new_folder, remove_stale, write_synced
from heldout_torch.storage.posix import sync
from heldout_torch.zoo.keys import (
    AUX_FILE,
    CHECKPOINTS,
    MODEL_FILE,
    RunFolder,
    RunKey,
    experiment_folders,
    find_runs,
    make_key,
    run_path,
)
from heldout_torch.zoo.metadata import RunMetadata


@dataclass(frozen=True)
class Exported:
    """What became of one run.

    Attributes:
        source: The run as it lay in the TensorFlow tree; None for what is wrong with an archive as such.
        error: Why it could not be exported; None if it is in the zoo now.
        skipped: Whether it was in the zoo before.
    """

    source: RunFolder | None
    error: str | None = None
    skipped: bool = False


@dataclass(frozen=True)
class Selection:
    """Which runs to take.

    Attributes:
        experiment: Only this one; all if None.
        subset_ratios: Only these; all if empty.
        runs: Only these; all if empty.
        shard: (i, n) takes every n-th run from the i-th, in the order in which they come.
    """

    experiment: str | None = None
    subset_ratios: Collection[float] = ()
    runs: Collection[int] = ()
    shard: tuple[int, int] = (0, 1)

    def holds(self, key: RunKey) -> bool:
        """Tell whether a run is selected, before sharding."""
        return (
            self.experiment in (None, key.experiment)
            and (not self.subset_ratios or key.subset_ratio in self.subset_ratios)
            and (not self.runs or key.run in self.runs)
        )


def select_runs(
    source: Path,
    experiment: str | None = None,
    subset_ratios: Sequence[float] = (),
    runs: Sequence[int] = (),
    shard: tuple[int, int] = (0, 1),
) -> list[RunFolder]:
    """Choose what to export.

    Args:
        source: An unpacked archive (the experiment's folder, or a folder of several), or one run directory, which
            needs the experiment, one ratio and one run to name it.
        experiment: Only this experiment; for an experiment's own folder, its name.
        subset_ratios: Only these; all if empty.
        runs: Only these; all if empty.
        shard: (i, n) takes every n-th run from the i-th.

    Returns:
        Runs in order; those that nothing of the kind exists for are not reported.

    Raises:
        ZooError: If the source is no such folder, or holds no run of the kind.
    """
    if not source.is_dir():
        raise ZooError(f"{source}: there is no such folder, expected an unpacked archive or a run directory")
    if (source / CHECKPOINTS).is_dir() or (source / AUX_FILE).is_file():
        if experiment is None or len(subset_ratios) != 1 or len(runs) != 1:
            raise ZooError(f"{source}: is one run directory, name it with --experiment, --subset-ratio and --runs")
        return [RunFolder(make_key(experiment, subset_ratios[0], runs[0]), source)]
    found = list(find_runs(source))
    own_folder = experiment is not None and list(experiment_folders(source).values()) == [source]
    if own_folder and experiment is not None:
        found = [RunFolder(make_key(experiment, r.key.subset_ratio, r.key.run), r.path) for r in found]
    selection = Selection(experiment, subset_ratios, frozenset(runs))
    chosen = [run for run in found if selection.holds(run.key)]
    if not chosen:
        raise ZooError(f"{source}: holds no such run, expected <experiment>/<subset_ratio>/<run>/{CHECKPOINTS}")
    return chosen[shard[0] :: shard[1]]


def export_runs(runs: Sequence[RunFolder], zoo: Path, workers: int = 1, overwrite: bool = False) -> Iterator[Exported]:
    """Export runs into a zoo, several at a time.

    Each run appears in the zoo whole or not at all, so the work can be interrupted at any moment and called again;
    several writers on one zoo do not disturb each other.

    Args:
        runs: What `select_runs` gave.
        zoo: Folder of the zoo, made if it does not exist.
        workers: Number of threads. Reading, hashing, copying and writing run outside Python's lock.
        overwrite: Export also what is in the zoo already.

    Yields:
        What became of each run, in the order in which they finish.

    Raises:
        ZooError: If the experiment is not declared, or the zoo cannot be written.
    """
    experiments = _declare(runs, zoo)
    for folder in {run_path(zoo, run.key).parent for run in runs}:
        remove_stale(folder)

    def export(run: RunFolder) -> Exported:
        target = run_path(zoo, run.key)
        if target.is_dir() and not overwrite:
            return Exported(run, skipped=True)
        try:
            export_run(run, experiments[run.key.experiment], target, overwrite)
        except HeldoutError as error:
            return Exported(run, error=str(error))
        return Exported(run)

    with ThreadPoolExecutor(workers) as pool:
        queue = iter(runs)
        pending = _submit(pool, export, islice(queue, 2 * workers))
        try:
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                pending |= _submit(pool, export, islice(queue, len(done)))
                for future in done:
                    yield future.result()
        except OSError as error:
            raise ZooError(f"{error.filename or zoo}: cannot be written ({error.strerror})") from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def export_run(run: RunFolder, experiment: Experiment, target: Path, overwrite: bool = False) -> None:
    """Convert one run and put it in its place.

    Raises:
        HeldoutError: If the run is bad.
        OSError: If the zoo cannot be written.
    """
    name = str(run.path / AUX_FILE)
    try:
        aux = (run.path / AUX_FILE).read_bytes()
    except OSError as error:
        raise ZooError(f"{name}: cannot be read ({error.strerror})") from None
    read_aux(aux, experiment, name)
    state, metadata = convert_run(run.path, experiment, run.key)
    write_run(target, state, metadata, aux, overwrite)


def write_run(
    target: Path, state: dict[str, torch.Tensor], metadata: RunMetadata, aux: bytes, overwrite: bool = False
) -> None:
    """Write a run's folder atomically; equal input gives equal bytes.

    Args:
        target: The run's folder in the zoo.
        state: The network's tensors, contiguous.
        metadata: The run's record.
        aux: Contents of `aux_arrays.npz`, validated before.
        overwrite: Replace a run that is there; otherwise it stays.

    Raises:
        OSError: If the zoo cannot be written.
    """
    with new_folder(target, overwrite) as folder:
        model = folder / MODEL_FILE
        try:
            save_file(state, model, metadata.to_header())
        except SafetensorError as error:  # all that can go wrong with good tensors is the disk
            found = re.search(r"os error (\d+)", str(error))
            number = int(found[1]) if found else errno.EIO
            raise OSError(number, os.strerror(number), str(model)) from None
        sync(model)
        write_synced(folder / AUX_FILE, aux)


def _declare(runs: Iterable[RunFolder], zoo: Path) -> dict[str, Experiment]:
    """Find each run's experiment; one that the package does not know takes its declaration along."""
    experiments: dict[str, Experiment] = {}
    for run in runs:
        name = run.key.experiment
        if name not in experiments:
            folder = zoo / name
            experiments[name] = declared_in(name, folder, run.path.parent.parent)
            if name not in known_experiments():
                experiments[name].write(folder)
    return experiments


def _submit(pool: ThreadPoolExecutor, work, items: Iterable[RunFolder]) -> set[Future[Exported]]:  # type: ignore[no-untyped-def]
    return {pool.submit(work, item) for item in items}
