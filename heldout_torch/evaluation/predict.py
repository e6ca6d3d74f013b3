"""Compute logits of many runs on given images."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from heldout_torch.data.checks import as_batch_size
from heldout_torch.data.rows import as_tensor, check_images
from heldout_torch.devices import find_device
from heldout_torch.errors import DataError, counted, one_line
from heldout_torch.evaluation.devices import device_errors, is_device_fault
from heldout_torch.evaluation.inference import bare_copy
from heldout_torch.evaluation.memory import in_portions
from heldout_torch.float32 import float32_only
from heldout_torch.zoo import Run
from heldout_torch.zoo.load import as_loaded

_TOGETHER = 8  # runs held at once


def predict(
    runs: Run | Iterable[Run], images: Tensor, *, batch_size: int = 256, device: str | torch.device = "cpu"
) -> Tensor:
    """Compute the logits of many runs on the same images, in float32.

    Args:
        runs: One run, or runs of one experiment, such as `load_runs` yields; only a few are held in memory at once.
            Their networks are copied, not changed.
        images: Floats of shape (n, c, h, w), a tensor or NumPy array, as `run.transform` returns them.
        batch_size: Images computed at once; fewer if a GPU has too little memory.
        device: Where to compute.

    Returns:
        float32 of shape (runs, n, num_classes), on the CPU.

    Raises:
        DataError: If no runs are given, or something else, or images are not of a floating-point type or of another
            shape than the networks take.
        DeviceError: If the device fails, or has too little memory.

    Example:
        >>> from heldout_torch import load_runs
        >>> predict(load_runs("digits-mlp-tf", 0.7, [0, 1, 2]), torch.zeros(5, 1, 8, 8)).shape
        torch.Size([3, 5, 10])
    """
    images = as_tensor(images)
    check_images(images, "floats")
    batch_size, device = as_batch_size(batch_size), find_device(device)
    if not images.is_floating_point():
        raise DataError(f"images are {images.dtype}, expected float32 as run.transform gives it")
    images = images.float()
    logits: list[Tensor] = []
    group: list[Run] = []
    for run in runs if isinstance(runs, Iterable) and not isinstance(runs, str | bytes) else [runs]:
        group.append(as_loaded(run))
        if len(group) == _TOGETHER:
            logits += _logits(group, images, batch_size, device)
            group = []
    logits += _logits(group, images, batch_size, device)
    if not logits:
        raise DataError("no runs are given, expected at least one")
    return torch.stack(logits)  # (runs, n, num_classes)


def _logits(runs: list[Run], images: Tensor, batch_size: int, device: torch.device) -> list[Tensor]:
    if not runs:
        return []
    with device_errors(device), torch.inference_mode(), float32_only():
        models = [bare_copy(run.model).to(device, torch.float32) for run in runs]

        def logits(size: int) -> list[Tensor]:
            parts: list[list[Tensor]] = [[] for _ in runs]
            for batch in torch.split(images, size):
                on_device = batch.to(device)
                for run, model, part in zip(runs, models, parts, strict=True):
                    part.append(_logits_of(run, model, on_device))  # (b, num_classes)
            return [torch.cat(part) for part in parts]

        return in_portions(logits, batch_size, device, type(runs[0].model))


def _logits_of(run: Run, model: nn.Module, images: Tensor) -> Tensor:
    """Return the logits of one run on images that lie on the device, float32 on the CPU."""
    try:
        logits = model(images)
        if not isinstance(logits, Tensor):
            raise DataError(f"run {run.key} gives {type(logits).__name__}, expected a tensor of logits")
        if not logits.dim() or len(logits) != len(images):
            raise DataError(f"run {run.key} gives {tuple(logits.shape)} for {counted(len(images), 'image')}")
        return logits.float().cpu()
    except (RuntimeError, ValueError) as error:
        if is_device_fault(error):
            raise
        reason, shape = one_line(error), tuple(images.shape)
        raise DataError(f"run {run.key} cannot take images of shape {shape} ({reason})") from None
