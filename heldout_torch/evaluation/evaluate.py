"""A network's predictions over a data set."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from heldout_torch.data import AnyDataset, Dataset, SplitName, as_dataset
from heldout_torch.data.checks import check_split
from heldout_torch.errors import DataError, HeldoutError
from heldout_torch.evaluation.float32 import float32_only
from heldout_torch.evaluation.passes import Pass
from heldout_torch.evaluation.precision import Precision
from heldout_torch.evaluation.result import Evaluation
from heldout_torch.zoo import Run

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
        model: Any network with `model(images (b, c, h, w)) -> logits (b, num_classes)`, or a run; it is copied, not
            changed.
        dataset: What `heldout_torch.data.load_dataset` gives, or torchvision's own (`heldout_torch.data.as_dataset`).
        split: "train" (the whole training set) or "test".
        batch_size: Images loaded at once; chosen for the device by default.
        device: Where to compute.
        precision: "exact" computes in float32. "fast" computes in bfloat16 first where the device gains by it, and
            again in float32 whatever has a margin between its two largest logits of less than 1.5 times the largest
            error seen. The error is measured on the first batch (up to 256), on every 64th example, and on all that
            is redone; when it grows, more is redone. The model must work after `.bfloat16()`.
        logits: Keep all logits.
        flips: Give log odds that are the mean over the image and its mirror image.
        progress: Called with the number of examples done since its last call.

    Raises:
        DataError: If the split is unknown, the network cannot take the images, gives other than `num_classes` logits
            or such as are no finite numbers, or a label is none of the classes.
    """
    result = evaluate_together(
        [model.model if isinstance(model, Run) else model], dataset, split,
        batch_size=batch_size, device=device, precision=precision, logits=logits, flips=flips, progress=progress,
    )[0]  # fmt: skip
    if isinstance(result, HeldoutError):
        raise result
    return result


def evaluate_together(
    models: Sequence[nn.Module],
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
    """Evaluate several networks in one pass over the data, so that it is read and decoded once.

    Takes what `evaluate` takes, and gives for each network its evaluation, or the error that `evaluate` would raise.

    Raises:
        DataError: If the split is unknown or the data set is bad.
    """
    dataset = as_dataset(dataset)
    labels = dataset.labels(check_split(split))
    if bad := ((labels < 0) | (labels >= dataset.num_classes)).nonzero().flatten().tolist():
        raise DataError(
            f"{dataset.name}: example {bad[0]} of {split} has label {int(labels[bad[0]])}, expected 0 ... "
            f"{dataset.num_classes - 1}"
        )
    device = torch.device(device)
    size = batch_size or _batch_size(dataset, device)
    passes = [Pass(model, dataset, split, precision, logits, flips) for model in models]
    with float32_only():
        for batch in dataset.batches(split, size, device):
            for one in passes:
                one.add(batch)
            if progress:
                progress(len(batch.index) * len(passes))
        # An error that grew much makes examples unsafe whose images have gone by.
        while pending := [one for one in passes if one.must_revisit()]:
            for batch in dataset.batches(split, size, device):
                for one in pending:
                    one.revisit(batch)
    return [one.finish() for one in passes]


def _batch_size(dataset: Dataset, device: torch.device) -> int:
    """Choose how many images are loaded at once; the CPU computes in still smaller parts."""
    if device.type == "cpu":
        return 64
    return 2048 if dataset.in_memory else 256
