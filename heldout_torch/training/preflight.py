"""What must fit before anything is trained."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from heldout_torch.data import Dataset
from heldout_torch.data.dataset import check_complete, check_preprocessing
from heldout_torch.errors import HeldoutError, ZooError, one_line
from heldout_torch.models import build_skeleton, find_architecture
from heldout_torch.training.run_batch import RunBatch
from heldout_torch.zoo import Experiment, RunKey, RunMetadata
from heldout_torch.zoo.base import Zoo


def check_work(work: RunBatch, dataset: Dataset) -> None:
    """Check that experiment, recipe, subset and data set fit each other, before anything is trained.

    Raises:
        HeldoutError: If they do not; the line says how.
    """
    experiment, recipe = work.experiment, work.recipe
    if dataset.name != experiment.dataset:
        raise HeldoutError(f"{experiment.name} is about data set {experiment.dataset}, not {dataset.name}")
    sizes = len(dataset.labels("train")), len(dataset.labels("test"))
    if sizes != (experiment.train_examples, experiment.test_examples):
        raise HeldoutError(
            f"{experiment.name} has {experiment.train_examples} training and {experiment.test_examples} test examples, "
            f"data set {dataset.name} has {sizes[0]} and {sizes[1]}"
        )
    check_complete(dataset, "new runs")
    check_preprocessing(dataset, experiment.preprocessing, experiment.name)
    if not 0 < work.subset_ratio < 1:
        raise HeldoutError(f"subset ratio {work.subset_ratio!r} is not between 0 and 1")
    if not work.runs or min(work.runs) < 0 or max(work.runs) >= 2**32:
        raise HeldoutError("expected at least one run, numbered from 0 to 2^32 - 1: the number is the seed")
    size = len(work.subset_of(work.runs[0]))
    if size < recipe.batch_size:
        raise HeldoutError(f"the subset has {size} examples, fewer than one batch of {recipe.batch_size}")
    if find_architecture(experiment.architecture).stackable and recipe.precision == "bf16":
        raise HeldoutError(f"{experiment.architecture} is trained in float32 or tf32, not in bf16")
    _check_shapes(experiment, dataset)


def check_others(work: RunBatch, data: str, zoo: Zoo) -> None:
    """Check that runs of the experiment which others trained into a zoo had the recipe and the data of the new ones.

    One of them is looked at, the first that can be read; what was not trained by this package has no recipe.

    Args:
        work: The new runs.
        data: Digest of their data set.
        zoo: Where the others are.

    Raises:
        ZooError: If it had others.
    """
    for key in zoo.keys(work.experiment.name):
        try:
            metadata = zoo.metadata(key)
        except HeldoutError:  # another run's damage is none of the new ones
            continue
        if metadata.recipe is not None:
            _check_origin(work, data, metadata, zoo)
        return


def check_same(work: RunBatch, data: str, key: RunKey, zoo: Zoo) -> None:
    """Check that a run which is in a zoo already was trained by the same recipe, on the same data and subset.

    Args:
        work: The new runs.
        data: Digest of their data set.
        key: The run.
        zoo: Where it is.

    Raises:
        ZooError: If it was not, or its files are damaged.
    """
    _check_origin(work, data, zoo.metadata(key), zoo)
    if work.subset is None:
        return
    if not np.array_equal(np.sort(zoo.aux(key).subsample_idx), np.sort(work.subset)):
        raise ZooError(f"run {key} in {zoo.location} was trained on another subset; give the new runs another name")


def _fields(work: RunBatch) -> dict[str, Any]:
    """Return the recipe as metadata keep it."""
    fields: dict[str, Any] = json.loads(json.dumps(asdict(work.recipe)))
    return fields


def _check_origin(work: RunBatch, data: str, metadata: RunMetadata, zoo: Zoo) -> None:
    other = None
    if metadata.recipe != _fields(work):
        other = "by another recipe"
    elif metadata.data_sha256 not in (None, data):
        other = "on other data (images, labels or their scale)"
    if other is not None:
        raise ZooError(f"run {metadata.key} in {zoo.location} was trained {other}; give the new runs another name")


def _check_shapes(experiment: Experiment, dataset: Dataset) -> None:
    image = next(dataset.batches("test", 1)).images  # (1, c, h, w)
    # On zeros, not on the device `meta`: for it PyTorch loads its compiler, which takes a second, and it has no values.
    model = build_skeleton(experiment.architecture, experiment.config).eval().to_empty(device="cpu")
    try:
        with torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                tensor.zero_()
            classes = model(image).shape[1]
    except RuntimeError as error:
        shape, line = tuple(image.shape[1:]), one_line(error)
        raise HeldoutError(
            f"images of {dataset.name} {shape} do not fit {experiment.architecture} {experiment.config}: {line}"
        ) from None
    if dataset.num_classes > classes:
        raise HeldoutError(
            f"{dataset.name} has {dataset.num_classes} classes, the network of {experiment.name} only {classes}"
        )
