"""What must fit before anything is trained."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from heldout_torch.data import Dataset
from heldout_torch.data.checks import SPLITS, check_labels
from heldout_torch.data.dataset import check_complete, check_preprocessing
from heldout_torch.errors import HeldoutError, ZooError, counted
from heldout_torch.models import build_skeleton, find_architecture
from heldout_torch.models.registry import check_shapes
from heldout_torch.models.trial import check_replayable, try_network
from heldout_torch.storage.threads import map_ahead
from heldout_torch.training.run_batch import RunBatch
from heldout_torch.training.stacked_mlp import check_stackable
from heldout_torch.training.subsets import draw_subset
from heldout_torch.zoo import Experiment, RunKey, RunMetadata
from heldout_torch.zoo.base import WritableZoo, Zoo
from heldout_torch.zoo.keys import make_key, nearest_ratio
from heldout_torch.zoo.mixing import trained_otherwise


def as_filed(work: RunBatch, zoo: WritableZoo) -> RunBatch:
    """Return work with the subset ratio of the runs in a zoo that means the same, such as 0.7 for 0.1 * 7.

    The share of a given subset stays: of millions of examples, those of two subsets differ by less.
    """
    if work.subset is not None:
        return work
    first = make_key(work.experiment.name, work.subset_ratio, work.runs[0])
    if not zoo.missing([first], model=False):  # so the runs of all ratios need not be listed
        return work
    near = nearest_ratio(work.subset_ratio, {key.subset_ratio for key in zoo.keys(work.experiment.name)})
    return work if near is None else replace(work, subset_ratio=near)


def check_work(work: RunBatch, dataset: Dataset) -> None:
    """Check that experiment, recipe, subset and data set fit each other, before anything is trained.

    Raises:
        HeldoutError: If they do not; the line says how.
    """
    experiment, recipe = work.experiment, work.recipe
    if dataset.name != experiment.dataset:
        raise HeldoutError(f"{experiment.name} needs data set {experiment.dataset}, not {dataset.name}")
    sizes = len(dataset.labels("train")), len(dataset.labels("test"))
    if sizes != (experiment.train_examples, experiment.test_examples):
        raise HeldoutError(
            f"{experiment.name} has {experiment.train_examples} training and {experiment.test_examples} test examples, "
            f"data set {dataset.name} has {sizes[0]} and {sizes[1]}"
        )
    check_complete(dataset, "new runs")
    for split in SPLITS:  # or the loss fails: on a GPU with an error that ends the process
        check_labels(dataset.labels(split).numpy(), dataset.num_classes, f"{dataset.name}: {split}")
    check_preprocessing(dataset, experiment.preprocessing, experiment.name)
    if not work.runs:
        raise HeldoutError("expected at least one run")
    size = len(work.subset_of(work.runs[0]))
    if abs(size - experiment.train_examples * work.subset_ratio) >= 1:  # never of a drawn one
        share = f"{size} of {experiment.train_examples} examples, {size / experiment.train_examples!r}"
        raise HeldoutError(f"the subset has {share}, but subset_ratio is {work.subset_ratio!r}; give the subset's own")
    if size < recipe.batch_size:
        raise HeldoutError(f"the subset has {counted(size, 'example')}, fewer than one batch of {recipe.batch_size}")
    if find_architecture(experiment.architecture).stackable and recipe.precision == "bf16":
        raise HeldoutError(f"{experiment.architecture} is trained in float32 or tf32, not in bf16")
    _check_network(experiment, dataset)


def check_others(work: RunBatch, data: str, zoo: Zoo) -> None:
    """Check that runs of the experiment which others trained into a zoo are of the kind of the new ones.

    That is of their recipe, data and subset. Of each subset ratio one run is looked at, the first that can be read;
    what was not trained by this package has no recipe, and is passed over.

    Args:
        work: The new runs.
        data: Digest of their data set.
        zoo: Where the others are.

    Raises:
        ZooError: If they are of another kind.
    """
    seen: set[float] = set()
    for key in zoo.keys(work.experiment.name):
        if key.subset_ratio in seen:
            continue
        try:
            metadata = zoo.metadata(key)
            subset = zoo.aux(key).subsample_idx if metadata.recipe is not None else None
        except HeldoutError:  # another run's damage is none of the new ones
            continue
        seen.add(key.subset_ratio)
        if subset is not None:
            _check_origin(work, data, metadata, zoo)
            _check_subset(work, subset, key, zoo)


def check_same(work: RunBatch, data: str, keys: Sequence[RunKey], zoo: Zoo) -> Iterator[RunKey]:
    """Check that runs which are in a zoo already were trained by the same recipe, on the same data and subset.

    Of runs on random subsets, which their numbers draw, only the first one's is compared: aux arrays of ImageNet are
    large.

    Args:
        work: The new runs.
        data: Digest of their data set.
        keys: The runs that are there.
        zoo: Where they are.

    Yields:
        The runs, as they are found to be the same.

    Raises:
        ZooError: If one is not, or its files are damaged.
    """

    def check(key: RunKey) -> RunKey:
        _check_origin(work, data, zoo.metadata(key), zoo)
        if work.subset is not None or key == keys[0]:
            _check_subset(work, zoo.aux(key).subsample_idx, key, zoo)
        return key

    return map_ahead(check, keys, zoo.threads)


def _check_origin(work: RunBatch, data: str, metadata: RunMetadata, zoo: Zoo) -> None:
    other = trained_otherwise(metadata, work.recipe.to_record(), data)
    if other is not None:
        raise ZooError(f"run {metadata.key} in {zoo.location} was trained {other}; give the new runs another name")


def _check_subset(work: RunBatch, found: np.ndarray, key: RunKey, zoo: Zoo) -> None:
    """Check that a run was trained on the subset of the new runs, or if theirs are random, on the one it draws."""
    expected = work.subset
    if expected is None:
        expected = draw_subset(key.run, work.experiment.train_examples, key.subset_ratio)
    if not np.array_equal(np.sort(found), np.sort(expected)):
        other = "another subset" if work.subset is not None else "a given subset, not on the one that its number draws"
        raise ZooError(f"run {key} in {zoo.location} was trained on {other}; give the new runs another name")


def _check_network(experiment: Experiment, dataset: Dataset) -> None:
    architecture = find_architecture(experiment.architecture)
    image = next(dataset.batches("test", 1)).images  # (1, c, h, w)
    model = build_skeleton(architecture.name, experiment.config).eval()
    check_shapes(architecture.name, model)
    # On zeros, not on the device `meta`: for it PyTorch loads its compiler, which takes a second, and it has no values.
    model.to_empty(device="cpu").float()
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.zero_()
    try:
        classes = try_network(model, image).shape[1]
    except HeldoutError as error:
        shape = tuple(image.shape[1:])
        raise HeldoutError(
            f"images of {dataset.name} {shape} do not fit {architecture.name} {experiment.config}: {error}"
        ) from None
    if dataset.num_classes != classes:
        raise HeldoutError(
            f"{dataset.name} has {counted(dataset.num_classes, 'class')}, the network of {experiment.name} {classes}"
        )
    if architecture.stackable:
        check_stackable(architecture.name, experiment.config, image)
    elif architecture.replayable:
        try:
            check_replayable(model.train(), image)
        except HeldoutError as error:
            raise HeldoutError(
                f"{architecture.name} is registered as replayable, but {error}; register it without that"
            ) from None
