"""`heldout experiment`: from training to statistics in one command."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from heldout_torch.cli.output import say, summarize
from heldout_torch.cli.parser import Parser
from heldout_torch.cli.train import add_training_options, train, what_to_train
from heldout_torch.data import Dataset
from heldout_torch.errors import HeldoutError
from heldout_torch.stats import (
    ConsistencyScores,
    InfluencePairs,
    RunTable,
    Scores,
    consistency,
    influence_pairs,
    memorization,
    save_pairs,
    save_scores,
)
from heldout_torch.storage.paths import is_remote

_NAMED = 5


@dataclass(frozen=True, eq=False)
class Statistics:
    """What the runs of an experiment tell; all by published index.

    Attributes:
        memorization: By subset ratio, float32 of shape (n,), NaN for examples never trained on or never held out.
        pairs: By subset ratio, the pairs of high influence, as published by Feldman and Zhang.
        consistency: C-scores over all the ratios.
    """

    memorization: dict[float, np.ndarray]
    pairs: dict[float, InfluencePairs]
    consistency: ConsistencyScores


def configure(parser: Parser) -> None:
    """Add what the verb takes to its parser."""
    parser.description = (
        "Train what the zoo lacks, then write memorization-R.npz and pairs-R.npz for each subset ratio R, "
        "and cscores.npz, in the format of the published files; examples count by published index."
    )
    add_training_options(parser)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of the statistics, default: statistics beside the runs; needed if the zoo is a URL",
    )
    parser.set_defaults(run_verb=_experiment)


def statistics(
    zoo: str | Path,
    experiment: str,
    subset_ratios: Sequence[float],
    dataset: Dataset,
    runs: Sequence[int] | None = None,
) -> Statistics:
    """Count over the runs of an experiment.

    Args:
        zoo: Folder or URL of the zoo.
        experiment: Its name there.
        subset_ratios: At least one.
        dataset: The experiment's, for the labels.
        runs: Only these; by default all that the zoo has.

    Raises:
        HeldoutError: If runs are missing, or there are fewer than two.
    """
    labels = dataset.labels("train").numpy(), dataset.labels("test").numpy()
    tables = {ratio: RunTable.from_zoo(zoo, experiment, ratio, runs) for ratio in subset_ratios}
    return Statistics(
        memorization={ratio: memorization(table) for ratio, table in tables.items()},
        pairs={ratio: influence_pairs(table, *labels) for ratio, table in tables.items()},
        consistency=consistency(tables),
    )


def write_statistics(found: Statistics, dataset: Dataset, out: Path) -> None:
    """Write `memorization-R.npz` and `pairs-R.npz` for each subset ratio R, and `cscores.npz`.

    Raises:
        HeldoutError: If the folder cannot be written.
    """
    labels = dataset.labels("train").numpy()
    try:
        for ratio, estimate in found.memorization.items():
            save_scores(out / f"memorization-{ratio!r}.npz", Scores(estimate, labels))
            save_pairs(out / f"pairs-{ratio!r}.npz", found.pairs[ratio])
        scores = found.consistency
        save_scores(out / "cscores.npz", Scores(scores.scores, labels, standard_error=scores.standard_error))
    except OSError as error:
        raise HeldoutError(f"{error.filename or out}: cannot be written ({error.strerror})") from None


def _experiment(arguments: argparse.Namespace) -> int:
    if arguments.out is None and is_remote(arguments.zoo):
        raise HeldoutError(f"{arguments.zoo} is a URL, and statistics are written into a folder: give --out DIR")
    failed = train(arguments)
    dataset, works = what_to_train(arguments)
    name = works[0].experiment.name
    found = statistics(arguments.zoo, name, [work.subset_ratio for work in works], dataset)
    out = arguments.out or Path(arguments.zoo) / name / "statistics"
    write_statistics(found, dataset, out)
    for line in _summary(found, dataset):
        say(line)
    summarize(arguments, f"wrote memorization, pairs and C-scores to {out}", ratios=list(found.memorization), out=out)
    return 1 if failed else 0


def _summary(found: Statistics, dataset: Dataset) -> Iterator[str]:
    train, test = dataset.labels("train").numpy(), dataset.labels("test").numpy()
    for ratio, scores in found.memorization.items():
        pairs = found.pairs[ratio]
        most = np.argsort(-np.nan_to_num(scores, nan=-1), kind="stable")[:_NAMED]
        named = ", ".join(f"{i} (label {train[i]}): {scores[i]:.2f}" for i in most)
        yield f"subset ratio {ratio!r}: {(scores >= 0.25).sum()} examples memorized (0.25 or more), most: {named}"
        named = ", ".join(
            f"train {i} on test {j} (label {test[j]}): {influence:.2f}"
            for i, j, influence in zip(pairs.train_index, pairs.test_index, pairs.influence[:_NAMED], strict=False)
        )
        yield f"subset ratio {ratio!r}: {len(pairs)} pairs of high influence" + (
            f", strongest: {named}" if named else ""
        )
