"""`heldout stats keep`: which training examples to keep, by scores of runs, published ones, or those of a file."""

import argparse
from pathlib import Path

import numpy as np

from heldout_torch.cli import options
from heldout_torch.cli.output import summarize
from heldout_torch.cli.tables import empty_means, statistic_tables
from heldout_torch.errors import HeldoutError, counted, nearest
from heldout_torch.stats import (
    ExampleFacts,
    Scores,
    consistency_scores,
    find_facts,
    keep_indices,
    load_published,
    load_scores,
    memorization_scores,
    save_indices,
)
from heldout_torch.stats.analyses import kept_ties
from heldout_torch.stats.columns import SUFFIXES, check_file
from heldout_torch.stats.orders import Order
from heldout_torch.stats.published import published_scores
from heldout_torch.stats.published_list import find_published
from heldout_torch.stats.summary import scores_for_file
from heldout_torch.storage.paths import local_path
from heldout_torch.zoo.open import open_zoo

_ESTIMATED = ("memorization", "consistency")
_FILES = (*SUFFIXES, ".npy")
_OF_RUNS = (  # options that mean nothing to scores that are there
    "experiment", "subset_ratio", "runs", "table", "empty_zero", "data", "labels",
    "download", "skip_checksums", "allow_missing",
)  # fmt: skip

# Scores in the order of a file, how they count, what is known of the examples, and of which data set they are.
_Found = tuple[Scores, Order, ExampleFacts, str | None]


def add_keep_options(parser: argparse.ArgumentParser) -> None:
    """Add what `stats keep` takes besides the options of all statistics."""
    parser.add_argument(
        "--fraction", type=options.share, required=True, metavar="F", help="share of examples to keep, above 0 to 1"
    )
    parser.add_argument(
        "--by", type=_by, required=True, metavar="SCORE",
        help="memorization or consistency of the runs in ZOO; or a published score or a file of scores, which need no "
        f"ZOO. Published scores: {', '.join(published_scores())}. Files of scores end in {', '.join(_FILES)}",
    )  # fmt: skip
    end = parser.add_mutually_exclusive_group()
    end.add_argument(
        "--highest",
        action="store_true",
        help="keep the highest scores (default); among equal scores, the later examples",
    )
    end.add_argument(
        "--lowest", action="store_true", help="keep the lowest scores; among equal scores, the earlier ones"
    )
    parser.add_argument(
        "--order", choices=["original", "published"],
        help="count examples in the order of the data set's own files, as torchvision does (default), or by published "
        "index; `--subset` of train and evaluate takes both. For a file of scores: its order, if it does not say it",
    )  # fmt: skip


def keep(arguments: argparse.Namespace) -> int:
    """Write the indices of the examples to keep."""
    out = check_file(arguments.out)
    scores, order, train, dataset = _find(arguments)
    kept = keep_indices(scores.scores, arguments.fraction, highest=not arguments.lowest)
    if not len(kept):
        raise HeldoutError(
            f"--fraction {arguments.fraction} keeps none of {counted(len(scores.scores), 'example')}; give more"
        )
    ties, alike = kept_ties(scores.scores, kept)
    if order == "published" and train.original_index is not None:
        kept = np.flatnonzero(np.isin(train.original_index, kept))
    save_indices(out, kept, order, dataset, train.size)
    what = f"scores of {arguments.by}" if isinstance(arguments.by, Path) else arguments.by
    summarize(
        arguments,
        f"wrote {len(kept)} of {train.size} {order} indices, those of the {'lowest' if arguments.lowest else 'highest'}"
        f" {what}, to {out}"
        + (f"; {ties} of them by index alone, among {alike} examples of the same score" if ties else ""),
        kept=len(kept), by_index_alone=ties, of_the_same_score=alike, examples=train.size, order=order, out=out,
    )  # fmt: skip
    return 0


def _by(text: str) -> str | Path:
    known = [*_ESTIMATED, *published_scores()]
    if text in known:
        return text
    if Path(text).suffix.lower() in _FILES:
        return local_path(text)
    raise argparse.ArgumentTypeError(
        f"{text!r} is neither {', '.join(_ESTIMATED)}, the name of a published score, nor a file that ends in "
        f"{', '.join(_FILES)}{nearest(text, known)}"
    )


def _find(arguments: argparse.Namespace) -> _Found:
    if arguments.by in _ESTIMATED:
        return _estimated(arguments)
    if given := [f"--{name.replace('_', '-')}" for name in _OF_RUNS if getattr(arguments, name)]:
        what = "is a file" if isinstance(arguments.by, Path) else "is a published score"
        raise HeldoutError(f"{arguments.by} {what}; leave out {', '.join(given)}")
    if isinstance(arguments.by, Path):
        return _of_file(arguments.by, arguments.order)
    scores = load_published(arguments.by)
    assert isinstance(scores, Scores)
    dataset = find_published(arguments.by).dataset
    return scores, arguments.order or "original", find_facts(dataset, "train", len(scores.scores)), dataset


def _of_file(path: Path, order: Order | None) -> _Found:
    scores = load_scores(path)
    said = scores.order or order
    if said is None:
        raise HeldoutError(f"{path}: does not say how it counts examples; give --order original or published")
    if order not in (None, said):
        raise HeldoutError(f"{path}: counts examples in {said} order, and only such indices can be made of it")
    return scores, said, ExampleFacts(len(scores.scores)), None


def _estimated(arguments: argparse.Namespace) -> _Found:
    if arguments.zoo is None:
        raise HeldoutError(f"{arguments.by} is estimated from runs; give ZOO")
    tables, (train, _) = statistic_tables(arguments)
    if arguments.by == "memorization" and len(tables) != 1:
        listed = ", ".join(map(repr, sorted(tables)))
        raise HeldoutError(f"memorization is for one subset ratio; give --subset-ratio, one of {listed}")
    order: Order = arguments.order or "original"
    if order == "original" and train.original_index is None:
        raise HeldoutError("the order of the data set's own files is not known; give --data, or --order published")
    table = next(iter(tables.values()))
    if arguments.by == "memorization":
        scores = memorization_scores(table, train, empty_means(arguments))
    else:
        scores = consistency_scores(tables, train, empty_means(arguments))
    dataset = open_zoo(arguments.zoo).experiment(table.keys[0].partition("/")[0]).dataset
    return scores_for_file(scores, train), order, train, dataset
