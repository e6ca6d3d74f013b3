"""Evaluations become `aux_arrays.npz` files, and rows of outputs."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from heldout_torch.data.checks import SPLITS, as_subset
from heldout_torch.data.dataset import Dataset
from heldout_torch.errors import DataError, HeldoutError, UnwritableError, counted
from heldout_torch.evaluation.evaluate import Progress, evaluate_splits
from heldout_torch.evaluation.precision import Precision, Prepared
from heldout_torch.evaluation.provenance import Provenance
from heldout_torch.evaluation.result import Evaluation
from heldout_torch.evaluation.verify import check_dataset
from heldout_torch.stats.output_files import check_outputs, filled_rows, start_outputs, write_outputs
from heldout_torch.zoo import AuxArrays, Run, RunKey
from heldout_torch.zoo.base import WritableZoo
from heldout_torch.zoo.folder import FolderZoo


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
                f"{dataset.name}: lacks {counted(size - len(evaluation.index), 'example')} of {name}, and aux arrays "
                "are about all of them"
            )
    subset = as_subset(subset, n)
    return AuxArrays.of(subset, _by_index(train, train.correct), _by_index(test, test.correct))


def save_runs(
    runs: Sequence[Run],
    dataset: Dataset,
    device: str,
    progress: Progress,
    *,
    out: WritableZoo,
    batch_size: int | None = None,
    precision: Precision = "exact",
    made: Provenance,
    aux: bool = True,
    outputs: bool = False,
    flips: bool = False,
) -> list[AuxArrays | HeldoutError]:
    """Evaluate runs and file their aux arrays and outputs; a model that is there stays.

    Args:
        runs: Runs with aux arrays, which say what they were trained on.
        dataset: Their data set.
        device: As in `evaluate`.
        progress: As in `evaluate`.
        out: Zoo to write into; with outputs, a folder.
        batch_size: As in `evaluate`.
        precision: As in `evaluate`.
        made: Keeps what is made of what.
        aux: Whether to file aux arrays.
        outputs: Whether to fill in the runs' rows of what `start_all_outputs` began.
        flips: Whether outputs are means over an image and its mirror image.

    Returns:
        What was written for each run, or its error.

    Raises:
        UnwritableError: If the zoo takes no more; those of the runs that it took are there.
    """
    results: list[AuxArrays | HeldoutError] = []
    unwritable: UnwritableError | None = None
    refused = [_other_data(run, dataset) for run in runs]
    models = [Prepared(run.model, device) for run, error in zip(runs, refused, strict=True) if error is None]
    evaluated = iter(evaluate_splits(
        models, dataset, SPLITS, device,
        batch_size=batch_size, precision=precision, flips=outputs and flips, progress=progress,
    ))  # fmt: skip
    for run, wrong in zip(runs, refused, strict=True):
        found = wrong or next(evaluated)
        if isinstance(found, HeldoutError):
            results.append(found)
            continue
        train, test = found["train"], found["test"]
        try:
            arrays = make_aux(train, test, run.aux.subsample_idx, dataset)
            with made.of(run.key):
                if outputs:
                    _write_outputs(outputs_folder(out, run.key), run.key, train, test, arrays.trained_on)
                if aux:
                    out.put(run.metadata, None, arrays, overwrite=True)
            results.append(arrays)
        except UnwritableError as error:
            unwritable = error
        except HeldoutError as error:
            results.append(error)
        except OSError as error:
            unwritable = UnwritableError(f"{error.filename or out.location}: cannot be written ({error.strerror})")
    if unwritable is not None:  # evaluating more would be in vain
        raise unwritable
    return results


def _other_data(run: Run, dataset: Dataset) -> HeldoutError | None:
    """Return why a run cannot be evaluated on a data set, if so."""
    try:
        check_dataset(run, dataset)
    except HeldoutError as error:
        return error
    return None


def outputs_folder(out: WritableZoo, key: RunKey) -> Path:
    """Return the folder of the outputs of a run's experiment and subset ratio, in a zoo that is a folder."""
    return Path(out.location) / key.experiment / repr(key.subset_ratio) / "outputs"


def check_folder(out: WritableZoo) -> None:
    """Raise DataError if a zoo is none that outputs can be written into."""
    if not isinstance(out, FolderZoo):
        raise DataError(f"{out.location}: outputs are written into a folder on this machine, not under a URL")


def check_all_outputs(
    out: WritableZoo, keys: Sequence[RunKey], dataset: Dataset, made_of: Mapping[str, object]
) -> None:
    """Check, before long work, that `start_all_outputs` will take what is there; nothing is written.

    Raises:
        DataError: If the zoo is not a folder, or has outputs on other examples or data.
    """
    check_folder(out)
    for folder, _ in _rows(out, keys):
        if folder.exists():
            check_outputs(folder, len(dataset.labels("train")), len(dataset.labels("test")), made_of)


def start_all_outputs(
    out: WritableZoo, keys: Sequence[RunKey], dataset: Dataset, made_of: Mapping[str, object]
) -> set[RunKey]:
    """Make the folders that `save_runs` fills with outputs; those that are there get rows for more runs.

    Args:
        out: Zoo to write into.
        keys: Runs that will have a row, of whatever experiments and ratios.
        dataset: Their data set.
        made_of: As in `stats.output_files.start_outputs`.

    Returns:
        The runs whose rows are filled in already.

    Raises:
        DataError: If the zoo is not a folder, has outputs on other examples or data, or cannot be written.
    """
    check_folder(out)
    filled: set[str] = set()
    for folder, names in _rows(out, keys):
        start_outputs(folder, names, len(dataset.labels("train")), len(dataset.labels("test")), made_of)
        filled |= filled_rows(folder)
    return {key for key in keys if str(key) in filled}


def _rows(out: WritableZoo, keys: Sequence[RunKey]) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder of outputs, and the names of its runs in order of their rows."""
    for _, some in groupby(sorted(keys), key=lambda key: (key.experiment, key.subset_ratio)):
        first, *others = some
        yield outputs_folder(out, first), [str(key) for key in (first, *others)]


def _write_outputs(folder: Path, key: RunKey, train: Evaluation, test: Evaluation, trained_on: np.ndarray) -> None:
    margins = (_by_index(evaluation, evaluation.log_odds) for evaluation in (train, test))
    write_outputs(folder, str(key), trained_on, *margins)


def _by_index(evaluation: Evaluation, values: np.ndarray) -> np.ndarray:
    """Return values (n,) of an evaluation of all examples in the order of their published indices, as float32."""
    row = np.empty(len(values), np.float32)
    row[evaluation.index] = values
    return row
