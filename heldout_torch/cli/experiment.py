"""`heldout experiment`: from training to statistics in one command."""

import argparse

import numpy as np

from heldout_torch.cli import options
from heldout_torch.cli.output import say, summarize
from heldout_torch.cli.parser import Parser
from heldout_torch.cli.tables import Facts, check_estimates, find_chosen, read_tables, unscored
from heldout_torch.cli.train import add_training_options, train, what_to_train
from heldout_torch.errors import HeldoutError, counted
from heldout_torch.stats import (
    InfluencePairs,
    Scores,
    consistency_scores,
    facts_of,
    influence_pairs,
    memorization_scores,
    write_pairs,
    write_scores,
)
from heldout_torch.stats.summary import pairs_for_file, scores_for_file
from heldout_torch.storage.paths import is_remote, local_path
from heldout_torch.zoo.open import open_zoo

_NAMED = 5


def configure(parser: Parser) -> None:
    """Add what the verb takes to its parser."""
    parser.description = (
        "Train the runs that the zoo lacks. Then write memorization-R.npz and pairs-R.npz for each subset ratio R, and "
        "cscores.npz: the same files as `heldout stats` writes, in the order of the data set's own files."
    )
    add_training_options(parser)
    parser.add_argument(
        "--out",
        type=options.folder_to_write,
        metavar="DIR",
        help="folder for the statistics, default: ZOO/EXPERIMENT/statistics; required if ZOO is a URL",
    )
    parser.set_defaults(run_verb=_experiment, table=None)


def _experiment(arguments: argparse.Namespace) -> int:
    if arguments.out is None and is_remote(arguments.zoo):
        raise HeldoutError(f"{arguments.zoo} is a URL, but statistics are written into a folder; give --out DIR")
    if arguments.subset is not None:
        raise HeldoutError(
            "runs that all train on one given subset say nothing of memorization and influence: use heldout train"
        )
    dataset, works = what_to_train(arguments)
    name = works[0].experiment.name
    out = arguments.out or local_path(arguments.zoo) / name / "statistics"
    failed = train(arguments, dataset, works)
    facts = facts_of(dataset, "train"), facts_of(dataset, "test")
    zoo = open_zoo(arguments.zoo)
    chosen = find_chosen(zoo, name, zoo.keys(name), [work.subset_ratio for work in works])  # all runs that are there
    tables = read_tables(arguments, zoo, chosen, facts)
    missing = {}
    for ratio, table in tables.items():
        missing[ratio] = check_estimates(table)
        scores = memorization_scores(table, facts[0])
        pairs = influence_pairs(table, facts[0].labels, facts[1].labels)
        write_scores(out / f"memorization-{ratio!r}.npz", scores, facts[0])
        write_pairs(out / f"pairs-{ratio!r}.npz", pairs, *facts)
        if not arguments.quiet and not arguments.json:
            _tell_most(ratio, scores_for_file(scores, facts[0]), pairs, facts)
    write_scores(out / "cscores.npz", consistency_scores(tables, facts[0]), facts[0])
    some = "".join(f"{unscored(n, facts[0].size)} at {ratio!r}" for ratio, n in missing.items() if n)
    summarize(
        arguments, f"wrote memorization, pairs and C-scores to {out}{some}",
        ratios=list(tables), without_score=list(missing.values()), out=out,
    )  # fmt: skip
    return 1 if failed else 0


def _tell_most(ratio: float, scores: Scores, pairs: InfluencePairs, facts: Facts) -> None:
    """Say which examples are memorized most, and which pairs are the strongest, counted as in the files."""
    assert scores.labels is not None
    memorized = scores.scores >= np.float32(0.25)
    most = np.argsort(-np.nan_to_num(scores.scores, nan=-1), kind="stable")[:_NAMED]
    named = ", ".join(f"{i} (label {scores.labels[i]}): {scores.scores[i]:.2f}" for i in most)
    many = f"subset ratio {ratio!r}: {counted(memorized.sum(), 'example')} memorized at 0.25 or more"
    say(f"{many}, most, by {scores.order} index: {named}")
    first = pairs[:_NAMED]
    labels = facts[1].needed_labels("pairs")[first.test_index]
    first = pairs_for_file(first, *facts)
    named = ", ".join(
        f"train {i} on test {j} (label {label}): {influence:.2f}"
        for i, j, label, influence in zip(first.train_index, first.test_index, labels, first.influence, strict=True)
    )
    say(
        f"subset ratio {ratio!r}: {counted(len(pairs), 'pair')} of high influence"
        + (f", strongest, by {first.order} index: {named}" if named else "")
    )
