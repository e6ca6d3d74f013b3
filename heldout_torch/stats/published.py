"""Load published scores and influence by name, in original or published order."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from heldout_torch.data.imagenet_index import read_imagenet_index
from heldout_torch.data.order import original_index
from heldout_torch.errors import DataError
from heldout_torch.stats.influence_files import (
    ClasswiseInfluence,
    load_classwise,
    load_imagenet_memorization,
    load_pairs,
)
from heldout_torch.stats.orders import Order, check_order, to_original, to_published
from heldout_torch.stats.pairs import InfluencePairs
from heldout_torch.stats.published_files import fetch_file
from heldout_torch.stats.published_list import Published, find_published, list_published
from heldout_torch.stats.score_files import Scores, load_scores
from heldout_torch.storage.paths import Location

AnyPublished = Scores | InfluencePairs | ClasswiseInfluence


def load_published(name: str, order: Order = "original", folder: Location | None = None) -> AnyPublished:
    """Load published scores or influence by name; files are fetched once, and checked at every use.

    Args:
        name: One that `heldout published list` shows, such as `cifar10-cscores`, `cifar100-memorization`,
            `cifar100-influence`, `imagenet-pairs`.
        order: Of the examples: `original`, as in the data set's own files and torchvision, or `published`, as in a run
            table. ImageNet always comes in published order, the only one it has; `Scores.by_filename` finds scores by
            names of files.
        folder: Folder of local copies under their published names, instead of `HELDOUT_TORCH_PUBLISHED` and the cache.

    Returns:
        `Scores` for `...-cscores`, `...-memorization` and `imagenet-index`, `InfluencePairs` for `...-pairs`,
        `ClasswiseInfluence` for `...-influence`. The `order` of the result says its order.

    Raises:
        DataError: If there is no such name or order, the folder lacks a file, or a file is not as described.
        ZooError: If a file cannot be fetched, or is not the published one.
    """
    check_order(order, "order")
    published = find_published(name)
    path = fetch_file(published.file, folder)
    index = None if published.index is None else fetch_file(published.index, folder)
    loaded = _load(published, path, index)
    if loaded.order == order or published.dataset == "imagenet":
        return loaded
    return _reordered(loaded, published, order)


def published_scores() -> list[str]:
    """Return the names for which `load_published` returns scores."""
    return [name for name, one in list_published().items() if one.kind in ("scores", "memorization")]


def _load(published: Published, path: Path, index: Path | None) -> AnyPublished:
    """Load a file with its order, which it does not say itself."""
    order: Order = "original" if published.order == "original" else "published"
    if published.kind == "pairs":
        return replace(load_pairs(path), order=order)
    if published.kind == "classwise":
        return replace(load_classwise(path, index), order=order)
    if published.kind == "scores":
        scores = replace(load_scores(path), order=order)
        return scores if index is None else _by_published_index(scores, path, index)
    if published.dataset == "imagenet":
        files = read_imagenet_index(path)["train"]
        return Scores(load_imagenet_memorization(path), files.labels, np.array(files.names), order=order)
    influence = load_classwise(path)
    return Scores(influence.memorization, influence.labels_train, order=order)


def _by_published_index(scores: Scores, path: Path, index: Path) -> Scores:
    """Bring scores in an order of their own to the one of ImageNet's index, by names of files."""
    files = read_imagenet_index(index)["train"]
    place = {name: row for row, name in enumerate(scores.base_names(str(path)))}
    if missing := [name for name in files.names if name not in place]:
        raise DataError(f"{path}: has no score of {missing[0]} and {len(missing) - 1} other files of {index.name}")
    rows = np.array([place[name] for name in files.names], np.int64)
    if scores.labels is not None and not np.array_equal(scores.labels[rows], files.labels):
        raise DataError(f"{path}: its labels differ from those of {index.name}, so it is for other examples")
    return Scores(scores.scores[rows], files.labels, np.array(files.names), order="published")


def _reordered(loaded: AnyPublished, published: Published, order: Order) -> AnyPublished:
    if isinstance(loaded, Scores):
        index = _original_index(published, "train", len(loaded.scores))
        labels = None if loaded.labels is None else _moved(loaded.labels, index, order)
        return Scores(_moved(loaded.scores, index, order), labels, order=order)
    if isinstance(loaded, InfluencePairs):
        train, test = (
            _renumbered(numbers, _original_index(published, split, published.examples[split]), order)
            for split, numbers in (("train", loaded.train_index), ("test", loaded.test_index))
        )
        return replace(loaded, train_index=train, test_index=test, order=order)
    train = _original_index(published, "train", len(loaded.labels_train))
    test = _original_index(published, "test", len(loaded.labels_test))
    return ClasswiseInfluence(
        [
            one.renumbered(_renumbered(one.train_index, train, order), _renumbered(one.test_index, test, order))
            for one in loaded.classes
        ],
        _moved(loaded.labels_train, train, order),
        _moved(loaded.labels_test, test, order),
        _moved(loaded.memorization, train, order),
        order,
    )


def _original_index(published: Published, split: str, examples: int) -> np.ndarray:
    index = original_index(published.dataset, split, examples)
    assert index is not None  # every data set that has published files counts in a known order
    return index


def _moved(values: np.ndarray, index: np.ndarray, order: Order) -> np.ndarray:
    return to_original(values, index) if order == "original" else to_published(values, index)


def _renumbered(numbers: np.ndarray, index: np.ndarray, order: Order) -> np.ndarray:
    """Convert indices of examples from the other order to this one."""
    if numbers.size and int(numbers.max()) >= len(index):
        raise DataError(f"example {int(numbers.max())} is not among the {len(index)} of the data set")
    return index[numbers] if order == "original" else np.argsort(index)[numbers]
