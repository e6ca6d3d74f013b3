"""Evaluations become `aux_arrays.npz` files, and scores for membership inference."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from heldout_torch.data.dataset import Dataset
from heldout_torch.errors import DataError, HeldoutError
from heldout_torch.evaluation.evaluate import Progress, evaluate_together
from heldout_torch.evaluation.precision import Precision
from heldout_torch.evaluation.result import Evaluation
from heldout_torch.evaluation.verify import check_dataset
from heldout_torch.storage import posix
from heldout_torch.storage.files import new_folder, remove_stale
from heldout_torch.zoo import AuxArrays, Run, RunKey
from heldout_torch.zoo.base import WritableZoo

_SCORES_FOLDER = "scores"


def make_aux(train: Evaluation, test: Evaluation, subset: np.ndarray, dataset: Dataset) -> AuxArrays:
    """Put a network's evaluations into the arrays of `aux_arrays.npz`.

    Args:
        train: Evaluation on the whole training set.
        test: Evaluation on the test set.
        subset: Published indices of the examples that the network was trained on, integers of shape (train,).
        dataset: The data set of both.

    Raises:
        DataError: If an evaluation lacks examples, or the subset is none of the training set.
    """
    n, m = len(dataset.labels("train")), len(dataset.labels("test"))
    for name, size, evaluation in (("train", n, train), ("test", m, test)):
        if not np.array_equal(np.sort(evaluation.index), np.arange(size)):
            raise DataError(
                f"{dataset.name}: {size - len(evaluation.index)} examples of {name} are missing, and aux arrays are "
                "about all of them"
            )
    if subset.ndim != 1 or subset.dtype.kind not in "iu" or not len(subset):
        raise DataError(f"the subset is {subset.dtype} {subset.shape}, expected a row of published indices")
    if subset.min() < 0 or subset.max() >= n or len(np.unique(subset)) != len(subset):
        raise DataError(f"the subset names examples twice, or outside 0 ... {n - 1}")
    correct = np.zeros(n, np.float32)
    correct[train.index] = train.correct
    subset = subset.astype(np.int64)
    removed = np.setdiff1d(np.arange(n), subset)
    return AuxArrays(
        correctness_train=correct[subset],
        correctness_removed=correct[removed],
        correctness_test=test.correct.astype(np.float32),
        index_train=subset,
        index_removed=removed,
        index_test=test.index,
        subsample_idx=subset,
    )


def save_runs(
    runs: Sequence[Run],
    dataset: Dataset,
    device: str,
    progress: Progress,
    *,
    out: WritableZoo,
    batch_size: int | None = None,
    precision: Precision = "exact",
    scores: bool = False,
    flips: bool = False,
) -> list[AuxArrays | HeldoutError]:
    """Evaluate runs and file their aux arrays; a model that is there stays.

    Args:
        runs: Runs with aux arrays, which say what they were trained on.
        dataset: Their data set.
        device: As in `evaluate`.
        progress: As in `evaluate`.
        out: Zoo to write into; with scores, a folder.
        batch_size: As in `evaluate`.
        precision: As in `evaluate`.
        scores: Also fill in the runs' rows of the scores that `start_scores` began.
        flips: Scores are means over an image and its mirror image.

    Returns:
        What was written for each run, or its error.
    """
    results: list[AuxArrays | HeldoutError] = []
    models = [run.model for run in runs]
    trains = evaluate_together(
        models, dataset, "train",
        batch_size=batch_size, device=device, precision=precision, flips=scores and flips, progress=progress,
    )  # fmt: skip
    tests = evaluate_together(
        models, dataset, "test", batch_size=batch_size, device=device, precision=precision, progress=progress
    )
    for run, train, test in zip(runs, trains, tests, strict=True):
        try:
            check_dataset(run, dataset)
            for evaluation in (train, test):
                if isinstance(evaluation, HeldoutError):
                    raise evaluation
            assert isinstance(train, Evaluation)
            assert isinstance(test, Evaluation)
            aux = make_aux(train, test, run.aux.subsample_idx, dataset)
            if scores:
                write_scores(scores_folder(Path(out.location), run.key), run.key.run, train, aux.trained_on)
            out.put(run.metadata, None, aux, overwrite=True)
            results.append(aux)
        except HeldoutError as error:
            results.append(error)
        except OSError as error:
            results.append(DataError(f"{error.filename or out.location}: cannot be written ({error.strerror})"))
    return results


def scores_folder(out: Path, key: RunKey) -> Path:
    """Return the folder of the scores of a run's experiment and subset ratio."""
    return out / key.experiment / repr(key.subset_ratio) / _SCORES_FOLDER


