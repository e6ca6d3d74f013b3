"""Evaluate a network on a data set."""

from collections.abc import Callable, Sequence
from typing import Any, get_args

import torch
from torch import nn

from heldout_torch.data import AnyDataset, Dataset, SplitName, as_dataset
from heldout_torch.data.checks import as_batch_size, check_split
from heldout_torch.data.dataset import check_preprocessing
from heldout_torch.devices import find_device
from heldout_torch.errors import DataError, HeldoutError, counted, nearest
from heldout_torch.evaluation.devices import device_errors, turn_on
from heldout_torch.evaluation.memory import Told, fitting, in_portions
from heldout_torch.evaluation.passes import Pass
from heldout_torch.evaluation.precision import Precision, Prepared
from heldout_torch.evaluation.result import Evaluation
from heldout_torch.float32 import float32_only
from heldout_torch.zoo import Run
from heldout_torch.zoo.load import as_loaded

Progress = Callable[[int], object]  # is told how many examples more are done


def evaluate(
    model: nn.Module | Run,
    dataset: AnyDataset,
    split: SplitName,
    *,
    batch_size: int | None = None,
    device: str | torch.device = "cpu",
    precision: Precision = "exact",
    logits: bool = False,
    flips: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate a network on one split.

    Args:
        model: Any network with `model(images (b, c, h, w)) -> logits (b, num_classes)`, or a run, whose preprocessing
            is compared with the data set's; it is copied, not changed.
        dataset: From `heldout_torch.data.load_dataset`, or a torchvision object (`heldout_torch.data.as_dataset`).
        split: "train" (the whole training set) or "test".
        batch_size: Images loaded at once; chosen for the device by default.
        device: Where to compute.
        precision: "exact" computes in float32. "fast" computes in 16 bits first, if that is faster on the device. An
            example is computed again in float32 if the margin between its two largest logits is less than 1.5 times the
            largest error measured. The error is measured on the first batch (up to 256 examples), on every 64th
            example, and on all that are computed again; when it grows, more examples are.
        logits: Whether to return all logits.
        flips: Whether to average log odds over each image and its mirror image.
        progress: Called with the number of examples done since its last call.

    Raises:
        DeviceError: If the device fails, or has too little memory.
        DataError: If the split is unknown, the network cannot take the images, does not return `num_classes` finite
            logits for each, a label is none of the classes, or the data set preprocesses its images otherwise than that
            of the run.
    """
    dataset = as_dataset(dataset, [check_split(split)])
    if not isinstance(model, nn.Module):
        run = as_loaded(model, ", or a torch.nn.Module")
        check_preprocessing(dataset, run.metadata.preprocessing, f"run {run.key}", [split])
        model = run.model
    result = evaluate_together(
        [model], dataset, split,
        batch_size=batch_size, device=device, precision=precision, logits=logits, flips=flips, progress=progress,
    )[0]  # fmt: skip
    if isinstance(result, HeldoutError):
        raise result
    return result


def evaluate_together(
    models: Sequence[nn.Module | Prepared],
    dataset: AnyDataset,
    split: SplitName,
    *,
    batch_size: int | None = None,
    device: str | torch.device = "cpu",
    precision: Precision = "exact",
    logits: bool = False,
    flips: bool = False,
    progress: Progress | None = None,
) -> list[Evaluation | HeldoutError]:
    """Evaluate several networks in one pass over the data, which is read and decoded once.

    Arguments are as in `evaluate`. Returns for each network its evaluation, or the error that `evaluate` would raise. A
    `Prepared` network is copied once for all splits. If a GPU has too little memory, the batch size is halved, also for
    the next call.

    Raises:
        DataError: If the split or the precision is unknown, or the data set is bad.
        DeviceError: If the device fails, or has too little memory for one image.
    """
    if precision not in (known := get_args(Precision)):
        hint = nearest(str(precision), known)
        raise DataError(f"precision {precision!r} is not known, expected {' or '.join(known)}{hint}")
    dataset = as_dataset(dataset, [check_split(split)])
    if dataset.num_classes < 2:
        raise DataError(f"{dataset.name}: has {counted(dataset.num_classes, 'class')}, expected two or more")
    labels = dataset.labels(split)
    if bad := ((labels < 0) | (labels >= dataset.num_classes)).nonzero().flatten().tolist():
        raise DataError(
            f"{dataset.name}: example {bad[0]} of {split} has label {int(labels[bad[0]])}, expected 0 ... "
            f"{dataset.num_classes - 1}"
        )
    device, batch_size = find_device(device), None if batch_size is None else as_batch_size(batch_size)
    prepared = [model if isinstance(model, Prepared) else Prepared(model) for model in models]
    if not prepared:
        return []
    told = Told(progress or (lambda count: None))

    def evaluated(size: int) -> list[Evaluation | HeldoutError]:
        told.done = 0
        passes = [Pass(one, dataset, split, precision, logits, flips) for one in prepared]
        try:
            return _go(passes, dataset, split, size, device, told.add)
        except RuntimeError:
            for one in prepared:
                one.forget()
            raise

    with device_errors(device), turn_on(device), float32_only():
        size = batch_size or _batch_size(dataset, device, precision)
        return in_portions(evaluated, size, *_kind(prepared[0], device))


def evaluate_splits(
    models: Sequence[Prepared], dataset: Dataset, splits: Sequence[SplitName], device: str | torch.device, **how: Any
) -> list[dict[SplitName, Evaluation] | HeldoutError]:
    """Evaluate several networks on several splits, as `evaluate_together` does on one.

    Returns for each network its evaluations, or the first error.
    """
    with turn_on(device):  # for all splits: if two tasks took turns at each, both would write files at the same time
        by_split = [evaluate_together(models, dataset, split, device=device, **how) for split in splits if models]
    results: list[dict[SplitName, Evaluation] | HeldoutError] = []
    for found in zip(*by_split, strict=True):
        good = {split: one for split, one in zip(splits, found, strict=True) if isinstance(one, Evaluation)}
        errors = [one for one in found if isinstance(one, HeldoutError)]
        results.append(errors[0] if errors else good)
    return results


def batch_size_for(
    prepared: Prepared, dataset: Dataset, device: str | torch.device, precision: Precision, wanted: int | None
) -> int:
    """Return how many images are loaded at once: those wanted, or chosen for the device, if they fit its memory."""
    device = torch.device(device)
    return fitting(wanted or _batch_size(dataset, device, precision), *_kind(prepared, device))


def _kind(prepared: Prepared, device: torch.device) -> tuple[object, ...]:
    return device, type(prepared.model)


def _go(
    passes: list[Pass], dataset: Dataset, split: SplitName, size: int, device: torch.device, tell: Progress
) -> list[Evaluation | HeldoutError]:
    for batch in dataset.batches(split, size, device):
        for one in passes:
            one.add(batch)
        tell(len(batch.index) * len(passes))
    # An error that grew much makes examples unsafe whose images have gone by.
    while pending := [one for one in passes if one.must_revisit()]:
        for batch in dataset.batches(split, size, device):
            for one in pending:
                one.revisit(batch)
    return [one.finish() for one in passes]


def _batch_size(dataset: Dataset, device: torch.device, precision: Precision) -> int:
    """Choose how many images are loaded at once; the CPU computes in still smaller parts."""
    if device.type == "cpu":
        return 64
    if not dataset.in_memory:
        return 256
    return 8192 if precision == "fast" else 2048  # kernels for more of float32 take long to seek, and gain little
