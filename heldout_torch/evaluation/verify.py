"""Compare the recorded correctness of runs with the predictions of their networks."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch

from heldout_torch.data import AnyDataset, Dataset, SplitName, as_dataset
from heldout_torch.data.checks import SPLITS
from heldout_torch.data.dataset import check_preprocessing, check_same_data
from heldout_torch.devices import find_device
from heldout_torch.errors import DataError, HeldoutError, ZooError, nearest
from heldout_torch.evaluation.evaluate import Progress, batch_size_for, evaluate_splits
from heldout_torch.evaluation.precision import Precision, Prepared, rounding_error
from heldout_torch.evaluation.result import Evaluation, SplitVerification, Verification
from heldout_torch.zoo import AuxArrays, Run
from heldout_torch.zoo.aux_arrays import PARTS, Part
from heldout_torch.zoo.load import as_loaded


def verify(
    run: Run,
    dataset: AnyDataset,
    splits: Sequence[Part] = PARTS,
    *,
    batch_size: int | None = None,
    device: str | torch.device = "cpu",
    precision: Precision = "exact",
    progress: Progress | None = None,
) -> Verification:
    """Compare the recorded correctness of a run with the predictions of its network.

    Args:
        run: A run from `load_run`.
        dataset: The run's data set, as in `evaluate`.
        splits: What to compare.
        batch_size: Images loaded at once; chosen for the device by default.
        device: Where to compute.
        precision: "exact" or "fast", as in `evaluate`.
        progress: Called with the number of examples done since its last call.

    Raises:
        DataError: If the data set is not the run's, or the network fails on it as in `evaluate`.
        ZooError: If the run's aux arrays are missing or damaged, or its weights are stored in 16 bits.
    """
    result = verify_runs(
        [as_loaded(run)], dataset, device, progress, splits=splits, batch_size=batch_size, precision=precision
    )[0]
    if isinstance(result, HeldoutError):
        raise result
    return result


def verify_runs(
    runs: Sequence[Run],
    dataset: AnyDataset,
    device: str | torch.device,
    progress: Progress | None,
    *,
    splits: Sequence[Part] = PARTS,
    batch_size: int | None = None,
    precision: Precision = "exact",
) -> list[Verification | HeldoutError]:
    """Verify several runs in one pass over the data; the work of a `sweep`.

    Takes what `verify` takes, and gives for each run its verification, or the error that `verify` would raise for it.

    Raises:
        DataError: If the data set is bad by itself.
    """
    splits = (splits,) if isinstance(splits, str) else tuple(splits or ())  # type: ignore[assignment]
    if not splits:
        raise DataError(f"no split is given to verify, expected some of {', '.join(PARTS)}")
    if unknown := [part for part in splits if part not in PARTS]:
        raise DataError(
            f"split {unknown[0]!r} is not known, expected {', '.join(PARTS)}{nearest(str(unknown[0]), PARTS)}"
        )
    needed = sorted({_dataset_split(part) for part in splits})  # the test set first
    dataset, device = as_dataset(dataset, needed), find_device(device)
    results: dict[int, Verification | HeldoutError] = {}
    prepared: dict[int, Prepared] = {}
    for number, run in enumerate(runs):
        try:
            _check_dtype(run)
            check_dataset(run, dataset, needed)
            prepared[number] = Prepared(run.model, device)
        except HeldoutError as error:
            results[number] = error
    evaluated = evaluate_splits(
        list(prepared.values()), dataset, needed, device,
        batch_size=batch_size, precision=precision, progress=progress,
    )  # fmt: skip

    def tie_margin(network: Prepared) -> float:
        size = batch_size_for(network, dataset, device, precision, batch_size)
        images = next(iter(dataset.batches(needed[0], size, device))).images
        return 2 * rounding_error(network, images, precision)

    for (number, network), found in zip(prepared.items(), evaluated, strict=True):
        if isinstance(found, HeldoutError):
            results[number] = found
        else:
            evaluations = {part: found[_dataset_split(part)] for part in splits}
            results[number] = _compare(runs[number].aux, evaluations, partial(tie_margin, network))
    return [results[number] for number in range(len(runs))]


def check_dataset(run: Run, dataset: Dataset, splits: Sequence[SplitName] = SPLITS) -> None:
    """Check that a data set can be that of a run; or is, if the run says which that was.

    Args:
        run: With its aux arrays.
        dataset: The data set.
        splits: Those whose size is compared.

    Raises:
        DataError: If its name, the numbers of examples, the preprocessing or its digest are others.
        ZooError: If the run's aux arrays are missing or damaged.
    """
    if dataset.name != run.metadata.dataset:
        raise DataError(f"run {run.metadata.key} is about {run.metadata.dataset}, the data set is {dataset.name}")
    recorded = {"train": run.aux.train_examples, "test": len(run.aux.index_test)}
    found: dict[str, int] = {split: len(dataset.labels(split)) for split in splits}
    if wrong := [split for split in splits if recorded[split] != found[split]]:
        raise DataError(
            f"run {run.metadata.key}: its aux arrays are about {recorded[wrong[0]]} {wrong[0]} examples, the data set "
            f"{dataset.name} has {found[wrong[0]]}; is it another one?"
        )
    check_preprocessing(dataset, run.metadata.preprocessing, f"run {run.metadata.key}", splits)
    check_same_data(dataset, run.metadata.data_sha256, run.metadata.key)


def _check_dtype(run: Run) -> None:
    """Check that a run has the weights whose predictions were recorded.

    Raises:
        ZooError: If they were rounded.
    """
    if (dtype := run.metadata.dtype) is not None:
        raise ZooError(f"run {run.key}: is stored as {dtype}, its weights are rounded; only float32 runs are verified")


def _dataset_split(part: Part) -> SplitName:
    return "test" if part == "test" else "train"


def _compare(
    aux: AuxArrays, evaluations: dict[Part, Evaluation], measure_tie_margin: Callable[[], float]
) -> Verification:
    rows: dict[Part, np.ndarray] = {}
    wrong: dict[Part, np.ndarray] = {}
    for part, evaluation in evaluations.items():
        recorded, index = getattr(aux, f"correctness_{part}"), getattr(aux, f"index_{part}").astype(np.int64)
        row = np.full(max(index.max(initial=-1), evaluation.index.max()) + 1, -1)  # published index -> row
        row[evaluation.index] = np.arange(len(evaluation.index))
        rows[part] = row[index]  # -1 where the data set lacks the example
        wrong[part] = (rows[part] >= 0) & (evaluation.correct[rows[part]] != recorded.astype(bool))
    tie_margin = 0.0
    if any(mask.any() for mask in wrong.values()):
        tie_margin = measure_tie_margin()
    splits: dict[Part, SplitVerification] = {}
    for part, evaluation in evaluations.items():
        mismatched = np.sort(rows[part][wrong[part]])
        order = np.argsort(evaluation.index[mismatched])
        margins = evaluation.margin[mismatched][order]
        splits[part] = SplitVerification(
            examples=int((rows[part] >= 0).sum()),
            missing=int((rows[part] < 0).sum()),
            mismatched=evaluation.index[mismatched][order],
            margins=margins,
            ties=np.abs(margins) <= tie_margin,
        )
    return Verification(splits, tie_margin)