def start_scores(out: Path, keys: Sequence[RunKey], examples: int, made_of: Mapping[str, object]) -> None:
    """Make the files that `write_scores` fills in, unless they are there; several processes may do it at once.

    In `<out>/<experiment>/<subset_ratio>/scores/` lie, for a row in ascending order of run: `scores.npy`, float32 of
    shape (runs, examples), the log odds of the label, by published index; `trained_on.npy`, bool of the same shape,
    whether the run was trained on the example, all False until the run's row is filled in; `runs.npy`, int64 of shape
    (runs,). All can be memory-mapped. `made_of.json` says what all rows have in common.

    Args:
        out: Folder to write into.
        keys: All runs that will have a row, of one experiment and ratio or of several.
        examples: Size of the whole training set.
        made_of: The data set's digest, and whether scores are means over mirror images; as JSON holds it.

    Raises:
        DataError: If there are files about other runs, examples or data, or they cannot be written.
    """
    for folder in sorted({scores_folder(out, key) for key in keys}):
        runs = np.array(sorted(key.run for key in keys if scores_folder(out, key) == folder), np.int64)
        try:
            if not folder.is_dir():
                remove_stale(folder.parent)
                with new_folder(folder) as temporary:
                    for name, dtype in (("scores.npy", np.float32), ("trained_on.npy", np.bool_)):
                        # Zeros that were never written take no space on the disk.
                        np.lib.format.open_memmap(temporary / name, "w+", dtype, (len(runs), examples)).flush()
                    with open(temporary / "runs.npy", "wb") as file:
                        np.save(file, runs)
                    (temporary / "made_of.json").write_text(json.dumps(made_of, sort_keys=True))
            found_made_of = json.loads((folder / "made_of.json").read_text())
            found_runs, shape = np.load(folder / "runs.npy"), np.load(folder / "scores.npy", mmap_mode="r").shape
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"{folder}: cannot be written or read ({error})") from None
        if not np.array_equal(found_runs, runs) or shape != (len(runs), examples):
            raise DataError(
                f"{folder}: has rows for {len(found_runs)} runs and {shape[1]} examples, not for these {len(runs)} "
                f"runs and {examples}; write elsewhere, or ask for the same runs"
            )
        if found_made_of != dict(made_of):
            raise DataError(
                f"{folder}: has scores of another data set, or with other --flips; remove it, or write elsewhere"
            )


def write_scores(folder: Path, run: int, train: Evaluation, trained_on: np.ndarray) -> None:
    """Fill in a run's row; the mask comes last, so that a row with a mask is whole.

    Args:
        folder: What `start_scores` made.
        run: Number of the run.
        train: Evaluation on the whole training set.
        trained_on: bool of shape (examples,).

    Raises:
        OSError: If it cannot be written.
    """
    row = int(np.searchsorted(np.load(folder / "runs.npy"), run))
    scores = np.zeros(len(trained_on), np.float32)
    scores[train.index] = train.log_odds
    for name, values in (("scores.npy", scores), ("trained_on.npy", trained_on)):
        offset = np.load(folder / name, mmap_mode="r").offset  # type: ignore[attr-defined]
        # Through the file, not the map: on network file systems only so do neighbouring rows of others stay whole.
        with open(folder / name, "r+b") as file:
            file.seek(offset + row * values.nbytes)
            file.write(values.tobytes())
            file.flush()
            posix.sync_file(file.fileno())


def has_scores(folder: Path, run: int) -> bool:
    """Return whether a run's row of what `start_scores` made is filled in."""
    row = int(np.searchsorted(np.load(folder / "runs.npy"), run))
    return bool(np.load(folder / "trained_on.npy", mmap_mode="r")[row].any())
